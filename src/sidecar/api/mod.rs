//! The local API: what an agent may ask of its sidecar. HTTP/1.1 on the loopback interface; errors are
//! problem documents.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /v1/tasks/next?wait=` | takes a task, for an agent that pulls |
//! | `POST /v1/tasks/{id}/complete`, `/fail`, `/progress` | says what becomes of it |
//! | `POST /v1/tasks?to=` or `?capability=` | sends a task |
//! | `GET /v1/tasks/{id}`, `GET /v1/tasks/{id}/result` | what became of a task that was sent |
//! | `DELETE /v1/tasks/{id}` | cancels a task that was sent |
//! | `GET /v1/context`, `GET /v1/peers` | who the agent is, and whom it may reach |

pub mod cancel;
pub mod child;
pub mod context;
pub mod pull;
pub mod route;
pub mod tasks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;

use super::Sidecar;
use crate::bus::Team;
use crate::http::Problem;
use crate::topology::PoolProgram;

/// The longest time that a request may wait.
const LONGEST_WAIT: u32 = 3600;

/// The routes.
pub(super) fn router(sidecar: Arc<Sidecar>) -> Router {
    Router::new()
        .route("/v1/tasks", post(tasks::send))
        .route("/v1/tasks/next", get(pull::next))
        .route("/v1/tasks/{id}", get(tasks::get).delete(cancel::cancel))
        .route("/v1/tasks/{id}/result", get(tasks::result))
        .route("/v1/tasks/{id}/complete", post(pull::complete))
        .route("/v1/tasks/{id}/fail", post(pull::fail))
        .route("/v1/tasks/{id}/progress", post(pull::progress))
        .route("/v1/context", get(context::context))
        .route("/v1/peers", get(context::peers))
        .fallback(|uri: Uri| async move { Problem::no_such_path(uri.path()) })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move { Problem::no_such_method(method.as_str(), uri.path()) })
        .with_state(sidecar)
}

/// The program of the agent's pool; without one it is in no topology.
fn program(sidecar: &Sidecar) -> Result<Arc<PoolProgram>, Problem> {
    sidecar.program.borrow().clone().ok_or_else(|| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no-topology",
            "The pool is in no topology",
            "the pool is in no topology, or its topology has not been accepted: name it in the members of a topology",
        )
        .retry_after(5)
    })
}

/// The topology that the agent's pool is in.
fn team(sidecar: &Sidecar) -> Result<Arc<Team>, Problem> {
    program(sidecar).map(|program| sidecar.team(&program.topology))
}

/// The parameters of a request; what is unknown or not of its form is a problem.
fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    Query::try_from_uri(uri).map(|Query(parameters)| parameters).map_err(|rejection: QueryRejection| {
        let text = rejection.body_text();
        let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        Problem::bad_request(format!("the query of the request cannot be read: {text}"))
    })
}

/// A number of seconds to wait.
fn wait(seconds: Option<u32>) -> Result<Option<Duration>, Problem> {
    match seconds {
        Some(seconds) if seconds > LONGEST_WAIT => {
            Err(Problem::bad_request(format!("wait={seconds} is too long: {LONGEST_WAIT} seconds at most, and then ask again")))
        }
        seconds => Ok(seconds.map(|seconds| Duration::from_secs(seconds.into()))),
    }
}

/// A header as text; what is no text is a problem.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    headers
        .get(name)
        .map(|value| value.to_str().map_err(|_| Problem::bad_request(format!("the header {name} is not visible ASCII text"))))
        .transpose()
}
