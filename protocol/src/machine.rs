//! The one face that every machine of this crate has.

use crate::time::Instant;

/// A state machine that decides and does nothing itself.
///
/// The driver calls [`handle`](Machine::handle) with an input and the time, then
/// [`poll_output`](Machine::poll_output) until it is `None`, then sleeps until
/// [`poll_timeout`](Machine::poll_timeout) or the next input, whichever comes first. A timeout is
/// itself an input. `now` never goes back.
pub trait Machine {
    /// What can happen to the machine.
    type Input;
    /// What the machine wants done.
    type Output;

    /// Takes one input that happened at `now`.
    fn handle(&mut self, now: Instant, input: Self::Input);

    /// The next thing that the machine wants done, oldest first.
    fn poll_output(&mut self) -> Option<Self::Output>;

    /// When the machine wants to be woken, at the latest. A moment in the past means at once.
    fn poll_timeout(&self) -> Option<Instant>;
}
