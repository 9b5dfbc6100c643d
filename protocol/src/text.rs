//! Small helpers for texts that people write.

/// Words longer than this are compared with nothing: the work grows with the square.
const WORD_BYTES_MAX: usize = 64;

/// The known word that `word` most likely means, if one is near enough to be worth naming.
///
/// Near is an edit distance (Damerau and Levenshtein: two letters swapped are one slip) of at most a
/// third of the word's letters, and 1 at least.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let best =
        known.iter().map(|known| (strsim::damerau_levenshtein(word, known), *known)).min()?;
    let near = (word.chars().count() / 3).max(1);
    (best.0 <= near).then_some(best.1)
}

/// `text`, cut at a character's boundary where it has more than `bytes_max` bytes.
pub fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_characters() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("größer", 3), "gr");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn slips_find_their_word_and_others_none() {
        let known = ["data_dir", "listen", "token", "token_file"];
        assert_eq!(nearest("data-dir", &known), Some("data_dir"));
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("tokenfile", &known), Some("token_file"));
        assert_eq!(nearest("toekn", &known), Some("token"));
        assert_eq!(nearest("replicas", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"x".repeat(10_000), &known), None);
    }
}
