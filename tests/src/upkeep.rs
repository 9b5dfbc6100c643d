//! What processes hold on to: memory, descriptors, files.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

/// `USER_HZ`, in which `/proc` counts: the same on every machine that Linux has today.
const TICKS_PER_SECOND: u32 = 100;

/// What one process holds, by `/proc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Held {
    /// By a process now; nothing where it has ended.
    pub fn by(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib = resident.split_whitespace().next()?.parse().ok()?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Self { resident_kib, descriptors })
    }

    /// What it holds more than `before` without a reason: beyond half as much memory again, and a few
    /// connections of its peers.
    pub fn has_grown(&self, before: &Self) -> bool {
        const DESCRIPTORS_SLACK: u64 = 10;
        self.resident_kib > before.resident_kib * 3 / 2
            || self.descriptors > before.descriptors + DESCRIPTORS_SLACK
    }
}

/// The processor time that a process has used, in user and kernel mode together.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which is in parentheses and may hold anything: fields 14 and 15 (proc(5)).
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut ticks = rest.split(' ').skip(11);
    let both = ticks.next()?.parse::<u64>().ok()? + ticks.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs(both) / TICKS_PER_SECOND)
}

/// Files in a directory and all below it.
pub fn files_in(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let below = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_in(&entry.path()),
        _ => 1,
    };
    entries.flatten().map(below).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_something_and_uses_time() {
        let held = Held::by(std::process::id()).unwrap();
        assert!(held.resident_kib > 500 && held.descriptors >= 3, "{held:?}");
        assert!(!held.has_grown(&held));
        let more = Held { descriptors: held.descriptors + 11, ..held };
        assert!(more.has_grown(&held));
        assert!(processor_time(std::process::id()).is_some());
        assert_eq!(Held::by(u32::MAX), None);
    }
}
