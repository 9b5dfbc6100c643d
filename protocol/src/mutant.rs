//! Deliberate mistakes, which the simulator must catch: the test of the tests.
//!
//! They exist only with the feature `mutants`, which `baton-netsim` and `baton-broken` turn on and the
//! shipped binary does not have: without it [`active`] is `false` at compile time and its branches are
//! gone.

/// One mistake that a run of the simulator can make on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A permit that was granted and not begun is forgotten after a while.
    PermitExpires,
    /// What must be durable is confirmed before it is synced.
    SkippedSync,
    /// What must be durable is confirmed, and so said, while it is on its way to the disk.
    SendBeforePersist,
    /// A node takes its first disruptive step on the grant, without waiting for `Begin`.
    BeginWithoutEcho,
    /// A node asks to begin before its disk tells of the question.
    AskBeforePersist,
    /// A permit is granted although the cap is used up.
    CapIgnored,
    /// The leader commits `Begin` without a look at its evidence.
    BeginWithoutEvidence,
    /// Members that say nothing are taken for available.
    SilenceIsConsent,
    /// Only permits use the cap up: members that are down without one count for nothing.
    CapOverLiveOnly,
    /// A node takes its first disruptive step before it has it on disk.
    StepBeforePersist,
    /// A new voter gets an id that another one has had.
    VoterIdReused,
    /// The permit of a removed member is forgotten before anybody says that it is fenced.
    RemovedForgotten,
    /// A daemon starts again under the number of its life before.
    OldIncarnation,
    /// A node counts as sent to by the balancers although none is seen to do so.
    UnseenByBalancer,
    /// A service is stopped without a word to the balancer, and whatever connections it has.
    DrainLeftOut,
    /// A holder hands in its proof as soon as its service runs.
    CloseUnproven,
    /// A holder that has moved says in a later life that it never began.
    MoveForgotten,
    /// A node begins on an echo that comes however late.
    LateEcho,
    /// What a member has once said is proof for ever.
    OldEvidence,
    /// A person is told that it is done when it is only asked for.
    AnswerBeforeCommit,
}

#[cfg(feature = "mutants")]
std::thread_local! {
    static ACTIVE: core::cell::Cell<Option<Mutant>> = const { core::cell::Cell::new(None) };
}

/// Makes `mutant` the one mistake of this thread from now on; `None` ends it.
#[cfg(feature = "mutants")]
pub fn set(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

#[cfg(feature = "mutants")]
static EVERYWHERE: std::sync::OnceLock<Mutant> = std::sync::OnceLock::new();

/// Makes `mutant` the one mistake of all threads, for as long as this process lives.
#[cfg(feature = "mutants")]
pub fn set_everywhere(mutant: Mutant) {
    let _ = EVERYWHERE.set(mutant);
}

/// Whether this thread is to make that mistake.
#[cfg(feature = "mutants")]
pub fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant) || EVERYWHERE.get() == Some(&mutant)
}

/// Whether this thread is to make that mistake: never, in a build that is not for the simulator.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn active(_mutant: Mutant) -> bool {
    false
}
