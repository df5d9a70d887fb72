//! The server for the kubelet and Prometheus: what every role has, and what the kubelet asks of an agent's
//! pod.
//!
//! | path | answers |
//! | --- | --- |
//! | `/livez`, `/readyz`, `/metrics` | see [`crate::telemetry::admin`] |
//! | `/agent/livez` | 503 when the agent should be restarted |
//! | `/agent/drain?key=` | 200 as soon as the agent has no task any more; it gets no new one |
//! | `/pod/end?key=` | 200 at once; the agent gets no task any more |
//!
//! Every pod of the cluster may reach this server. The key keeps others than the kubelet from ending an
//! agent's work: it is in the hooks of the pod, which only those can read who can read pods.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use prometheus::Registry;
use serde::Deserialize;

use super::{Sidecar, drain};
use crate::http::Problem;
use crate::telemetry::admin;

/// The routes.
pub(super) fn router(sidecar: Arc<Sidecar>, registry: Registry) -> Router {
    let asked = Arc::clone(&sidecar);
    let own = Router::new()
        .route("/agent/livez", get(livez))
        .route("/agent/drain", get(drained))
        .route("/pod/end", get(ending))
        .with_state(sidecar);
    admin::router(registry, Arc::new(move || asked.state.now().ready())).merge(own)
}

async fn livez(State(sidecar): State<Arc<Sidecar>>) -> (StatusCode, String) {
    let working = sidecar.in_flight.working(std::time::Instant::now());
    let verdict = sidecar.monitor.verdict(working);
    if verdict.restart {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", verdict.reason.unwrap_or_default()))
    } else {
        (StatusCode::OK, "ok\n".to_owned())
    }
}

async fn drained(State(sidecar): State<Arc<Sidecar>>, uri: Uri) -> Result<(StatusCode, String), Problem> {
    authorize(&sidecar, &uri)?;
    Ok(match drain::agent(&sidecar).await {
        Ok(()) => (StatusCode::OK, "drained\n".to_owned()),
        Err(left) => (StatusCode::SERVICE_UNAVAILABLE, format!("{left} tasks are left after the drain timeout\n")),
    })
}

async fn ending(State(sidecar): State<Arc<Sidecar>>, uri: Uri) -> Result<&'static str, Problem> {
    authorize(&sidecar, &uri)?;
    drain::pod(&sidecar);
    Ok("no task is taken any more\n")
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

/// Lets through whoever has the key.
fn authorize(sidecar: &Sidecar, uri: &Uri) -> Result<(), Problem> {
    let key = Query::<Key>::try_from_uri(uri).map(|Query(query)| query.key);
    if key.is_ok_and(|key| key == sidecar.config.hook_key) {
        return Ok(());
    }
    let detail = format!("{} is for the kubelet alone: ?key= is missing or is not the one in the hooks of this pod", uri.path());
    Err(Problem::new(StatusCode::FORBIDDEN, "wrong-key", "The key is wrong", detail))
}
