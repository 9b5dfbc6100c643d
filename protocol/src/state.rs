//! The replicated state at one place of the log, for all who are there.
//!
//! [`Fleet::apply`] is a pure function, so that who takes the same entry at the same state gets the
//! same one. A daemon has its state for itself and changes it in place; a simulator whose nodes all
//! begin with one state works each entry out once for all of them, and encodes each snapshot once.

use std::sync::{Arc, OnceLock};

use crate::codec;
use crate::consensus::Entry;
use crate::fleet::event::Event;
use crate::fleet::{Applied, Fleet};
use crate::id::ChunkHash;
use crate::membership::{Roster, RosterEntry};

/// The state at one place of the log.
#[derive(Debug, Default)]
pub struct State {
    fleet: Fleet,
    snapshot: OnceLock<Snapshot>,
    members: Members,
    next: OnceLock<Step>,
}

/// The members as membership goes by them, once somebody has asked.
#[derive(Clone, Debug, Default)]
struct Members {
    roster: OnceLock<Arc<Roster>>,
    /// The last ones before, which are often the same.
    before: Option<Arc<Roster>>,
}

impl Members {
    fn of(&self, fleet: &Fleet) -> &Arc<Roster> {
        self.roster.get_or_init(|| {
            let roster = roster_of(fleet);
            match &self.before {
                Some(before) if **before == roster => Arc::clone(before),
                _ => Arc::new(roster),
            }
        })
    }

    /// Those after an entry.
    fn after(&self, applied: &Applied) -> Self {
        let concerns =
            |event: &Event| matches!(event, Event::RosterChanged | Event::VoterAllotted(..));
        if !applied.outcome.iter().flatten().any(concerns) {
            return self.clone();
        }
        let before = self.roster.get().or(self.before.as_ref()).cloned();
        Self { roster: OnceLock::new(), before }
    }
}

fn roster_of(fleet: &Fleet) -> Roster {
    let entries = fleet.members().iter().map(|(node, member)| RosterEntry {
        node: *node,
        zone: member.zone.clone(),
        addresses: member.addresses.clone(),
        voter: fleet.votes(*node),
    });
    entries.collect()
}

/// A state in bytes, and their BLAKE3 hash.
pub type Snapshot = (ChunkHash, Arc<[u8]>);

/// From one state to the next.
#[derive(Clone, Debug)]
pub struct Step {
    /// The entry that was taken.
    pub entry: Arc<Entry>,
    /// What it changed.
    pub applied: Arc<Applied>,
    /// What is agreed on now.
    pub state: Arc<State>,
}

impl From<Fleet> for State {
    fn from(fleet: Fleet) -> Self {
        Self::with(fleet, Members::default())
    }
}

impl State {
    /// What has been agreed on.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The members, as membership goes by them.
    pub fn roster(&self) -> &Arc<Roster> {
        self.members.of(&self.fleet)
    }

    /// The state in bytes.
    pub fn snapshot(&self) -> &Snapshot {
        self.snapshot.get_or_init(|| {
            let bytes: Arc<[u8]> = codec::encode(&self.fleet).into();
            (ChunkHash(*blake3::hash(&bytes).as_bytes()), bytes)
        })
    }

    /// The step by `entry`, which must be the one that follows in the log.
    pub fn after(this: Arc<Self>, entry: Entry) -> Step {
        match Arc::try_unwrap(this) {
            Ok(mut own) => match own.next.take() {
                Some(next) if *next.entry == entry => next,
                _ => Self::take(core::mem::take(&mut own.fleet), &own.members, entry),
            },
            Err(shared) => {
                let take = || Self::take(shared.fleet.clone(), &shared.members, entry.clone());
                let next = shared.next.get_or_init(take);
                // Another entry may be there, though no consensus would have it so.
                if *next.entry == entry { next.clone() } else { take() }
            }
        }
    }

    fn take(mut fleet: Fleet, before: &Members, entry: Entry) -> Step {
        let applied = fleet.apply(fleet.applied().next(), &entry);
        let members = before.after(&applied);
        let state = Arc::new(Self::with(fleet, members));
        Step { entry: Arc::new(entry), applied: Arc::new(applied), state }
    }

    fn with(fleet: Fleet, members: Members) -> Self {
        Self { fleet, snapshot: OnceLock::new(), members, next: OnceLock::new() }
    }
}

/// Lets those that follow go one after the other: a long row of them would not fit on the stack.
impl Drop for State {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut state) = next.and_then(|next| Arc::into_inner(next.state)) {
            next = state.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_the_same_entry_at_the_same_state_shares_what_comes_of_it() {
        let start = Arc::new(State::default());
        let one = State::after(Arc::clone(&start), Entry::Nothing);
        let two = State::after(Arc::clone(&start), Entry::Nothing);
        assert!(Arc::ptr_eq(&one.state, &two.state) && Arc::ptr_eq(&one.applied, &two.applied));
        assert!(Arc::ptr_eq(&one.entry, &two.entry));
        let last = State::after(start, Entry::Nothing);
        assert!(Arc::ptr_eq(&one.state, &last.state), "who comes last, when all others are gone");
        let start = Arc::new(State::default());
        let two = State::after(Arc::clone(&start), Entry::Nothing);
        let three = State::after(start, Entry::Command(vec![1]));
        assert!(!Arc::ptr_eq(&two.state, &three.state));
        assert_eq!(three.state.fleet().applied(), one.state.fleet().applied());
    }

    #[test]
    fn a_long_row_of_states_is_let_go() {
        let first = Arc::new(State::default());
        let mut last = Arc::clone(&first);
        for _ in 0..100_000 {
            last = State::after(Arc::clone(&last), Entry::Nothing).state;
        }
        assert_eq!(last.fleet().applied().0, 100_000);
        drop(first);
    }
}
