//! Holds a service's processes together, so that all of them can be found and ended.
//!
//! Where cgroup v2 can be written to, the service has a cgroup of its own, and no fork and no
//! `setsid` leaves it. Elsewhere its processes are known by descent and by a mark in their
//! environment. The shim is their subreaper, so that orphans become its children and not those of
//! process 1; the mark finds those whose shim was killed. Numbers of dead processes are never
//! trusted: the kernel gives them to others.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Signal, kill_process};

use super::identity::{Stat, to_pid};
use super::message::Containment;

/// Levels of cgroups below the service's own that are searched, and cgroups in all. Deeper ones
/// exist only where somebody wants to be missed.
const CGROUP_DEPTH_MAX: usize = 8;

/// Generations of parents that are followed from a process; a bound against a `/proc` that changes
/// while it is read.
const ANCESTORS_MAX: usize = 64;

/// The cgroup, right below the root, that has those of all services of this host.
const APART: &str = "baton";

/// The name of the mark. Its value is the shim's directory.
pub(super) const MARK: &str = "BATON_SHIM";

/// The processes of one service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family<'a> {
    /// The shim's directory, which marks them.
    pub dir: &'a Path,
    /// The first process, while it is known to live.
    pub first: Option<u32>,
}

impl Containment {
    /// A cgroup for the service of the directory `dir`, or the process tree with the reason why.
    /// The shim moves itself to a leaf beside the service's.
    pub(super) fn set_up(dir: &Path) -> Self {
        match create_cgroup(dir) {
            Ok(service) => Self::Cgroup(service),
            Err(because) => Self::ProcessTree { because },
        }
    }

    /// Makes the service's cgroup again if somebody has tidied it away while it was empty, as
    /// systemd does below a unit that it stops.
    pub(super) fn renew(&mut self) {
        let Self::Cgroup(service) = self else { return };
        if let Err(error) = fs::create_dir_all(&*service) {
            let because = format!("{}: {error}", service.display());
            eprintln!("shim: the cgroup is gone: {because}");
            *self = Self::ProcessTree { because };
        }
    }

    /// Where a process writes `0` to enter.
    pub(super) fn entrance(&self) -> Option<PathBuf> {
        match self {
            Self::Cgroup(dir) => Some(dir.join("cgroup.procs")),
            Self::ProcessTree { .. } => None,
        }
    }

    /// All living processes of the service.
    pub(super) fn members(&self, family: Family<'_>) -> Vec<u32> {
        match self {
            Self::Cgroup(dir) => {
                let mut found = Vec::new();
                cgroup_members(dir, CGROUP_DEPTH_MAX, &mut found);
                found
            }
            Self::ProcessTree { .. } => tree_members(family, std::process::id()),
        }
    }

    /// Sends `signal` to every process of the service.
    pub(super) fn signal_all(&self, family: Family<'_>, signal: Signal) {
        for pid in self.members(family).into_iter().filter_map(to_pid) {
            // Gone meanwhile is as good as signalled; the caller looks again anyway.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills every process of the service, those that fork meanwhile too.
    pub(super) fn kill_all(&self, family: Family<'_>) {
        if let Self::Cgroup(dir) = self
            && fs::write(dir.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        self.signal_all(family, Signal::KILL);
    }

    /// Takes away the cgroups that [`Self::set_up`] made, the shim having left them.
    pub(super) fn take_down(&self) {
        let Self::Cgroup(service) = self else { return };
        let Some(base) = service.parent() else { return };
        let Some(outside) = base.parent() else { return };
        let left = fs::write(outside.join("cgroup.procs"), "0");
        let removed = left
            .and_then(|()| fs::remove_dir(service))
            .and_then(|()| fs::remove_dir(base.join("shim")))
            .and_then(|()| fs::remove_dir(base));
        if let Err(error) = removed {
            eprintln!("shim: cgroup {} stays: {error}", base.display());
        }
        if outside.ends_with(APART) {
            let _ = fs::remove_dir(outside); // if it was the last
        }
    }
}

/// The cgroup is made outside of the daemon's, which may be killed as a whole, by a service manager or for
/// want of memory; and below it where nothing else may be written to.
fn create_cgroup(dir: &Path) -> Result<PathBuf, String> {
    let (mount, own) = own_cgroup()?;
    let name = blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex();
    let name = name.get(..16).unwrap_or_default();
    let apart = mount.join(APART);
    tidy(&apart);
    enter_cgroup(&apart.join(name))
        // Another shim may have taken it for one that nobody is left in.
        .or_else(|_| enter_cgroup(&apart.join(name)))
        .or_else(|_| enter_cgroup(&own.join(format!("{APART}-{name}"))))
}

/// Puts this shim into a leaf of the cgroup `base`, and gives the leaf for the service.
fn enter_cgroup(base: &Path) -> Result<PathBuf, String> {
    let (shim, service) = (base.join("shim"), base.join("service"));
    let said = |what: &Path| {
        let what = what.to_owned();
        move |error: io::Error| format!("{}: {error}", what.display())
    };
    for leaf in [&shim, &service] {
        fs::create_dir_all(leaf).map_err(said(leaf))?;
    }
    let entrance = shim.join("cgroup.procs");
    fs::write(&entrance, "0").map_err(said(&entrance))?;
    Ok(service)
}

/// Takes away the cgroups of services and shims that were killed and are all gone.
fn tidy(apart: &Path) {
    let Ok(entries) = fs::read_dir(apart) else { return };
    for base in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let events = fs::read_to_string(base.join("cgroup.events")).unwrap_or_default();
        if events.lines().any(|line| line == "populated 0") {
            for part in ["service", "shim", ""] {
                let _ = fs::remove_dir(base.join(part)); // refused where somebody has come meanwhile
            }
        }
    }
}

/// Where cgroup2 is mounted, and the directory of the cgroup that this process is in.
fn own_cgroup() -> Result<(PathBuf, PathBuf), String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mounts = read("/proc/self/mountinfo")?;
    let (root, mount) = cgroup2_mount(&mounts).ok_or("no cgroup2 is mounted")?;
    let own = read("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    let own = Path::new(own.ok_or("this process is in no cgroup2")?);
    let inside = own.strip_prefix(&root).map_err(|_| "the own cgroup lies outside of the mount")?;
    let own = mount.join(inside);
    Ok((mount, own))
}

/// The root and the mount point of the first cgroup2 in a mountinfo (proc(5)): fields 4 and 5; the
/// type of the file system is the first field after ` - `.
fn cgroup2_mount(mountinfo: &str) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        (kind.split(' ').next()? == "cgroup2").then_some(())?;
        let mut fields = place.split(' ').skip(3);
        Some((fields.next()?.into(), fields.next()?.into()))
    })
}

