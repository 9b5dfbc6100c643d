//! How a service is run on this host: started, watched, probed, drained and ended.
//!
//! * [`shim`]: a small process per service that outlives the daemon and owns the child
//! * [`exec`]: the daemon's handle on that shim
//! * [`probe`]: whether a service answers
//! * [`drain`]: how many connections it still has, by the kernel's word
//! * [`agent_check`]: what HAProxy is told about it
//! * [`logs`]: what it has written

pub mod agent_check;
pub mod drain;
pub mod exec;
pub mod logs;
pub mod probe;
mod program;
pub mod shim;
