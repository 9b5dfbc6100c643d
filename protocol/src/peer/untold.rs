//! What the log has changed that the machines of a node were not told yet.

use crate::fleet::Applied;
use crate::fleet::event::Event;
use crate::id::NodeId;

/// Which of them it concerns. In a large mesh most entries are of permits that others hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Untold {
    /// The leader's coordinator, which goes by all.
    pub(super) any: bool,
    /// Those who go by the members and the voters.
    pub(super) roster: bool,
    /// The agent, by what the log says to this node.
    pub(super) brief: bool,
}

impl Untold {
    pub(super) const fn all() -> Self {
        Self { any: true, roster: true, brief: true }
    }

    /// An entry was applied on node `me`.
    pub(super) fn note(&mut self, me: NodeId, applied: &Applied) {
        self.any = true;
        for event in applied.outcome.iter().flatten() {
            match event {
                Event::RosterChanged | Event::VoterAllotted(..) => {
                    (self.roster, self.brief) = (true, true);
                }
                Event::GroupChanged(_) | Event::ReleaseRegistered | Event::RolloutChanged(_) => {
                    self.brief = true;
                }
                Event::PermitChanged(_, node) => self.brief |= *node == me,
            }
        }
    }
}
