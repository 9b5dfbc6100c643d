//! Keys of the files that people write: one that is not known is an error that names the nearest
//! known one, as a misspelt key that is ignored is a setting that silently does not hold.

/// A key that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown key \"{key}\"{}", self.hint())]
pub struct UnknownKey {
    /// The key with the sections that it is in, `ready.htpp`.
    pub key: String,
    /// The known key that it looks most like, in the same section.
    pub nearest: Option<String>,
}

impl UnknownKey {
    fn hint(&self) -> String {
        self.nearest.as_ref().map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default()
    }
}

/// The known word that `word` was most likely meant to be, if one is near enough.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    let best = known.iter().copied().min_by_key(|candidate| distance(candidate))?;
    // A third of the letters may be wrong: more, and the hint would be a guess.
    (distance(best) <= word.len().max(best.len()).div_ceil(3)).then_some(best)
}

/// Refuses the first key of `table` that is not among `known`. `section` is the dotted name of the
/// table, empty for the file itself.
///
/// # Errors
/// See [`UnknownKey`].
pub fn check(table: &toml::Table, section: &str, known: &[&str]) -> Result<(), UnknownKey> {
    let dotted =
        |key: &str| if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(UnknownKey { key: dotted(key), nearest: nearest(key, known).map(dotted) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_named_with_the_one_that_was_meant() {
        let table: toml::Table = "intervall = 1".parse().unwrap();
        let error = check(&table, "ready", &["http", "interval"]).unwrap_err();
        let said = "unknown key \"ready.intervall\"; did you mean \"ready.interval\"?";
        assert_eq!(error.to_string(), said);
        assert_eq!(check(&table, "", &["intervall"]), Ok(()));
    }

    #[test]
    fn a_key_like_no_other_gets_no_guess() {
        let known = ["http", "tcp", "command"];
        assert_eq!(nearest("comand", &known), Some("command"));
        assert_eq!(nearest("htpp", &known), Some("http"));
        assert_eq!(nearest("deadline", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
