//! Spans of time as people write them: `500ms`, `10s`, `5m`, `2h`, `1d`.

use core::time::Duration;

/// A text that is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no duration: write a whole number and a unit, such as 500ms, 10s, 5m, 2h or 1d"
)]
pub struct DurationError(pub String);

/// The span of time that `text` names.
///
/// # Errors
/// It has no unit or an unknown one, or is no whole number.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    parsed(text.trim()).ok_or_else(|| DurationError(text.to_owned()))
}

fn parsed(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit.trim_start() {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_come_from_text() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse(" 10 s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "10", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999999s", "ſs"] {
            assert_eq!(parse(bad), Err(DurationError(bad.to_owned())));
        }
        assert!(parse(&format!("{}d", u64::MAX)).is_err());
    }
}
