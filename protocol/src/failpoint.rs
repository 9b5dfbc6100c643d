//! Named places between two steps, at which a test stops a daemon to kill it just there.
//!
//! They exist only with the feature `failpoints`, which `baton-tests` turns on for a daemon of its own
//! and the shipped binary does not have: without it [`reach`] does nothing at compile time.

/// A place, named after what has happened by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// The node holds a permit, and has not asked to begin.
    Granted,
    /// The log has begun the permit; the node's journal has not.
    Begun,
    /// The journal has it too, and nothing has moved.
    BegunRecorded,
    /// The balancer was told to drain.
    Draining,
    /// Drained; the service is not told to stop yet.
    Drained,
    /// The service has ended; the agent does not know it.
    Stopped,
    /// The journal has the new release; `current` has the old one.
    StartRecorded,
    /// `current` has the new release; nothing runs.
    CurrentMoved,
    /// The new process runs; the agent does not know it.
    Started,
    /// It is ready, and not for long enough.
    Ready,
    /// It is proven, and the log does not know it.
    Proven,
    /// The log has closed the permit; the journal has not.
    Closed,
    /// Half of a release's chunks are here.
    HalfFetched,
    /// A release is whole and synced, and not in its place.
    Synced,
    /// It is in its place, and nobody was told.
    Renamed,
    /// The last chunk that only the origin had is with another node.
    SeededOnce,
}

impl Failpoint {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Granted,
        Self::Begun,
        Self::BegunRecorded,
        Self::Draining,
        Self::Drained,
        Self::Stopped,
        Self::StartRecorded,
        Self::CurrentMoved,
        Self::Started,
        Self::Ready,
        Self::Proven,
        Self::Closed,
        Self::HalfFetched,
        Self::Synced,
        Self::Renamed,
        Self::SeededOnce,
    ];
}

#[cfg(feature = "failpoints")]
static ARMED: std::sync::OnceLock<(Failpoint, fn())> = std::sync::OnceLock::new();

/// Has this process call `act` whenever it reaches `at`. The first call counts.
#[cfg(feature = "failpoints")]
pub fn arm(at: Failpoint, act: fn()) {
    let _ = ARMED.set((at, act));
}

/// This process is at that place now.
#[cfg(feature = "failpoints")]
pub fn reach(point: Failpoint) {
    if let Some((at, act)) = ARMED.get()
        && *at == point
    {
        act();
    }
}

/// This process is at that place now: nothing happens, in a build that is not for such tests.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn reach(_point: Failpoint) {}
