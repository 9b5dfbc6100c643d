//! What is printed: text for people, JSON for scripts.

use clap::ValueEnum;
use serde::Serialize;

/// In which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON value, with a stable schema.
    Json,
}

/// Prints `value` as JSON, or what `text` makes of it.
pub fn show<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T) -> String) {
    match format {
        Format::Json => print_line(&serde_json::to_string(value).unwrap_or_default()),
        Format::Text => print_line(text(value).trim_end()),
    }
}

/// Tells that something was done: in words, or as JSON.
pub fn done(format: Format, what: serde_json::Value, words: &str) {
    show(format, &what, |_| words.to_owned());
}

/// One line on standard output. A reader that has gone away is no reason to panic.
pub fn print_line(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Columns, each as wide as its widest cell.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// Bytes, for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0);
    format!("{value:.digits$} {}", UNITS.get(unit).unwrap_or(&"B"))
}

/// What is there, or a dash.
pub fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// What there is, or a dash.
pub fn dash_or(values: &[String]) -> String {
    if values.is_empty() { "-".to_owned() } else { values.join(" ") }
}

/// Yes or no.
pub fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows =
            vec![vec!["a".to_owned(), "bcd".to_owned()], vec!["efgh".to_owned(), "i".to_owned()]];
        assert_eq!(table(&["X", "Y"], &rows), "X     Y\na     bcd\nefgh  i");
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(5 << 30)],
            ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
        );
    }
}
