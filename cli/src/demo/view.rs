//! What a person sees while the demo runs: a live picture on a terminal, plain lines off it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::load::Count;
use super::tally::Tally;
use crate::output::Format;

/// How often a line tells how far it is, off a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Services in a row of the picture.
const ROW: usize = 10;

/// The demo's voice.
pub struct View {
    bar: Option<ProgressBar>,
    output: Format,
    begun: Instant,
    last_line: Instant,
}

impl View {
    /// A picture on a terminal, plain lines off it. With JSON on standard output all else goes to
    /// standard error.
    pub fn new(output: Format) -> Self {
        let now = Instant::now();
        let plain = output == Format::Text && !std::io::stdout().is_terminal();
        let bar = (!plain && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(200));
            match ProgressStyle::with_template("{spinner} {msg}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self { bar, output, begun: now, last_line: now }
    }

    /// Tells a step.
    pub fn say(&self, text: &str) {
        let line = format!("{:6.1}s  {text}", self.begun.elapsed().as_secs_f64());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => self.tell(&line),
        }
    }

    /// Prints a line as it is.
    pub fn tell(&self, line: &str) {
        match self.output {
            Format::Text => println!("{line}"),
            Format::Json => eprintln!("{line}"),
        }
    }

    /// Shows how the services are.
    pub fn show(&mut self, tally: &Tally, count: &Count) {
        let flow = format!("{} requests, {} failed", count.sent(), count.failed());
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{flow}, {} down\n{}", tally.down(), picture(tally)));
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            self.say(&format!("{}; {} down; {flow}", versions(tally), tally.down()));
        }
    }

    /// Removes the picture, so that plain text can follow.
    pub fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn picture(tally: &Tally) -> String {
    let mut text = String::new();
    for (n, port) in tally.ports().iter().enumerate() {
        let state = if port.is_up() { port.version() } else { "--" };
        let end = if (n + 1) % ROW == 0 { "\n" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "  n{:<3}{state:<4}{end}", n + 1);
    }
    text
}

/// How many services run which version.
pub fn versions(tally: &Tally) -> String {
    let mut names: Vec<_> = tally.ports().iter().filter(|port| port.is_up()).collect();
    names.sort_by_key(|port| port.version());
    names.dedup_by_key(|port| port.version().to_owned());
    let texts =
        names.iter().map(|port| format!("{} on {}", tally.on(port.version()), port.version()));
    let texts: Vec<_> = texts.collect();
    if texts.is_empty() { "none up".to_owned() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Seen;
    use super::*;

    #[test]
    fn versions_are_counted_among_those_up() {
        let mut tally = Tally::new(4);
        assert_eq!(versions(&tally), "none up");
        for (n, version) in ["v1", "v2", "v1", "v1"].into_iter().enumerate() {
            tally.note(n, Seen::Ready(version.into()), Instant::now());
        }
        tally.note(3, Seen::Not("refused".into()), Instant::now());
        assert_eq!(versions(&tally), "2 on v1, 1 on v2");
        assert_eq!(picture(&tally).matches("--").count(), 1);
    }
}
