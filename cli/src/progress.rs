//! Bars on a terminal. Off it there are none, and lines tell instead.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Format;

/// A bar on standard error; `None` where nobody would see it.
pub fn bar(format: Format) -> Option<ProgressBar> {
    let live = format == Format::Text && std::io::stderr().is_terminal();
    live.then(|| {
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} {wide_msg}");
        ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    })
}
