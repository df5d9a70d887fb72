//! The client of the broker: everything that Skein says to NATS, and nothing else says anything to it.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`connection`] | one connection that never gives up |
//! | [`error`] | what can go wrong, one sentence each |
//! | [`publish`] | tasks, results and dead letters; only the broker's acknowledgement is success |
//! | [`consumer`] | pulls tasks one by one, and says what became of them |
//! | [`results`] | waits for outcomes, and finds old ones |
//! | [`cancel`] | cancels tasks, and learns which have been |
//! | [`search`] | finds one task by its id |
//! | `direct` | reads messages of a stream without a consumer |
//! | [`programs`] | what the controller wants sidecars and gateway to know |
//! | [`journal`] | what streams, consumers and the bucket must look like; pure |
//! | [`trim`] | what a journal may forget; pure |
//! | [`admin`] | makes, changes, purges and deletes them; for the controller alone |
//! | [`rebuild`] | makes a lost queue again out of its journal; for the controller alone |
//!
//! Every call that waits for the broker has a deadline, and fails at once while the connection is
//! known to be away.

pub mod admin;
pub mod cancel;
pub mod connection;
pub mod consumer;
mod direct;
pub mod error;
pub mod journal;
pub mod programs;
pub mod publish;
pub mod rebuild;
pub mod results;
pub mod search;
pub mod trim;

pub use cancel::{Cancellations, Canceller};
pub use connection::Bus;
pub use consumer::{Delivery, Puller};
pub use error::BusError;
pub use publish::Published;
pub use results::{Results, Search, Waiting};
pub use search::{StoredResult, StoredTask};
