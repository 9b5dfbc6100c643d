//! How long what was done to a host lasts. Where two of a kind overlap, it lasts until the later of
//! both is over: a short crash ends no long absence.

use std::collections::BTreeMap;

use baton_protocol::time::Instant;

/// What is otherwise than it should be, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spell {
    /// The daemon is not started.
    Down,
    /// The daemon stands still.
    Still,
    /// Packets are lost.
    Loss,
    /// The link is slow.
    Link,
    /// Chunks come garbled.
    Garbles,
    /// Syncs are slow.
    Syncs,
    /// There is no room on the disk.
    Room,
    /// The service is not ready.
    Ill,
    /// The member lies.
    Lie,
}

/// Until when each lasts.
#[derive(Debug, Default)]
pub(crate) struct Spells {
    until: BTreeMap<Spell, Instant>,
}

impl Spells {
    /// It lasts until then at least; returns when it is over.
    pub(crate) fn extend(&mut self, spell: Spell, until: Instant) -> Instant {
        let last = self.until.entry(spell).or_default();
        *last = until.max(*last);
        *last
    }

    /// It is over before its time.
    pub(crate) fn end(&mut self, spell: Spell) {
        self.until.remove(&spell);
    }

    pub(crate) fn is_over(&self, spell: Spell, now: Instant) -> bool {
        self.until.get(&spell).is_none_or(|until| *until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_counts_and_kinds_are_apart() {
        let mut spells = Spells::default();
        let [early, late] = [1, 60].map(Instant::from_micros);
        assert_eq!(spells.extend(Spell::Down, late), late);
        assert_eq!(spells.extend(Spell::Down, early), late);
        assert!(!spells.is_over(Spell::Down, early));
        assert!(spells.is_over(Spell::Loss, early));
        assert!(spells.is_over(Spell::Down, late));
    }
}
