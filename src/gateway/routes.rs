//! The paths of the gateway, as `docs/reference/gateway-openapi.yaml` describes them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::state::Gateway;
use super::{answer, cancel, read, submit};
use crate::bus::Team;
use crate::http::Problem;

const TASKS: &str = "/v1/namespaces/{namespace}/topologies/{topology}/tasks";
const TASK: &str = "/v1/namespaces/{namespace}/topologies/{topology}/tasks/{id}";
const RESULT: &str = "/v1/namespaces/{namespace}/topologies/{topology}/tasks/{id}/result";

/// Every route: its method and its path. A test compares them with the OpenAPI document.
pub const ROUTES: [(&str, &str); 4] = [("post", TASKS), ("get", TASK), ("delete", TASK), ("get", RESULT)];

type Shared = State<Arc<Gateway>>;
type TeamPath = Result<Path<(String, String)>, PathRejection>;
type TaskPath = Result<Path<(String, String, String)>, PathRejection>;

pub(super) fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route(TASKS, post(submission))
        .route(TASK, get(task).delete(cancellation))
        .route(RESULT, get(result))
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_path)
        .with_state(gateway)
}

async fn submission(State(gateway): Shared, path: TeamPath, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    let answer = match path.map_err(bad_path) {
        Ok(Path((namespace, topology))) => submit::submit(&gateway, Team::new(namespace, topology), &uri, &headers, body).await,
        Err(problem) => Err(problem),
    };
    finish(&gateway, "submit", answer)
}

async fn task(State(gateway): Shared, path: TaskPath, uri: Uri) -> Response {
    let answer = match path.map_err(bad_path) {
        Ok(Path((namespace, topology, id))) => read::task(&gateway, &Team::new(namespace, topology), &id, &uri).await,
        Err(problem) => Err(problem),
    };
    finish(&gateway, "task", answer)
}

async fn cancellation(State(gateway): Shared, path: TaskPath, uri: Uri) -> Response {
    let answer = match path.map_err(bad_path) {
        Ok(Path((namespace, topology, id))) => cancel::cancel(&gateway, &Team::new(namespace, topology), &id, &uri).await,
        Err(problem) => Err(problem),
    };
    finish(&gateway, "cancel", answer)
}

async fn result(State(gateway): Shared, path: TaskPath, uri: Uri) -> Response {
    let answer = match path.map_err(bad_path) {
        Ok(Path((namespace, topology, id))) => read::result(&gateway, &Team::new(namespace, topology), &id, &uri).await,
        Err(problem) => Err(problem),
    };
    finish(&gateway, "result", answer)
}

async fn no_such_path(State(gateway): Shared, uri: Uri) -> Response {
    finish(&gateway, "other", Err(Problem::no_such_path(uri.path())))
}

async fn no_such_method(State(gateway): Shared, method: Method, uri: Uri) -> Response {
    finish(&gateway, "other", Err(Problem::no_such_method(method.as_str(), uri.path())))
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err wants it")]
fn bad_path(error: PathRejection) -> Problem {
    Problem::bad_request(format!("the path of the address cannot be read: {error}"))
}

fn finish(gateway: &Gateway, route: &str, answer: Result<Response, Problem>) -> Response {
    let (response, kind) = match answer {
        Ok(response) => (response, None),
        Err(problem) => {
            let kind = problem.kind;
            let id = problem.members.get("id").and_then(|id| id.as_str()).map(str::to_owned);
            let mut response = problem.into_response();
            if let Some(id) = id {
                answer::name_task(response.headers_mut(), &id);
            }
            (response, Some(kind))
        }
    };
    gateway.metrics.answered(route, response.status().as_u16(), kind);
    response
}
