//! x
pub mod runtime;
