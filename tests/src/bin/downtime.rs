//! `downtime FILE`: the most ports down at once, by a prober's log alone. It counts in its own way, by
//! intervals, and knows nothing of the project whose services were probed.
//!
//! Each line is a time in microseconds, a port, and `up` or `down`. It prints how often and for how
//! long each port was down, and last `most down at once: N`. A log that it cannot read is an error.

use std::collections::BTreeMap;
use std::process::ExitCode;

/// From when a port was down, and until when; one that never came back has no end.
struct Downtime {
    port: u16,
    from: u64,
    until: Option<u64>,
}

impl Downtime {
    fn covers(&self, moment: u64) -> bool {
        self.from <= moment && self.until.is_none_or(|until| moment < until)
    }
}

/// The downtimes of each port that the log names, most of which may have none.
fn read(log: &str) -> Result<(Vec<u16>, Vec<Downtime>), String> {
    let (mut ports, mut ended) = (Vec::new(), Vec::new());
    let mut open: BTreeMap<u16, u64> = BTreeMap::new();
    for line in log.lines() {
        let bad = || format!("no line of a prober's log: {line:?}");
        let words: Vec<_> = line.split_whitespace().collect();
        let [at, port, state] = words[..] else { return Err(bad()) };
        let (at, port) = (at.parse().map_err(|_| bad())?, port.parse().map_err(|_| bad())?);
        if !ports.contains(&port) {
            ports.push(port);
        }
        match state {
            "down" => {
                open.entry(port).or_insert(at);
            }
            "up" => {
                let from = open.remove(&port);
                ended.extend(from.map(|from| Downtime { port, from, until: Some(at) }));
            }
            _ => return Err(bad()),
        }
    }
    let never_back = open.into_iter().map(|(port, from)| Downtime { port, from, until: None });
    ended.extend(never_back);
    Ok((ports, ended))
}

/// The number of downtimes that cover the same moment is greatest where one of them begins.
fn most_down(downtimes: &[Downtime]) -> usize {
    let at_once = |moment| downtimes.iter().filter(|it| it.covers(moment)).count();
    downtimes.iter().map(|it| at_once(it.from)).max().unwrap_or(0)
}

fn tell(log: &str) -> Result<(), String> {
    let (ports, downtimes) = read(log)?;
    for port in ports {
        let of_port: Vec<_> = downtimes.iter().filter(|it| it.port == port).collect();
        let lasted = |it: &&Downtime| it.until.map(|until| until - it.from);
        let total = of_port.iter().filter_map(lasted).sum::<u64>() / 1000;
        let back = if of_port.iter().any(|it| it.until.is_none()) { ", and is still" } else { "" };
        println!("{port}: down {} times, {total} ms in all{back}", of_port.len());
    }
    println!("most down at once: {}", most_down(&downtimes));
    Ok(())
}

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: downtime FILE");
        return ExitCode::from(2);
    };
    let read = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"));
    match read.and_then(|log| tell(&log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("downtime: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(log: &str) -> usize {
        most_down(&read(log).unwrap().1)
    }

    #[test]
    fn downtimes_that_meet_are_counted_together() {
        assert_eq!(most("0 1 up\n0 2 up\n5 1 down\n9 1 up\n9 2 down\n12 2 up\n"), 1);
        assert_eq!(most("5 1 down\n8 2 down\n9 1 up\n12 2 up\n"), 2);
        assert_eq!(most("5 1 down\n100 2 down\n101 3 down\n102 3 up\n"), 3, "1 never came back");
        assert_eq!(most("0 1 up\n"), 0);
    }

    #[test]
    fn what_is_no_log_is_an_error() {
        assert!(read("5 1 sideways\n").is_err());
        assert!(read("five 1 up\n").is_err());
        assert!(read("5 1\n").is_err());
    }
}
