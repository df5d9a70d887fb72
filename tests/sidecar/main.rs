//! Sidecars as processes, on a real broker, with scripted agents.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod cancelling;
mod delegation;
mod delivery;
mod draining;
mod health;
mod pulling;
mod relay;
mod sending;

use std::sync::Arc;

use skein::bus::Task;
use skein::bus::nats::Waiting;
use tokio::sync::Semaphore;

use support::agent::Agent;
use support::nats::Nats;
use support::sidecar::{Options, Sidecar};
use support::team::Team;

/// An agent in the middle of a task, its sidecar, and who waits for the outcome.
struct AtWork {
    agent: Agent,
    /// A permit lets the agent answer.
    go: Arc<Semaphore>,
    sidecar: Sidecar,
    task: Task,
    waiting: Waiting,
}

impl AtWork {
    /// Starts agent and sidecar, and sends the task.
    async fn start(nats: &Nats, team: &Team) -> Self {
        let (agent, go) = Agent::held();
        let sidecar = Sidecar::start(nats, &Options::new("coder", "coder-0", Some(agent.port))).await;
        let task = team.task("x");
        let waiting = team.results.expect(&team.name, &task.id);
        team.send("coder", &task).await;
        agent.got_number(1).await;
        Self { agent, go, sidecar, task, waiting }
    }
}
