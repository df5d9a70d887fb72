//! What travels between controller, sidecars and gateway, and, under [`nats`], the client that carries it.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`subjects`] | every subject, stream, consumer and key |
//! | [`envelope`] | tasks and results, as headers round a payload |
//! | [`ids`] | the ids of tasks, which hold their time |
//! | [`trace`] | one trace for all that follows from a task |
//! | [`heartbeat`] | how an agent is, as its sidecar says it |
//! | [`nats`] | the client of the broker |
//!
//! One journal (a stream) per topology is the truth: tasks, results and dead letters are messages in
//! it, and queues are readers of it. Everything but [`nats`] is pure.

pub mod envelope;
pub mod heartbeat;
pub mod ids;
pub mod nats;
pub mod subjects;
pub mod trace;

pub use envelope::{Outcome, Task, TaskResult};
pub use heartbeat::{Health, Heartbeat};
pub use subjects::Team;
