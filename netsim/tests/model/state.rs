//! What the model is made of: voters, holders, what is said, and what can happen.

use std::collections::BTreeSet;

pub(crate) const VOTERS: usize = 3;
pub(crate) const HOLDERS: usize = 2;

/// A mistake that the model must be able to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A holder acts as soon as it sees its permit, and does not ask to begin.
    ActsOnGrant,
    /// A holder that said "never began" asks to begin all the same.
    ForgetsHandBack,
    /// A holder that gave its permit back acts on the number that it named.
    GivesBackAndActs,
    /// A leader takes for agreed what it has alone.
    AgreesAlone,
}

/// How far the model goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) terms: u8,
    pub(crate) entries: usize,
    pub(crate) grants: usize,
    pub(crate) nonces: u8,
    pub(crate) crashes: u8,
    pub(crate) overrides: u8,
}

/// A place in the log, from 0, after what the mesh was founded with.
pub(crate) type Place = u8;

/// What can stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Said {
    /// The first entry of a leader's term (section 5.4.2 of the paper).
    Nothing,
    Grant {
        to: usize,
    },
    Begin {
        by: usize,
        permit: Place,
        life: u8,
        nonce: u8,
    },
    Ready {
        by: usize,
        permit: Place,
        life: u8,
    },
    NeverBegan {
        by: usize,
        permit: Place,
        life: u8,
    },
    /// It serves, whatever an earlier life began under this number.
    Serves {
        by: usize,
        permit: Place,
        life: u8,
        begun: u8,
    },
    Live {
        by: usize,
        life: u8,
    },
    /// A person takes back a permit that has come so far, and does not say that its holder is fenced.
    Override {
        permit: Place,
        begun: Option<(u8, u8)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Voter {
    pub(crate) term: u8,
    pub(crate) leads: bool,
    pub(crate) log: Vec<(u8, Said)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    /// Entries that it has applied.
    pub(crate) seen: usize,
    pub(crate) life: u8,
    pub(crate) nonces: u8,
    /// What it asks for in this life, under which number.
    pub(crate) asks: Option<(Place, u8)>,
    pub(crate) handed_back: Option<Place>,
    /// By its journal: it outlives the daemon.
    pub(crate) begun: Option<Place>,
    /// Its journal tells of the move that it is about to make.
    pub(crate) acts: bool,
    pub(crate) down: bool,
    /// Whether the new release runs.
    pub(crate) renewed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// In some order, as none is unlike another.
    pub(crate) voters: Vec<Voter>,
    /// What a majority of the voters once had, in the term of its leader.
    pub(crate) agreed: Vec<Said>,
    /// A leader found something else agreed than was agreed before it.
    pub(crate) diverged: bool,
    pub(crate) holders: Vec<Holder>,
    /// All that was ever said to a leader: it may arrive at any time.
    pub(crate) words: BTreeSet<Said>,
    pub(crate) crashes: u8,
    pub(crate) overrides: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The first becomes leader by its own vote and the second's.
    Elect(usize, usize),
    /// The first, a leader, sends its log to the second.
    Replicate(usize, usize),
    /// A leader grants, or hears a word.
    Append(usize, Said),
    /// A holder applies entries until there is news for it.
    Learn(usize, usize),
    Ask(usize, Place),
    /// A holder's request is too old by now.
    GiveUp(usize),
    HandBack(usize, Place),
    /// A holder that an earlier life has left in service gives back what that life began.
    GiveBack(usize, Place),
    /// A holder writes down that it moves.
    Record(usize, Place),
    Act(usize),
    /// The new release is in service.
    Serve(usize),
    SayReady(usize, Place),
    /// A holder's daemon dies and starts again. Its service stays as it is.
    Crash(usize),
    Override(Place, Option<(u8, u8)>),
}

/// A holder's open permit, as some log has it: its place, and the life and the number that began it.
pub(crate) type Held = Option<(Place, Option<(u8, u8)>)>;
