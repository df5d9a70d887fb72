//! Effects on the API server that any controller needs: each is one request with a deadline, an answer
//! that can be acted on, and an error that says whether trying again can help.
//!
//! Nothing here decides what should be done.

pub mod election;
pub mod error;
pub mod events;
pub mod lease;
pub mod read;
pub mod ready;
pub mod write;

pub use error::{Class, Error};
pub use events::{Events, News};
