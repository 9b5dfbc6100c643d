//! Which faults a seed brings, and when.

use core::time::Duration;

use baton_protocol::fleet::command::Order;
use baton_protocol::fleet::policy::Cap;
use baton_protocol::peer::Operation;
use baton_protocol::rng::Rng;
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::mesh::group;
use crate::shape::capped;
use crate::traps::{Deed, Trap, Trigger};
use crate::world::World;

/// Draws faults, and knows when the last of them is over.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    hosts: usize,
    pub(crate) last: Instant,
    pub(crate) lost: Option<Host>,
}

fn seconds(range: core::ops::Range<u64>, rng: &mut Rng) -> Duration {
    let micros = (range.end - range.start) * 1_000_000;
    Duration::from_secs(range.start) + Duration::from_micros(rng.below(micros.max(1)))
}

impl Faults {
    pub(crate) fn new(hosts: usize) -> Self {
        Self { hosts, ..Self::default() }
    }

    /// `event` happens at `at` from now, and what it brings is over `lasts` later.
    fn plan(&mut self, world: &mut World, at: Duration, lasts: Duration, event: Event) {
        let at = world.now.after(at);
        self.last = self.last.max(at.after(lasts));
        world.at(at, event);
    }

    fn once(&mut self, world: &mut World, at: Duration, event: Event) {
        self.plan(world, at, Duration::ZERO, event);
    }

    /// While the mesh is founded, joined, and has its first release: nobody is lost yet.
    pub(crate) fn early(&mut self, world: &mut World, span: Duration) {
        if world.rng.chance(1, 2) {
            // The founder, before anything of the mesh is on its disk, or just after.
            let at = world.within(Duration::from_millis(40));
            let wait = seconds(0..4, &mut world.rng);
            self.once(world, at, Event::Crash { host: 0 });
            self.once(world, at + wait, Event::Restart { host: 0 });
        }
        for _ in 0..1 + world.rng.below(5) {
            self.one(world, span);
        }
    }

    /// While a release is rolled out.
    pub(crate) fn rollout(&mut self, world: &mut World, orders: &[Operation]) {
        let span = seconds(60..150, &mut world.rng);
        for _ in 0..2 + world.rng.below(8) {
            self.one(world, span);
        }
        for _ in 0..world.rng.below(4) {
            self.trap(world, span);
        }
        for order in orders {
            if world.rng.chance(1, 3) {
                let (at, host) = (world.within(span), self.anybody(world));
                let operation = Box::new(order.clone());
                self.once(world, at, Event::Operate { host, operation, tries: 0 });
            }
        }
        if world.rng.chance(1, 5) {
            self.meddle(world, span);
        }
        if self.lost.is_none() && world.rng.chance(1, 4) {
            let (at, host) = (world.within(span), self.anybody(world));
            self.lost = Some(host);
            self.once(world, at, Event::Lose { host });
        }
    }

    fn anybody(&self, world: &mut World) -> Host {
        world.rng.below(self.hosts as u64) as usize
    }

    fn one(&mut self, world: &mut World, span: Duration) {
        let at = world.within(span);
        let wait = Duration::from_millis(200) + seconds(0..20, &mut world.rng);
        let host = self.anybody(world);
        match world.rng.below(24) {
            0..=4 => {
                self.once(world, at, Event::Crash { host });
                self.once(world, at + wait, Event::Restart { host });
            }
            5 => self.plan(world, at, Duration::from_secs(15), Event::CrashLeader),
            6..=7 => self.plan(world, at, Duration::from_secs(15), Event::CrashHolder),
            8..=9 => {
                let ways = self.partition(world);
                self.once(world, at, Event::Partition { ways });
                self.once(world, at + wait, Event::Heal);
            }
            10..=11 => self.once(world, at, Event::ServiceDies { host }),
            // A whole machine is away for long, service and all.
            12..=14 => {
                let wait = seconds(10..60, &mut world.rng);
                self.plan(world, at, wait, Event::Away { host, wait });
            }
            15 => {
                let mut hosts: Vec<Host> = (0..self.hosts).collect();
                world.rng.shuffle(&mut hosts);
                hosts.truncate(1 + world.rng.below(self.hosts as u64) as usize);
                self.plan(world, at, Duration::from_secs(15), Event::PowerCut { hosts });
            }
            16..=17 => self.plan(world, at, wait, Event::Stop { host, wait }),
            18..=19 => {
                let count = 1 + world.rng.below(self.hosts as u64) as usize;
                self.once(world, at, Event::CutSome { count });
            }
            20..=21 => {
                let millis = 50 + world.rng.below(2000);
                self.once(world, at, Event::SlowDisk { host, millis });
                self.once(world, at + wait, Event::SlowDisk { host, millis: 8 });
            }
            22 => {
                let by = seconds(1..3600, &mut world.rng);
                self.once(world, at, Event::Jump { host, by });
            }
            _ => {
                self.once(world, at, Event::CutOff { host, others: 0 });
                self.once(world, at + wait, Event::Heal);
            }
        }
    }

    fn trap(&mut self, world: &mut World, span: Duration) {
        let triggers = [
            Trigger::Granted,
            Trigger::Granted,
            Trigger::Begun,
            Trigger::Begun,
            Trigger::Closed,
            Trigger::Failed,
            Trigger::Created,
            Trigger::Voters,
        ];
        let trigger = world.rng.pick(&triggers).copied().unwrap_or(Trigger::Granted);
        let deed = match world.rng.below(22) {
            0..=3 => Deed::Squeeze,
            4 => Deed::CrashNode,
            5 => Deed::NodeAway,
            6 => Deed::ServiceDies,
            7 => Deed::StopNode,
            8 => Deed::CrashLeader,
            9 => Deed::StopLeader,
            10 => Deed::CutLeader,
            11 => Deed::Order(Order::Pause),
            12 => Deed::Order(Order::Abort),
            13 => Deed::Order(Order::Rollback),
            14 => Deed::Order(Order::Promote),
            15 => Deed::Cap(1 + u32::try_from(world.rng.below(3)).unwrap_or_default()),
            // Only one that comes while the node holds a permit tells anything: seldom enough.
            16..=19 => Deed::Remove,
            20 => Deed::Quarantine,
            _ => Deed::Override,
        };
        let (skip, until) = (world.rng.below(8), world.now.after(span));
        let lasts = Duration::from_secs(60); // the longest that a trap keeps a machine away
        self.last = self.last.max(until.after(lasts));
        world.traps.push(Trap { trigger, skip, deed, until });
    }

    /// A person changes the cap in the middle of it all.
    fn meddle(&mut self, world: &mut World, span: Duration) {
        let count = 1 + u32::try_from(world.rng.below(3)).unwrap_or_default();
        let change = capped(Cap { count: Some(count), ..Cap::default() });
        let operation =
            Box::new(Operation::SetGroup { group: group(), change, person: "ann".to_owned() });
        let (at, host) = (world.within(span), self.anybody(world));
        self.once(world, at, Event::Operate { host, operation, tries: 0 });
    }

    /// Some hosts cannot hear some others, or neither side the other.
    fn partition(&self, world: &mut World) -> Vec<(Host, Host)> {
        let mut all: Vec<Host> = (0..self.hosts).collect();
        world.rng.shuffle(&mut all);
        let cut = 1 + world.rng.below(self.hosts as u64 / 2) as usize;
        let (some, others) = all.split_at(cut);
        let both = world.rng.chance(2, 3);
        let mut ways = Vec::new();
        for a in some {
            for b in others {
                ways.push((*a, *b));
                if both {
                    ways.push((*b, *a));
                }
            }
        }
        ways
    }
}
