//! Small helpers for texts that people write.

/// Words longer than this are compared with nothing: the work grows with the square.
const WORD_BYTES_MAX: usize = 64;

/// The known word that `word` most likely means, if one is near enough to be worth naming.
///
/// Near is an edit distance (Levenshtein) of at most a third of the word's letters, and 1 at least.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let best = known.iter().map(|known| (distance(word, known), *known)).min()?;
    let near = (word.chars().count() / 3).max(1);
    (best.0 <= near).then_some(best.1)
}

/// Wagner and Fischer's table, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut above_left = i;
        for (cell, b) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = above_left + usize::from(a != b);
            above_left = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_others_none() {
        let known = ["data_dir", "listen", "token", "token_file"];
        assert_eq!(nearest("data-dir", &known), Some("data_dir"));
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("tokenfile", &known), Some("token_file"));
        assert_eq!(nearest("replicas", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"x".repeat(10_000), &known), None);
    }

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("a", "a", 0)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
