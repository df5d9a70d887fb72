//! What a caller gets to see of tasks and outcomes. Pure.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header as http_header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::problems;
use crate::bus::envelope::header;
use crate::bus::nats::{StoredResult, StoredTask};
use crate::bus::{TaskResult, Team};
use crate::http::Problem;

/// The path of a task.
pub(super) fn path(team: &Team, id: &str) -> String {
    format!("/v1/namespaces/{}/topologies/{}/tasks/{id}", team.namespace, team.topology)
}

/// The result itself, or the problem that stands for the end of the task.
pub(super) fn result(result: TaskResult) -> Result<Response, Problem> {
    if let Some(problem) = problems::of_outcome(&result) {
        return Err(problem);
    }
    let mut response = Response::new(Body::from(result.payload.body));
    let headers = response.headers_mut();
    put(headers, http_header::CONTENT_TYPE, result.payload.content_type.as_deref().unwrap_or("application/octet-stream"));
    // What an agent returns is data; no browser is to guess that it is a page.
    put(headers, http_header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(headers, header::TASK_ID, &result.task_id);
    put(headers, header::CORRELATION_ID, &result.correlation_id);
    Ok(response)
}

/// The task has not ended.
pub(super) fn pending(team: &Team, id: &str) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(json!({"id": id}))).into_response();
    let headers = response.headers_mut();
    put(headers, http_header::LOCATION, &path(team, id));
    put(headers, header::TASK_ID, id);
    response
}

/// What is known of a task.
pub(super) fn state(stored: &StoredTask, ended: Option<&StoredResult>) -> Value {
    let task = &stored.task;
    let mut state = json!({
        "id": task.id,
        "outcome": ended.map_or("pending", |ended| ended.result.outcome.as_str()),
        "correlationId": task.correlation_id,
        "pool": stored.pool,
        "created": time(task.created),
        "input": content(task.payload.content_type.as_deref(), stored.bytes),
    });
    if let Some(deadline) = task.deadline {
        state["deadline"] = time(deadline);
    }
    if let Some(trace) = &task.trace.parent {
        state["traceparent"] = json!(trace);
    }
    if let Some(ended) = ended {
        let result = &ended.result;
        state["ended"] = time(result.created);
        state["agent"] = json!(result.from_agent);
        state["result"] = content(result.payload.content_type.as_deref(), ended.bytes);
        if let Some(reason) = &result.reason {
            state["reason"] = json!(reason);
        }
    }
    state
}

/// Adds the header that names the task of a problem.
pub(super) fn name_task(headers: &mut HeaderMap, id: &str) {
    put(headers, header::TASK_ID, id);
}

fn content(kind: Option<&str>, bytes: u64) -> Value {
    match kind {
        Some(kind) => json!({"contentType": kind, "bytes": bytes}),
        None => json!({"bytes": bytes}),
    }
}

/// A time for people and programs; a number that is no time stays one.
fn time(ms: i64) -> Value {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| json!(ms), |time| json!(time.to_string()))
}

/// Sets a header, unless its value cannot stand in one.
fn put<N: TryInto<HeaderName>>(headers: &mut HeaderMap, name: N, value: &str) {
    if let (Ok(name), Ok(value)) = (name.try_into(), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
