//! Which faults a seed brings, and when: a plan in rounds, whose items are numbered as they are drawn.
//! Each round has a generator of its own, and nothing that is drawn depends on what has happened: leaving
//! an item out changes no other item, and no number of another.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeSet;

use baton_protocol::fleet::command::Order;
use baton_protocol::rng::Rng;
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::fault::Fault;
use crate::inflict::describe;
use crate::liar::Manner;
use crate::store::Temper;
use crate::traps::{Deed, Trap, Trigger};
use crate::world::World;

/// The number of an item: its round, and its place there, as `2.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    round: u32,
    place: u32,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.round, self.place))
    }
}

impl FromStr for Item {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let item = text.split_once('.').and_then(|(round, place)| {
            Some(Self { round: round.parse().ok()?, place: place.parse().ok()? })
        });
        item.ok_or_else(|| "an item is a round and a place, as 2.7".to_owned())
    }
}

/// Draws faults, and knows when the last of them is over.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What each round's generator comes from, in order.
    rounds: Rng,
    /// The present round's.
    rng: Rng,
    hosts: usize,
    without: BTreeSet<Item>,
    /// What was drawn and not left out, in words.
    pub(crate) items: Vec<(Item, String)>,
    drawn: Item,
    /// When all that was drawn is over.
    pub(crate) last: Instant,
}

fn seconds(range: core::ops::Range<u64>, rng: &mut Rng) -> Duration {
    let micros = (range.end - range.start) * 1_000_000;
    Duration::from_secs(range.start) + Duration::from_micros(rng.below(micros.max(1)))
}

impl Plan {
    pub(crate) fn new(mut rounds: Rng, hosts: usize, without: BTreeSet<Item>) -> Self {
        let (items, last) = (Vec::new(), Instant::ZERO);
        let (rng, drawn) = (rounds.fork(), Item { round: 0, place: 0 });
        Self { rounds, rng, hosts, without, items, drawn, last }
    }

    /// A new round begins. What was drawn before does not matter to it.
    fn turn(&mut self) {
        self.rng = self.rounds.fork();
        self.drawn = Item { round: self.drawn.round + 1, place: 0 };
    }

    /// Counts an item, and says whether it is to happen.
    fn takes(&mut self, describe: impl FnOnce() -> String) -> bool {
        self.drawn.place += 1;
        let taken = !self.without.contains(&self.drawn);
        if taken {
            self.items.push((self.drawn, describe()));
        }
        taken
    }

    /// `fault` happens at `at` from now.
    pub(crate) fn add(&mut self, world: &mut World, at: Duration, fault: Fault) {
        let when = world.now.after(at);
        if self.takes(|| format!("{when:?} {}", describe(&fault))) {
            self.last = self.last.max(when.after(fault.lasts()));
            world.at(when, Event::Fault(Box::new(fault)));
        }
    }

    fn set(&mut self, world: &mut World, trap: Trap) {
        if self.takes(|| format!("{trap:?}")) {
            self.last = self.last.max(trap.until.after(Deed::LASTS_MAX));
            world.traps.push(trap);
        }
    }

    /// While the mesh is founded, joined, and has its first release: nobody is lost yet.
    pub(crate) fn early(&mut self, world: &mut World, span: Duration) {
        self.turn();
        if self.rng.chance(1, 2) {
            // The founder, before anything of the mesh is on its disk, or just after.
            let at = Duration::from_micros(self.rng.below(40_000));
            let wait = seconds(0..4, &mut self.rng);
            self.add(world, at, Fault::Crash { host: 0, wait });
        }
        for _ in 0..1 + self.rng.below(5) {
            self.one(world, span);
        }
    }

    /// A round of releases begins: how the service of each behaves.
    pub(crate) fn releases(&mut self) -> Vec<Temper> {
        self.turn();
        let releases = 1 + self.rng.below(2);
        (0..releases).map(|_| self.temper()).collect()
    }

    fn temper(&mut self) -> Temper {
        match self.rng.below(12) {
            0..=1 => Temper::NeverReady,
            2 => Temper::Dies,
            3 => Temper::Slow,
            4 => Temper::Wavers,
            _ => Temper::Good,
        }
    }

