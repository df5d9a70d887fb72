//! Decisions about failure: pure functions and state machines; time and randomness are arguments.

pub mod backoff;

pub use backoff::Backoff;
