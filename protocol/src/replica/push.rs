//! How a leader hands new entries on: to everybody at once or, in a large mesh, to those whom they concern at
//! once and to the rest in batches.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::consensus::Entry;
use crate::fleet::Applied;
use crate::fleet::event::Event;
use crate::id::{LogIndex, NodeId};
use crate::membership::FULL_MESH_MAX;
use crate::replica::{LogMessage, Output, first_that_fit};
use crate::time::Instant;

/// How long what others do under their permits is gathered in a large mesh. With k at one percent of N, the
/// frames of a leader would grow with N² otherwise: each of k restarts is told to N nodes three times. Their
/// bytes still do. Who hears meanwhile from a neighbour's digest that the log is further asks for it.
const GATHER: Duration = Duration::from_millis(500);

/// Entries that were applied on a leader and not told to all that follow.
#[derive(Debug, Default)]
pub(super) struct Push {
    entries: Vec<Arc<Entry>>,
    /// Those whom the ones concern that nobody was told.
    concerned: BTreeSet<NodeId>,
    /// When all are told.
    due: Option<Instant>,
}

impl Push {
    /// An entry was applied in a mesh of `members`.
    pub(super) fn add(
        &mut self,
        now: Instant,
        entry: Arc<Entry>,
        applied: &Applied,
        members: usize,
    ) {
        let mut of_few = members > FULL_MESH_MAX;
        self.entries.push(entry);
        self.concerned.extend(applied.origin.map(|(node, _)| node));
        for event in applied.outcome.iter().flatten() {
            match event {
                Event::PermitChanged(_, node) => _ = self.concerned.insert(*node),
                Event::RosterChanged
                | Event::VoterAllotted(..)
                | Event::GroupChanged(_)
                | Event::ReleaseRegistered
                | Event::RolloutChanged(_) => of_few = false,
            }
        }
        let latest = if of_few { now.after(GATHER) } else { now };
        self.due = Some(self.due.map_or(latest, |due| due.min(latest)));
    }

    /// When the next ones are told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be told now, where the log is applied up to `applied`.
    pub(super) fn take(&mut self, now: Instant, applied: LogIndex) -> Vec<Output> {
        let concerned = core::mem::take(&mut self.concerned);
        if self.due.is_none_or(|due| now < due) {
            // All of them, as the last that such a node was told may be long ago.
            let told = concerned.into_iter().flat_map(|node| {
                let frames = frames(&self.entries, applied);
                frames.map(move |message| Output::Tell(node, message))
            });
            return told.collect();
        }
        self.due = None;
        let entries = core::mem::take(&mut self.entries);
        frames(&entries, applied).map(Output::Push).collect()
    }

    /// This node leads no more.
    pub(super) fn drop_all(&mut self) {
        *self = Self::default();
    }
}

/// The last entries up to `applied`, in frames that are read.
fn frames(entries: &[Arc<Entry>], applied: LogIndex) -> impl Iterator<Item = LogMessage> {
    let mut rest = entries;
    core::iter::from_fn(move || {
        let first = LogIndex(applied.0 + 1 - rest.len() as u64);
        let entries = first_that_fit(rest.iter().map(AsRef::as_ref));
        rest = rest.get(entries.len()..).unwrap_or_default();
        (!entries.is_empty()).then_some(LogMessage::Entries { first, entries })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PermitId;
    use crate::limits::COMMAND_BYTES_MAX;

    const NOW: Instant = Instant::ZERO;

    fn applied(index: u64, by: u8, outcome: Vec<Event>) -> Applied {
        let origin = Some((NodeId([by; 32]), 0));
        Applied { index: LogIndex(index), origin, outcome: Ok(outcome) }
    }

    fn nothing() -> Arc<Entry> {
        Arc::new(Entry::Nothing)
    }

    fn permit_of(node: u8) -> Event {
        let id = PermitId { granted_at: LogIndex(1), ordinal: 0 };
        Event::PermitChanged(id, NodeId([node; 32]))
    }

    /// Who is told, from which entry on and how many; `None`: everybody.
    fn told(push: &mut Push, now: Instant, applied: u64) -> Vec<(Option<u8>, u64, usize)> {
        let said = |output| match output {
            Output::Tell(node, LogMessage::Entries { first, entries }) => {
                (Some(node.0[0]), first.0, entries.len())
            }
            Output::Push(LogMessage::Entries { first, entries }) => (None, first.0, entries.len()),
            other => panic!("{other:?}"),
        };
        push.take(now, LogIndex(applied)).into_iter().map(said).collect()
    }

    #[test]
    fn in_a_large_mesh_a_permit_is_told_to_its_holder_at_once_and_to_the_rest_in_a_batch() {
        let mut push = Push::default();
        push.add(NOW, nothing(), &applied(7, 1, vec![permit_of(2)]), FULL_MESH_MAX + 1);
        assert_eq!(told(&mut push, NOW, 7), [(Some(1), 7, 1), (Some(2), 7, 1)]);
        let later = NOW.after(GATHER / 2);
        push.add(later, nothing(), &applied(8, 3, vec![permit_of(3)]), FULL_MESH_MAX + 1);
        assert_eq!(told(&mut push, later, 8), [(Some(3), 7, 2)], "it lacks what came before");
        assert_eq!(told(&mut push, later, 8), []);
        assert_eq!(push.due(), Some(NOW.after(GATHER)));
        assert_eq!(told(&mut push, NOW.after(GATHER), 8), [(None, 7, 2)]);
        assert_eq!((push.due(), told(&mut push, later, 8)), (None, vec![]));
    }

    #[test]
    fn what_is_too_much_for_one_frame_is_told_in_several() {
        let large = Arc::new(Entry::Command(vec![0; COMMAND_BYTES_MAX]));
        let told: Vec<_> = frames(&vec![large; 5], LogIndex(9))
            .map(|message| match message {
                LogMessage::Entries { first, entries } => (first.0, entries.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(5, 2), (7, 2), (9, 1)]);
        assert_eq!(frames(&vec![nothing(); 300], LogIndex(300)).count(), 2);
    }

    #[test]
    fn what_concerns_all_is_told_to_all_at_once() {
        let mut push = Push::default();
        push.add(NOW, nothing(), &applied(7, 1, vec![permit_of(2)]), FULL_MESH_MAX + 1);
        push.add(NOW, nothing(), &applied(8, 1, vec![Event::RosterChanged]), FULL_MESH_MAX + 1);
        assert_eq!(told(&mut push, NOW, 8), [(None, 7, 2)]);
        push.add(NOW, nothing(), &applied(9, 1, vec![permit_of(2)]), FULL_MESH_MAX);
        assert_eq!(told(&mut push, NOW, 9), [(None, 9, 1)]);
    }
}
