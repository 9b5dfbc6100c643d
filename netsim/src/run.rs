//! One seed, from its first event to its last.

use core::time::Duration;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use baton_protocol::mutant::{self, Mutant};
use baton_protocol::rng::Rng;

use crate::balancer::Traits;
use crate::chronicle::Chronicle;
use crate::event::Event;
use crate::picture::draw;
use crate::plan::{Item, Plan};
use crate::restarts::Restart;
use crate::scenario::{Director, Stage};
use crate::shape::Shape;
use crate::story::Story;
use crate::tally::Tally;
use crate::world::{World, panic_text};

/// Events after which a run is taken for endless.
const EVENTS_MAX: u64 = 30_000_000;

/// How a run is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Hosts; the first one founds.
    pub hosts: usize,
    /// Whether anything fails.
    pub faults: bool,
    /// The mistake to make on purpose.
    pub mutant: Option<Mutant>,
    /// Items of the plan of faults that are left out.
    pub without: BTreeSet<Item>,
    /// What is done instead of what the seed would draw.
    pub story: Option<Arc<Story>>,
    /// Draw a picture.
    pub picture: bool,
    /// Print what happens.
    pub loud: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts: 20,
            faults: true,
            mutant: None,
            without: BTreeSet::new(),
            story: None,
            picture: false,
            loud: false,
        }
    }
}

impl Options {
    /// A run of a scenario that somebody wrote.
    pub fn of(story: Story) -> Self {
        Self { hosts: story.hosts, story: Some(Arc::new(story)), ..Self::default() }
    }

    fn title(&self, seed: u64) -> String {
        let about = self.story.as_ref().map(|story| story.about.clone());
        about.unwrap_or_else(|| format!("seed {seed}"))
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The hash over all that happened.
    pub trace: String,
    /// Virtual time until everybody was in.
    pub joined: Duration,
    /// Virtual time of the first rollout, and of all later ones together.
    pub rollouts: [Duration; 2],
    /// The permits that were granted and closed, in the order in which they were closed.
    pub restarts: Vec<Restart>,
    /// What the run was put through, and what came of it.
    pub tally: Tally,
    /// The picture, as SVG, if one was wanted.
    pub picture: Option<String>,
}

/// A property did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// How it was run.
    pub options: Box<Options>,
    /// What did not hold.
    pub reason: String,
    /// The last of what happened to those concerned, and to all.
    pub tail: Vec<String>,
    /// The plan of faults.
    pub plan: Vec<(Item, String)>,
    /// The picture, as SVG, if one was wanted.
    pub picture: Option<String>,
}

/// Runs one seed.
///
/// # Errors
/// A property did not hold, or the run did not end.
pub fn run(seed: u64, options: &Options) -> Result<Summary, Failure> {
    mutant::set(options.mutant);
    let outcome = catch_unwind(AssertUnwindSafe(|| run_to_end(seed, options)));
    mutant::set(None);
    outcome.unwrap_or_else(|panic| {
        let reason = format!("the simulator panics: {}", panic_text(panic.as_ref()));
        let (options, tail, plan) = (Box::new(options.clone()), Vec::new(), Vec::new());
        Err(Failure { seed, options, reason, tail, plan, picture: None })
    })
}

fn run_to_end(seed: u64, options: &Options) -> Result<Summary, Failure> {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(rng.fork(), options.hosts, options.without.clone());
    let mut shape = match &options.story {
        Some(story) => story.shape(),
        None if options.faults => Shape::drawn(options.hosts, &mut rng),
        None => Shape::calm(options.hosts),
    };
    if options.faults && options.story.is_none() {
        shape.balancer = Traits::drawn(seed, &shape);
    }
    let mut world = World::new(rng, &shape, options.loud);
    world.chronicle = options.picture.then(Chronicle::default);
    world.note(&format!("seed {seed}: {shape:?}"));
    let mut director = Director::new(options.clone(), shape, plan);
    director.open(&mut world);
    while director.stage != Stage::Over && world.judge.broken().is_none() {
        let Some(event) = world.pop() else { break };
        if matches!(event, Event::Director) {
            director.look(&mut world);
        } else {
            world.happen(event);
        }
        if world.trace.events() > EVENTS_MAX {
            world.judge.fail("progress: the run does not end");
        }
    }
    let picture = world.chronicle.take().map(|it| draw(&it, &options.title(seed)));
    match world.judge.broken() {
        Some(reason) => {
            let (reason, tail) = (reason.to_owned(), world.trace.tail(reason));
            let (plan, options) = (director.plan.items, Box::new(options.clone()));
            Err(Failure { seed, options, reason, tail, plan, picture })
        }
        None => Ok(Summary { picture, ..director.summary(world) }),
    }
}
