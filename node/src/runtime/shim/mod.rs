//! The shim: a small process that owns one service, so that the daemon can end, crash or be
//! upgraded while the service goes on.
//!
//! There is one per group. It is the same program as the daemon, entered by [`main`], and has a
//! directory of its own:
//!
//! | file | what it is |
//! | --- | --- |
//! | `shim.sock` | where the daemon asks, see [`message`] |
//! | `shim.lock` | held by the one shim that may serve this directory |
//! | `shim.pid` | the shim, by pid, start time and boot id |
//! | `shim.log` | what the shim itself has to say |
//! | `record` | the child, so that a new shim finds it again |
//! | `output.fifo` | the child's stdout and stderr |
//! | `output.log`, `output.log.1` | what it wrote, bounded |
//!
//! What happens to a child whose shim is killed: nothing. Its output goes to a FIFO that the child
//! holds open for reading *and* writing, so that no write fails for want of a reader; once the pipe
//! is full its writes wait until the daemon has started the next shim, which adopts the child by its
//! record and reads on where the last one stopped. Only the exit code of an adopted child is lost,
//! because the kernel tells it to the parent alone.
//!
//! The shim never restarts a child by itself: it reports, and the daemon's agent decides.

mod alive;
mod child;
mod containment;
mod entry;
#[cfg(test)]
mod golden;
mod identity;
mod launch;
pub mod message;
mod output;
mod record;
mod server;
mod sockets;
mod supervisor;

/// The socket in a shim's directory.
pub const SOCKET_FILE: &str = "shim.sock";

pub use entry::main;
pub use identity::Identity;
