//! Effects on the API server that any controller needs: each is one request with a deadline, an answer
//! that can be acted on, and an error that says whether trying again can help.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`mod@read`], [`mod@write`] | the requests for objects |
//! | [`events`] | what people read under `kubectl describe` |
//! | [`election`] | one replica acts, the others stand by; what a lease says is in [`lease`] (pure) |
//! | [`ready`] | waits for the resource definitions |
//! | [`error`] | what went wrong, by what helps against it |
//!
//! Nothing here decides what should be done with an object.

pub mod election;
pub mod error;
pub mod events;
pub mod lease;
pub mod read;
pub mod ready;
pub mod write;

pub use error::{Class, Error};
pub use events::{Events, News};
