//! Faults and orders at the worst moments: a trap waits for something to happen, and then acts.

use core::time::Duration;

use baton_protocol::fleet::command::Order;
use baton_protocol::id::NodeId;
use baton_protocol::rng::Rng;
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::fault::Fault;
use crate::tally::count;
use crate::world::World;

/// How long after its moment a trap acts, at most.
const DELAY_MAX: Duration = Duration::from_millis(60);

/// How long a server is in maintenance at least: longer than its permit's way to the proof.
const MAINTAINED: Duration = Duration::from_secs(20);

/// Something in the log, as the judge sees it come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A node got a permit.
    Granted(NodeId),
    /// A node may move.
    Begun(NodeId),
    /// A node's permit closed.
    Closed(NodeId),
    /// A holder reported that it failed.
    Failed(NodeId),
    /// A rollout began.
    Created,
    /// The voters have changed.
    Voters,
}

/// What a trap waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Granted,
    Begun,
    Closed,
    Failed,
    Created,
    Voters,
}

/// What a trap does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The node is cut off from all, and machines of as many others go as may be down at once.
    Squeeze,
    /// The node's daemon crashes.
    CrashNode,
    /// The node's machine is away for a while.
    NodeAway,
    /// The node's service ends.
    ServiceDies,
    /// The node's daemon stands still for a while.
    StopNode,
    /// The leader crashes.
    CrashLeader,
    /// The leader stands still for a while.
    StopLeader,
    /// The leader is cut off with a few others.
    CutLeader,
    /// A person orders something.
    Order(Order),
    /// A person changes the cap.
    Cap(u32),
    /// A person takes the node out of the mesh.
    Remove,
    /// A person takes the node out of the count.
    Quarantine,
    /// A person says that a permit which has not begun may go.
    Override,
    /// A person puts the node into maintenance at the balancer.
    Maintain,
}

/// One trap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trap {
    pub(crate) trigger: Trigger,
    /// Moments that pass by before it acts.
    pub(crate) skip: u64,
    pub(crate) deed: Deed,
    /// When it is taken away again.
    pub(crate) until: Instant,
}

impl Trigger {
    /// As often as each is drawn.
    pub(crate) const DRAWN: [Self; 8] = [
        Self::Granted,
        Self::Granted,
        Self::Begun,
        Self::Begun,
        Self::Closed,
        Self::Failed,
        Self::Created,
        Self::Voters,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Granted => "at a grant",
            Self::Begun => "at a begin",
            Self::Closed => "at a closing",
            Self::Failed => "at a failure",
            Self::Created => "at a rollout's begin",
            Self::Voters => "at a change of voters",
        }
    }
}

impl Deed {
    /// The longest that one lasts: a machine is away.
    pub(crate) const LASTS_MAX: Duration = Duration::from_secs(60);

    pub(crate) fn drawn(rng: &mut Rng) -> Self {
        match rng.below(22) {
            0..=3 => Self::Squeeze,
            4 => Self::CrashNode,
            5 => Self::NodeAway,
            6 => Self::ServiceDies,
            7 => Self::StopNode,
            8 => Self::CrashLeader,
            9 => Self::StopLeader,
            10 => Self::CutLeader,
            11 => Self::Order(Order::Pause),
            12 => Self::Order(Order::Abort),
            13 => Self::Order(Order::Rollback),
            14 => Self::Order(Order::Promote),
            15 => Self::Cap(1 + u32::try_from(rng.below(3)).unwrap_or_default()),
            // Only one that comes while the node holds a permit tells anything: seldom enough.
            16..=19 => Self::Remove,
            20 => Self::Quarantine,
            _ => Self::Override,
        }
    }
}

impl Trap {
    fn fits(&self, moment: Moment) -> bool {
        let trigger = match moment {
            Moment::Granted(_) => Trigger::Granted,
            Moment::Begun(_) => Trigger::Begun,
            Moment::Closed(_) => Trigger::Closed,
            Moment::Failed(_) => Trigger::Failed,
            Moment::Created => Trigger::Created,
            Moment::Voters => Trigger::Voters,
        };
        self.trigger == trigger
    }
}

impl World {
    /// Something has come into the log: springs the traps that wait for it.
    pub(crate) fn spring(&mut self, moment: Moment) {
        let now = self.now;
        self.traps.retain(|trap| trap.until >= now);
        let mut sprung = Vec::new();
        self.traps.retain_mut(|trap| {
            if !trap.fits(moment) {
                return true;
            }
            if trap.skip > 0 {
                trap.skip -= 1;
                return true;
            }
            sprung.push((trap.trigger, trap.deed.clone()));
            false
        });
        for (trigger, deed) in sprung {
            count(&mut self.tally.traps, trigger.name());
            self.note(&format!("TRAP {deed:?} at {moment:?}"));
            self.act_on(moment, deed);
        }
    }

    fn host_of(&self, moment: Moment) -> Host {
        let node = match moment {
            Moment::Granted(node)
            | Moment::Begun(node)
            | Moment::Closed(node)
            | Moment::Failed(node) => self.names.get(&node).copied(),
            Moment::Created | Moment::Voters => self.leader(),
        };
        node.unwrap_or_default()
    }

    fn act_on(&mut self, moment: Moment, deed: Deed) {
        let host = self.host_of(moment);
        let leader = self.leader().unwrap_or(host);
        let wait = Duration::from_secs(2) + self.within(Duration::from_secs(20));
        let fault = match deed {
            Deed::Squeeze => return self.squeeze(host),
            Deed::CrashNode => Fault::Crash { host, wait },
            Deed::NodeAway => Fault::Away { host, wait: wait * 2 },
            Deed::ServiceDies => Fault::ServiceDies { host },
            Deed::StopNode => Fault::Pause { host, wait },
            Deed::CrashLeader => Fault::CrashLeader { wait },
            Deed::StopLeader => Fault::Pause { host: leader, wait },
            Deed::CutLeader => {
                let others = self.rng.below(self.hosts.len() as u64 / 3) as usize;
                Fault::CutOff { host: leader, others, wait }
            }
            Deed::Order(order) => Fault::Steer { order },
            Deed::Cap(count) => Fault::Cap { count },
            Deed::Remove => Fault::Remove { host },
            Deed::Quarantine => Fault::Quarantine { host },
            Deed::Override => Fault::Override { host },
            Deed::Maintain => Fault::Maintenance { host, wait: MAINTAINED + wait },
        };
        let delay = self.within(DELAY_MAX);
        self.after(delay, Event::Fault(Box::new(fault)));
    }

    /// Nothing may be left of the cap when the node comes back and asks to begin.
    fn squeeze(&mut self, host: Host) {
        let away = Duration::from_secs(30) + self.within(Duration::from_secs(30));
        let delay = self.within(Duration::from_millis(3));
        // At once, so that it hears of its permit only when it is back: one that asks in vain hands it
        // back by then.
        let wait = Duration::from_secs(12) + self.within(Duration::from_secs(10));
        self.after(Duration::ZERO, Event::Fault(Box::new(Fault::CutOff { host, others: 0, wait })));
        let mut others: Vec<Host> = (0..self.hosts.len()).filter(|it| *it != host).collect();
        self.rng.shuffle(&mut others);
        others.truncate(self.judge.limit() as usize);
        for host in others {
            self.after(delay, Event::Fault(Box::new(Fault::Away { host, wait: away })));
        }
    }
}
