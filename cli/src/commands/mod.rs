//! One file for each command.

pub mod deploy;
pub mod group;
pub mod init;
pub mod join;
pub mod lb;
pub mod node;
pub mod nodes;
pub mod rollout;
pub mod show;
pub mod token;
