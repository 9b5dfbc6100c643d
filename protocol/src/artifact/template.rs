//! `${name}` in the texts of a service definition. `$${` stands for `${` itself, for a shell say.

use std::collections::BTreeMap;

/// Why a text with `${name}` in it cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nothing gives the variable a value.
    #[error("no value for the variable \"{0}\"")]
    Missing(String),
    /// A `${` without a name and a `}` after it.
    #[error(
        "\"{0}\": a \"${{\" needs a name of a-z A-Z 0-9 _ - and a \"}}\"; write \"$${{\" for the sign itself"
    )]
    Malformed(String),
}

/// `text` with each `${name}` replaced by what `value` gives for the name.
pub(super) fn fill(
    text: &str,
    value: impl Fn(&str) -> Option<String>,
) -> Result<String, TemplateError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        if before.ends_with('$') {
            filled.push('{');
            rest = after;
            continue;
        }
        let (name, after) = name_of(after).ok_or_else(|| TemplateError::Malformed(text.into()))?;
        filled.push_str(&value(name).ok_or_else(|| TemplateError::Missing(name.into()))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// As [`fill`], from a table of values.
pub(super) fn fill_from(
    text: &str,
    values: &BTreeMap<String, String>,
) -> Result<String, TemplateError> {
    fill(text, |name| values.get(name).cloned())
}

fn name_of(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.split_once('}')?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!name.is_empty() && name.chars().all(allowed)).then_some((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, TemplateError> {
        fill_from(text, &[("port".to_owned(), "80".to_owned())].into())
    }

    #[test]
    fn names_are_replaced_and_doubled_signs_are_not() {
        assert_eq!(filled("a:${port}/${port}$"), Ok("a:80/80$".into()));
        assert_eq!(filled("sh -c 'echo $${HOME} $PATH'"), Ok("sh -c 'echo ${HOME} $PATH'".into()));
        assert_eq!(filled("${prot}"), Err(TemplateError::Missing("prot".into())));
        for bad in ["${", "${}", "${a b}", "x${port"] {
            assert_eq!(filled(bad), Err(TemplateError::Malformed(bad.into())));
        }
    }
}
