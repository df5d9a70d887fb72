//! Decisions about failure: pure functions and state machines; time and randomness are arguments.

pub mod backoff;
pub mod budget;

pub use backoff::Backoff;
pub use budget::{Budget, Streak};
