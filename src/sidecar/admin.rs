//! The server for the kubelet and Prometheus: what every role has, and the two targets of the agent's own
//! container.
//!
//! | path | answers |
//! | --- | --- |
//! | `/livez`, `/readyz`, `/metrics` | see [`crate::telemetry::admin`] |
//! | `/agent/livez` | 503 when the agent should be restarted |
//! | `/agent/drain` | 200 as soon as the agent has no task any more; it gets no new one |

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus::Registry;

use super::{Sidecar, drain};
use crate::telemetry::admin;

/// The routes.
pub(super) fn router(sidecar: Arc<Sidecar>, registry: Registry) -> Router {
    let asked = Arc::clone(&sidecar);
    let own = Router::new().route("/agent/livez", get(livez)).route("/agent/drain", get(drained)).with_state(sidecar);
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

async fn drained(State(sidecar): State<Arc<Sidecar>>) -> (StatusCode, String) {
    match drain::agent(&sidecar).await {
        Ok(()) => (StatusCode::OK, "drained\n".to_owned()),
        Err(left) => (StatusCode::SERVICE_UNAVAILABLE, format!("{left} tasks are left after the drain timeout\n")),
    }
}