    /// While the releases of this round are rolled out.
    pub(crate) fn rollout(&mut self, world: &mut World, deploys: &[Fault]) {
        let span = seconds(60..150, &mut self.rng);
        for _ in 0..2 + self.rng.below(8) {
            self.one(world, span);
        }
        for _ in 0..self.rng.below(4) {
            self.trap(world, span);
        }
        for _ in 0..self.rng.below(3) {
            self.maintenance(world, span);
        }
        for deploy in deploys {
            if self.rng.chance(1, 3) {
                let at = self.within(span);
                self.add(world, at, deploy.clone());
            }
        }
        if self.rng.chance(1, 2) {
            self.people(world, span);
        }
        if self.rng.chance(1, 3) {
            self.bereave(world, span);
        }
    }

    fn within(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.rng.below(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    fn anybody(&mut self) -> Host {
        self.rng.below(self.hosts as u64) as usize
    }

    fn some(&mut self, most: usize) -> Vec<Host> {
        let mut hosts: Vec<Host> = (0..self.hosts).collect();
        self.rng.shuffle(&mut hosts);
        hosts.truncate(1 + self.rng.below(most as u64) as usize);
        hosts
    }

    /// A node is gone for ever, or back as another one, or as it was long before. One of a round:
    /// nobody promises to bear the loss of most voters at once.
    fn bereave(&mut self, world: &mut World, span: Duration) {
        let (at, host) = (self.within(span), self.anybody());
        let fault = match self.rng.below(4) {
            0 => Fault::Lose { host },
            1 => Fault::LoseHolder,
            2 => Fault::Wipe { host, wait: seconds(1..60, &mut self.rng) },
            _ => Fault::Restore { host, age: seconds(1..60, &mut self.rng) },
        };
        self.add(world, at, fault);
    }

    /// Any fault from which everything comes back by itself.
    fn one(&mut self, world: &mut World, span: Duration) {
        let at = self.within(span);
        let fault = match self.rng.below(4) {
            0 => self.of_a_daemon(),
            1 => self.of_the_network(),
            2 => self.of_a_disk_or_clock(),
            _ => self.of_a_machine(),
        };
        self.add(world, at, fault);
    }

    fn of_a_daemon(&mut self) -> Fault {
        let wait = Duration::from_millis(200) + seconds(0..20, &mut self.rng);
        let host = self.anybody();
        match self.rng.below(8) {
            0..=2 => Fault::Crash { host, wait },
            3 => Fault::CrashLeader { wait },
            4..=5 => Fault::CrashHolder { wait },
            6 => Fault::Pause { host, wait },
            _ => {
                let manners = [Manner::Corrupts, Manner::Stalls, Manner::Replays, Manner::Floods];
                let manner = self.rng.pick(&manners).copied().unwrap_or(Manner::Replays);
                Fault::Lies { host, manner, wait: seconds(5..60, &mut self.rng) }
            }
        }
    }

    fn of_the_network(&mut self) -> Fault {
        let wait = Duration::from_millis(200) + seconds(0..20, &mut self.rng);
        let host = self.anybody();
        match self.rng.below(9) {
            0..=1 => Fault::Partition { ways: self.ways(), wait },
            2 => Fault::CutOff { host, others: 0, wait },
            3 => {
                let mut ways = self.ways();
                self.rng.shuffle(&mut ways);
                ways.truncate(1 + self.rng.below(60) as usize);
                Fault::Clog { ways, wait }
            }
            4..=5 => Fault::Breaks { count: 1 + self.rng.below(self.hosts as u64) as usize },
            6 => Fault::Loss { host, permille: 10 + self.rng.below(290), wait },
            7 => Fault::Garble { host, permille: 2 + self.rng.below(400), wait },
            _ => Fault::Thin { host, bytes_per_ms: 20 + self.rng.below(500), wait },
        }
    }

    fn of_a_disk_or_clock(&mut self) -> Fault {
        let wait = Duration::from_millis(200) + seconds(0..20, &mut self.rng);
        let host = self.anybody();
        match self.rng.below(10) {
            0..=2 => Fault::SlowDisk { host, millis: 50 + self.rng.below(2000), wait },
            3 => Fault::FullDisk { host, wait },
            4 => Fault::Rot { host, count: 1 + self.rng.below(8) as usize },
            5..=6 => Fault::Sleep { host, by: seconds(1..3600, &mut self.rng) },
            7 => Fault::WallClock { host, by_seconds: self.jump(), wait },
            _ => Fault::LeaderClock { by_seconds: self.jump(), wait },
        }
    }

    /// Up to a day, forward or back.
    fn jump(&mut self) -> i64 {
        i64::try_from(self.rng.below(2 * 86_400)).unwrap_or_default() - 86_400
    }

    /// The machine or its service.
    fn of_a_machine(&mut self) -> Fault {
        let host = self.anybody();
        let wait = seconds(10..60, &mut self.rng);
        match self.rng.below(8) {
            0..=2 => Fault::Away { host, wait },
            3 => Fault::PowerCut { hosts: self.some(self.hosts), wait: Duration::from_secs(15) },
            4..=5 => Fault::ServiceDies { host },
            6 => Fault::ServiceIll { host, wait },
            _ => Fault::ServiceFlaps {
                host,
                times: 2 + u32::try_from(self.rng.below(3)).unwrap_or(0),
            },
        }
    }

    fn trap(&mut self, world: &mut World, span: Duration) {
        let trigger = self.rng.pick(&Trigger::DRAWN).copied().unwrap_or(Trigger::Granted);
        let deed = Deed::drawn(&mut self.rng);
        let (skip, until) = (self.rng.below(8), world.now.after(span));
        self.set(world, Trap { trigger, skip, deed, until });
    }

    /// Somebody meddles with the balancer just when a server is taken out of action.
    fn maintenance(&mut self, world: &mut World, span: Duration) {
        let (skip, until) = (self.rng.below(12), world.now.after(span));
        self.set(world, Trap { trigger: Trigger::Begun, skip, deed: Deed::Maintain, until });
    }

    /// People order this and that in the middle of it, and sometimes two of them at once.
    fn people(&mut self, world: &mut World, span: Duration) {
        let at = self.within(span);
        for _ in 0..1 + self.rng.below(2) {
            let order = self.order();
            self.add(world, at, order);
        }
    }

    fn order(&mut self) -> Fault {
        let host = self.anybody();
        match self.rng.below(9) {
            0..=1 => Fault::Steer { order: Order::Pause },
            2 => Fault::Steer { order: Order::Resume },
            3 => Fault::Steer { order: Order::Abort },
            4 => Fault::Steer { order: Order::Rollback },
            5 => Fault::Steer { order: Order::Promote },
            6 => Fault::Quarantine { host },
            7 => Fault::Override { host },
            _ => Fault::Cap { count: 1 + u32::try_from(self.rng.below(3)).unwrap_or_default() },
        }
    }

    /// Some hosts cannot hear some others, or neither side the other.
    fn ways(&mut self) -> Vec<(Host, Host)> {
        let mut all: Vec<Host> = (0..self.hosts).collect();
        self.rng.shuffle(&mut all);
        let cut = 1 + self.rng.below(self.hosts as u64 / 2) as usize;
        let (some, others) = all.split_at(cut);
        let both = self.rng.chance(2, 3);
        let pairs = some.iter().flat_map(|a| others.iter().map(|b| (*a, *b)));
        pairs.flat_map(|(a, b)| [Some((a, b)), both.then_some((b, a))]).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    /// The items of three rounds, of which each but the first begins at another time than in another
    /// run.
    fn drawn(without: &[&str], pause: u64) -> Vec<(Item, String)> {
        let mut world = World::new(Rng::new(1), &Shape::calm(7), false);
        let without = without.iter().map(|item| item.parse().unwrap()).collect();
        let mut plan = Plan::new(Rng::new(2), 7, without);
        plan.early(&mut world, Duration::from_secs(20));
        for _ in 0..2 {
            world.now = world.now.after(Duration::from_secs(pause));
            world.rng.next_u64(); // what happens meanwhile draws as well
            plan.releases();
            plan.rollout(&mut world, &[]);
        }
        plan.items
    }

    #[test]
    fn an_item_that_is_left_out_changes_no_other() {
        let all = drawn(&[], 100);
        let some = drawn(&["1.1", "2.2"], 100);
        let left = all.iter().filter(|(item, _)| !some.iter().any(|(it, _)| it == item));
        let left: Vec<_> = left.map(|(item, _)| item.to_string()).collect();
        assert_eq!(left, ["1.1", "2.2"]);
        assert!(some.iter().all(|item| all.contains(item)));
    }

    #[test]
    fn a_round_that_begins_later_has_the_same_items() {
        let numbers = |items: Vec<(Item, String)>| items.into_iter().map(|it| it.0).collect();
        let [early, late]: [Vec<Item>; 2] = [100, 170].map(|pause| numbers(drawn(&[], pause)));
        assert_eq!(early, late);
    }
}
