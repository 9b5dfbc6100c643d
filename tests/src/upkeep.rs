//! What processes hold on to: memory, descriptors, files.

use std::path::Path;

use serde::Serialize;

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

/// Hundredths of a second of processor time that a process has used.
pub fn processor_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which is in parentheses and may hold anything: fields 14 and 15 (proc(5)).
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut times = rest.split(' ').skip(11);
    Some(times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?)
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
        assert!(processor_ticks(std::process::id()).is_some());
        assert_eq!(Held::by(u32::MAX), None);
    }
}
