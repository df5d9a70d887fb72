//! The problems that only the gateway has. Each says what is wrong, where, and what would be right.

use axum::http::StatusCode;

use super::query::{MAX_DEADLINE_SECONDS, MAX_WAIT_SECONDS};
use crate::bus::{Outcome, TaskResult, Team};
use crate::http::Problem;

pub(super) fn unknown_team(team: &Team) -> Problem {
    let Team { namespace, topology } = team;
    let detail = format!("there is no topology {topology:?} in namespace {namespace:?}, or the controller has not accepted it yet");
    Problem::new(StatusCode::NOT_FOUND, "unknown-topology", "The topology is not known", detail)
}

pub(super) fn unknown_pool(pool: &str, pools: &[&str]) -> Problem {
    let detail = format!("the topology has no pool {pool:?}: {}", listed("its pools are", "it has no pools", pools));
    Problem::new(StatusCode::NOT_FOUND, "unknown-pool", "The topology has no such pool", detail).with("pools", pools)
}

pub(super) fn unknown_capability(capability: &str, capabilities: &[&str]) -> Problem {
    let listed = listed("its pools can do", "its pools name no capabilities", capabilities);
    let detail = format!("no pool of the topology can do {capability:?}: {listed}");
    Problem::new(StatusCode::NOT_FOUND, "unknown-capability", "No pool has this capability", detail).with("capabilities", capabilities)
}

pub(super) fn suspended(pools: &[&str]) -> Problem {
    let detail = format!("{} suspended and takes no work: set spec.operatingMode to Running", named(pools));
    Problem::new(StatusCode::CONFLICT, "pool-suspended", "The pool is suspended", detail).with("pools", pools)
}

pub(super) fn no_ready_agent(pools: &[&str]) -> Problem {
    let detail = format!(
        "no agent of pool {} is ready, and the task has not been stored: try again, and see `kubectl skein status`",
        pools.join(", ")
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-ready-agent", "No agent is ready", detail).with("pools", pools).retry_after(5)
}

pub(super) fn bad_seconds(name: &str, given: &str) -> Problem {
    let longest = if name == "wait" { MAX_WAIT_SECONDS } else { MAX_DEADLINE_SECONDS };
    let shortest = u32::from(name != "wait");
    Problem::bad_request(format!("{name}={given} is not a whole number of seconds from {shortest} to {longest}"))
        .with("parameter", name)
        .with("minimum", shortest)
        .with("maximum", longest)
}

pub(super) fn malformed_id(id: &str) -> Problem {
    Problem::bad_request(format!("{id:?} is not the id of a task: that is a UUID of version 7, as the answer to a submission gives it"))
}

pub(super) fn unknown_task(id: &str) -> Problem {
    let detail = format!(
        "the journal of the topology holds no task {id} that came through the gateway: it was never sent, or is older than what the journal remembers"
    );
    Problem::new(StatusCode::NOT_FOUND, "unknown-task", "The task is not known", detail).with("id", id)
}

pub(super) fn starting() -> Problem {
    let detail = "the gateway has not read from the bus yet which topologies there are";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "The gateway is starting", detail).retry_after(1)
}

pub(super) fn too_many(what: &str, limit: usize) -> Problem {
    let detail = format!("{what}, which is as many as the gateway allows ({limit}): try again, or run more replicas");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The gateway has too much to do", detail).retry_after(2)
}

pub(super) fn too_slow(seconds: u64) -> Problem {
    let detail = format!("nothing more of the body came for {seconds} seconds; the task has not been stored");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The body came too slowly", detail)
}

pub(super) fn broken_off(why: &str) -> Problem {
    Problem::bad_request(format!("the body broke off before its end, and the task has not been stored: {why}"))
}

pub(super) fn key_reused(id: &str) -> Problem {
    let detail = "the Idempotency-Key was used for another task within the last ten minutes: use a new key for a new task";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", "The key belongs to another task", detail).with("id", id)
}

pub(super) fn key_forgotten() -> Problem {
    let detail = "the Idempotency-Key was used within the last ten minutes for a task that the journal has forgotten: use a new key";
    Problem::new(StatusCode::GONE, "key-forgotten", "The task of this key is forgotten", detail)
}

/// The journal did not say whether it has the task, and could not be asked again in time.
pub(super) fn perhaps_stored(id: &str, why: &str) -> Problem {
    let detail =
        format!("{why}; whether the task was stored is not known: ask for it by its id, or send it again with the same Idempotency-Key");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "perhaps-stored", "The bus went away", detail).with("id", id).retry_after(2)
}

/// The end of a task that has no result to give. To whoever asks the gateway, a team that could not do
/// its task is a server behind it that failed.
pub(super) fn of_outcome(result: &TaskResult) -> Option<Problem> {
    let mut problem = Problem::of_outcome(result)?;
    if result.outcome == Outcome::Failed {
        problem.status = StatusCode::BAD_GATEWAY;
    }
    let reason = result.reason.clone().unwrap_or_default();
    Some(problem.with("reason", reason).with("correlationId", result.correlation_id.as_str()))
}

fn listed(some: &str, none: &str, names: &[&str]) -> String {
    if names.is_empty() { none.to_owned() } else { format!("{some} {}", names.join(", ")) }
}

fn named(pools: &[&str]) -> String {
    match pools {
        [one] => format!("pool {one} is"),
        many => format!("pools {} are", many.join(", ")),
    }
}
