//! Faults and orders at the worst moments: a trap waits for something to happen, and then acts.

use core::time::Duration;

use baton_protocol::fleet::command::Order;
use baton_protocol::fleet::policy::Cap;
use baton_protocol::id::NodeId;
use baton_protocol::peer::Operation;
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::mesh::group;
use crate::shape::capped;
use crate::world::World;

/// How long after its moment a trap acts, at most.
const DELAY_MAX: Duration = Duration::from_millis(60);

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
            sprung.push(trap.deed.clone());
            false
        });
        for deed in sprung {
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
        let delay = self.within(DELAY_MAX);
        let a_while = Duration::from_secs(2) + self.within(Duration::from_secs(20));
        match deed {
            Deed::Squeeze => self.squeeze(host),
            Deed::CrashNode => {
                self.after(delay, Event::Crash { host });
                self.after(delay + a_while, Event::Restart { host });
            }
            Deed::NodeAway => self.after(delay, Event::Away { host, wait: a_while * 2 }),
            Deed::ServiceDies => self.after(delay, Event::ServiceDies { host }),
            Deed::StopNode => self.after(delay, Event::Stop { host, wait: a_while }),
            Deed::CrashLeader => self.after(delay, Event::CrashLeader),
            Deed::StopLeader => {
                let host = self.leader().unwrap_or(host);
                self.after(delay, Event::Stop { host, wait: a_while });
            }
            Deed::CutLeader => {
                let host = self.leader().unwrap_or(host);
                let others = self.rng.below(self.hosts.len() as u64 / 3) as usize;
                self.after(delay, Event::CutOff { host, others });
                self.after(delay + a_while, Event::Heal);
            }
            Deed::Order(order) => {
                let (group, person) = (group(), "ann".to_owned());
                self.person(delay, Operation::Steer { group, order, person });
            }
            Deed::Cap(count) => {
                let change = capped(Cap { count: Some(count), ..Cap::default() });
                let (group, person) = (group(), "ann".to_owned());
                self.person(delay, Operation::SetGroup { group, change, person });
            }
            Deed::Remove => {
                let (node, person) = (self.hosts[host].config.name.clone(), "ann".to_owned());
                self.person(delay, Operation::Remove { node, person });
            }
            Deed::Quarantine => {
                let node = self.hosts[host].config.name.clone();
                let (group, person) = (group(), "ann".to_owned());
                self.person(delay, Operation::Quarantine { group, node, on: true, person });
            }
            Deed::Override => {
                let node = self.hosts[host].config.node;
                let permit = self.judge.newest().permit_of(node).map(|permit| permit.id);
                let Some(permit) = permit else { return };
                let (reason, person) = ("tries".to_owned(), "ann".to_owned());
                let fenced = false;
                self.person(delay, Operation::Override { permit, fenced, reason, person });
            }
        }
    }

    /// Somebody asks some node for something.
    fn person(&mut self, delay: Duration, operation: Operation) {
        let alive = self.alive();
        let host = self.rng.pick(&alive).copied().unwrap_or_default();
        self.after(delay, Event::Operate { host, operation: Box::new(operation), tries: 0 });
    }

    /// Nothing may be left of the cap when the node comes back and asks to begin.
    fn squeeze(&mut self, host: Host) {
        let away = Duration::from_secs(30) + self.within(Duration::from_secs(30));
        let delay = self.within(Duration::from_millis(3));
        // At once, so that it hears of its permit only when it is back: one that asks in vain hands it
        // back by then.
        self.after(Duration::ZERO, Event::CutOff { host, others: 0 });
        let back = Duration::from_secs(12) + self.within(Duration::from_secs(10));
        self.after(back, Event::Heal);
        let mut others: Vec<Host> = (0..self.hosts.len()).filter(|it| *it != host).collect();
        self.rng.shuffle(&mut others);
        others.truncate(self.judge.limit() as usize);
        for host in others {
            self.after(delay, Event::Away { host, wait: away });
        }
    }
}
