//! What travels between controller, sidecars and gateway: subjects, envelopes, heartbeats, programs;
//! and, under [`nats`], the client that carries it.
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
