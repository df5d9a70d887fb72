//! Who the agent is, and whom it may reach.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::program;
use crate::http::Problem;
use crate::sidecar::Sidecar;
use crate::sidecar::state::Drain;

/// `GET /v1/context`: the agent itself.
pub(super) async fn context(State(sidecar): State<Arc<Sidecar>>) -> Json<Value> {
    let snapshot = sidecar.state.now();
    let revision = sidecar.program.borrow().as_ref().map(|program| program.revision.clone());
    let config = &sidecar.config;
    let ready = snapshot.ready();
    let mut tasks = sidecar.in_flight.all();
    tasks.sort_by(|a, b| a.task.id.cmp(&b.task.id));
    let tasks: Vec<Value> = tasks
        .into_iter()
        .map(|in_hand| {
            json!({
                "id": in_hand.task.id,
                "correlationId": in_hand.task.correlation_id,
                "from": in_hand.task.from_pool,
                "ancestry": in_hand.task.ancestry,
                "depth": in_hand.task.ancestry.len(),
                "attempt": in_hand.attempt,
                "deadline": in_hand.task.deadline.and_then(|ms| Timestamp::from_millisecond(ms).ok()).map(|time| time.to_string()),
            })
        })
        .collect();
    Json(json!({
        "namespace": config.identity.namespace,
        "pool": config.identity.pool,
        "agent": config.identity.agent,
        "topology": snapshot.topology,
        "revision": revision,
        "ready": ready.is_ok(),
        "reason": ready.err(),
        "health": snapshot.agent.health,
        "busConnected": snapshot.connected,
        "draining": snapshot.drain != Drain::No,
        "tasks": tasks,
        "limits": {
            "maxBodyBytes": sidecar.bus.max_payload(),
            "concurrency": config.concurrency,
            "timeoutSeconds": config.timeout.as_secs(),
        },
    }))
}

/// `GET /v1/peers`: the pools that the agent may send to, and who can do what.
pub(super) async fn peers(State(sidecar): State<Arc<Sidecar>>) -> Result<Json<Value>, Problem> {
    let program = program(&sidecar)?;
    let mut capabilities: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for route in &program.routes {
        for capability in &route.capabilities {
            capabilities.entry(capability).or_default().push(&route.pool);
        }
    }
    let pools: Vec<Value> = program
        .routes
        .iter()
        .map(|route| {
            json!({
                "pool": route.pool,
                "relation": route.relation,
                "capabilities": route.capabilities,
                "suspended": route.suspended,
            })
        })
        .collect();
    Ok(Json(json!({ "topology": program.topology, "pools": pools, "capabilities": capabilities })))
}
