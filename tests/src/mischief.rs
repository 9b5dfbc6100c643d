//! What a soak does to a mesh in the middle of a rollout.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::mesh::Mesh;
use crate::prober::{Change, probe};
use crate::processes::{Part, Process};

/// One deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Deed {
    /// Kills the daemon of a node that holds a permit.
    KillHolder,
    /// Kills the daemon of the node that leads.
    KillCoordinator,
    /// Kills the daemon of any node.
    KillDaemon,
    /// Kills the shim of any node.
    KillShim,
    /// Kills the service of any node.
    KillService,
    /// Stops the daemon of any node for a while.
    Freeze,
}

/// All of them.
pub const DEEDS: [Deed; 6] = [
    Deed::KillHolder,
    Deed::KillCoordinator,
    Deed::KillDaemon,
    Deed::KillShim,
    Deed::KillService,
    Deed::Freeze,
];

/// What was done to whom.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The deed.
    pub deed: Deed,
    /// The place of the node.
    pub victim: usize,
    /// When.
    pub at: Instant,
    /// Whether it took down a service that was up: that is not the mesh's doing.
    pub took_down: bool,
}

/// Does it, and undoes after `pause` what does not mend by itself. `any` is the node that is meant where
/// the deed names none.
///
/// The last node's daemon is stopped where it would be killed: it is to live through it all, so that what
/// it gathers can be seen.
pub fn perform(mesh: &mut Mesh, deed: Deed, any: usize, pause: Duration) -> Done {
    let victim = match deed {
        Deed::KillHolder => holder(mesh).unwrap_or(any),
        Deed::KillCoordinator => mesh.leader(),
        _ => any,
    };
    let was_up = probe(mesh.nodes[victim].service_port).is_some();
    let at = Instant::now();
    let kill = |mesh: &Mesh, part| {
        let of_part = mesh.processes(victim).into_iter().filter(|it| it.part == part);
        of_part.for_each(Process::kill);
    };
    match deed {
        Deed::KillShim => kill(mesh, Part::Shim),
        Deed::KillService => kill(mesh, Part::Service),
        Deed::KillHolder | Deed::KillCoordinator | Deed::KillDaemon
            if victim + 1 < mesh.nodes.len() =>
        {
            mesh.kill(victim);
            std::thread::sleep(pause);
            mesh.up(victim);
        }
        _ => {
            mesh.freeze(victim);
            std::thread::sleep(pause);
            mesh.thaw(victim);
        }
    }
    let took_down = was_up && matches!(deed, Deed::KillShim | Deed::KillService);
    Done { deed, victim, at, took_down }
}

/// A node that holds a permit just now.
fn holder(mesh: &Mesh) -> Option<usize> {
    let permits = mesh.json(0, "permits")?;
    let name = permits.as_array()?.first()?["node"].as_str()?;
    mesh.nodes.iter().position(|node| node.name == name)
}

/// How long the mesh may take to act on a service that the soak took down: evidence is good for 3 s, and
/// who began on it before may take a while to drain and stop.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// The most services down at once by the mesh's own doing. A service that the soak took down counts
/// once the mesh must know of it, whenever another one goes down, as the cap holds with it; and until
/// then, and as long as no other goes, not at all.
pub fn most_down(changes: &[Change], done: &Done) -> usize {
    let mut down = BTreeSet::new();
    let (mut most, mut owed, mut excused) = (0, done.took_down, false);
    for change in changes {
        // A probe that was under way may be what sees it.
        let of_victim = change.port == done.victim && change.seen >= done.at;
        if change.up {
            down.remove(&change.port);
            excused &= !of_victim;
            continue;
        }
        if of_victim && owed {
            (owed, excused) = (false, true);
        }
        down.insert(change.port);
        let is_known = !of_victim && change.at > done.at + KNOWN_WITHIN;
        most = most.max(down.len() - usize::from(excused && !is_known));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(took_down: bool, changes: &[(u64, usize, bool)]) -> usize {
        let begun = Instant::now();
        let at = begun + Duration::from_secs(100);
        let done = Done { deed: Deed::KillService, victim: 0, at, took_down };
        let change = |(after, port, up): &(u64, usize, bool)| Change {
            at: begun + Duration::from_secs(*after),
            seen: begun + Duration::from_secs(*after),
            port: *port,
            up: *up,
        };
        most_down(&changes.iter().map(change).collect::<Vec<_>>(), &done)
    }

    #[test]
    fn what_the_soak_took_down_counts_once_the_mesh_must_know_it() {
        let soon = [(101, 0, false), (102, 1, false)];
        assert_eq!((judge(true, &soon), judge(false, &soon)), (1, 2));
        assert_eq!(judge(true, &[(101, 0, false), (120, 1, false)]), 2, "one more goes down");
        assert_eq!(judge(true, &[(101, 0, false), (105, 0, true), (120, 1, false)]), 1);
        let again = [(101, 0, false), (105, 0, true), (106, 0, false), (107, 1, false)];
        assert_eq!(judge(true, &again), 2, "the second time it is not the soak's doing");
        assert_eq!(judge(true, &[(50, 0, false), (51, 1, false)]), 2, "before the deed");
    }

    #[test]
    fn a_probe_that_was_under_way_at_the_deed_sees_its_doing_and_one_that_was_over_does_not() {
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        let done = Done { deed: Deed::KillService, victim: 0, at: after(100), took_down: true };
        let most = |seen| {
            let victim = Change { at: after(90), seen: after(seen), port: 0, up: false };
            let other = Change { at: after(200), seen: after(200), port: 1, up: false };
            most_down(&[victim, other], &done)
        };
        assert_eq!((most(110), most(99)), (1, 2));
    }
}