fn cgroup_members(dir: &Path, depth: usize, found: &mut Vec<u32>) {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    found.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
    let Some(depth) = depth.checked_sub(1) else { return };
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        cgroup_members(&entry.path(), depth, found);
    }
}

/// Every living process that descends from `shim` or from the first process, or bears the mark.
fn tree_members(family: Family<'_>, shim: u32) -> Vec<u32> {
    let all = all_processes();
    let mark = format!("{MARK}={}", family.dir.display());
    let belongs = |pid: u32| {
        pid != shim && (descends(&all, pid, &[Some(shim), family.first]) || bears(pid, &mark))
    };
    let living = all.iter().filter(|(_, stat)| !stat.has_ended()).map(|(pid, _)| *pid);
    living.filter(|pid| belongs(*pid)).collect()
}

fn descends(all: &BTreeMap<u32, Stat>, pid: u32, from: &[Option<u32>]) -> bool {
    let parents = std::iter::successors(Some(pid), |pid| all.get(pid).map(|stat| stat.parent));
    parents.take(ANCESTORS_MAX).any(|ancestor| from.contains(&Some(ancestor)))
}

/// Whether the process was started with the mark. What cannot be read is another user's.
fn bears(pid: u32, mark: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
}

fn all_processes() -> BTreeMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, Stat::of(pid).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_on_hybrid_and_plain_hosts() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(hybrid), Some(("/".into(), "/sys/fs/cgroup/unified".into())));
        let plain = "30 23 0:26 /a /sys/fs/cgroup rw - cgroup2 cgroup rw";
        assert_eq!(cgroup2_mount(plain), Some(("/a".into(), "/sys/fs/cgroup".into())));
        assert_eq!(cgroup2_mount("1 2 0:3 / / rw - ext4 /dev/x rw"), None);
    }

    fn sleeping(mark: Option<&Path>) -> std::process::Child {
        let mut command = std::process::Command::new("sleep");
        command.env_clear().envs(mark.map(|dir| (MARK, dir))).arg("60").spawn().unwrap()
    }

    #[test]
    fn descent_and_mark_make_a_member_and_nothing_else_does() {
        let dir = Path::new("/nowhere/this test");
        let (mut marked, mut plain) = (sleeping(Some(dir)), sleeping(None));
        let me = std::process::id();
        let stranger = tree_members(Family { dir, first: None }, u32::MAX);
        let child = tree_members(Family { dir, first: Some(plain.id()) }, u32::MAX);
        let descended = tree_members(Family { dir, first: None }, me);
        for child in [&mut marked, &mut plain] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(stranger, [marked.id()]);
        assert!(child.contains(&plain.id()));
        assert!(descended.contains(&plain.id()) && !descended.contains(&me));
        assert!(tree_members(Family { dir, first: None }, u32::MAX).is_empty());
    }
}
