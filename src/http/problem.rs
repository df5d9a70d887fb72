//! Problem documents (RFC 9457): what every error of an HTTP interface of Skein looks like.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::bus::nats::BusError;
use crate::bus::{Outcome, TaskResult};

const TYPES: &str = "https://skein.dev/problems/";

/// An error, as the client of an HTTP interface learns of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The status of the response.
    pub status: StatusCode,
    /// What kind of problem it is, in kebab case: the end of its `type`.
    pub kind: &'static str,
    /// The kind of problem, for people.
    pub title: &'static str,
    /// What is wrong this time, and what would be right.
    pub detail: String,
    /// After how many seconds the same request may succeed.
    pub retry_after: Option<u32>,
    /// Further members.
    pub members: Map<String, Value>,
}

impl Problem {
    /// A problem without further members.
    #[must_use]
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into(), retry_after: None, members: Map::new() }
    }

    /// A request that makes no sense.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request makes no sense", detail)
    }

    /// A body that is larger than the bus takes.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than the {limit} bytes that the bus takes: send a reference to it instead");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail).with("limitBytes", limit)
    }

    /// A path that does not exist.
    #[must_use]
    pub fn no_such_path(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-path", "There is nothing at this path", format!("there is nothing at {path}"))
    }

    /// A method that a path does not have.
    #[must_use]
    pub fn no_such_method(method: &str, path: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", "The path has no such method", format!("{path} has no method {method}"))
    }

    /// A task of which nothing is known.
    #[must_use]
    pub fn unknown_task(id: &str) -> Self {
        let detail = format!("no outcome of task {id:?} is in the journal: it has not ended, or it is not a task that was sent from here");
        Self::new(StatusCode::NOT_FOUND, "unknown-task", "The task is not known", detail).with("id", id)
    }

    /// A task that cannot be cancelled any more.
    #[must_use]
    pub fn has_ended(id: &str, outcome: Outcome) -> Self {
        let detail = format!("task {id:?} cannot be cancelled any more: it is {outcome}");
        Self::new(StatusCode::CONFLICT, "task-ended", "The task has ended", detail).with("id", id).with("outcome", outcome.as_str())
    }

    /// The end of a task that did not complete; `None` when it did.
    #[must_use]
    pub fn of_outcome(result: &TaskResult) -> Option<Self> {
        let (status, kind, title) = match result.outcome {
            Outcome::Completed => return None,
            Outcome::Failed => (StatusCode::UNPROCESSABLE_ENTITY, "task-failed", "The agent could not do the task"),
            Outcome::Expired => (StatusCode::GATEWAY_TIMEOUT, "task-expired", "The deadline of the task passed"),
            Outcome::Cancelled => (StatusCode::GONE, "task-cancelled", "The task was cancelled"),
            Outcome::Dead => (StatusCode::BAD_GATEWAY, "task-dead", "No agent could do the task"),
        };
        let detail = result.reason.clone().unwrap_or_else(|| format!("the task is {}", result.outcome));
        Some(
            Self::new(status, kind, title, detail)
                .with("id", result.task_id.as_str())
                .with("outcome", result.outcome.as_str())
                .with("pool", result.from_pool.as_str())
                .with("agent", result.from_agent.as_str()),
        )
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<&BusError> for Problem {
    fn from(error: &BusError) -> Self {
        let detail = error.to_string();
        let unavailable = |kind, title| Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, detail.clone());
        match error {
            BusError::Disconnected | BusError::Timeout => unavailable("bus-unavailable", "The bus is away").retry_after(1),
            BusError::Full => unavailable("journal-full", "The journal is full").retry_after(10),
            BusError::NoJournal => unavailable("no-journal", "The topology has no journal yet").retry_after(2),
            BusError::TooLarge { limit } => Self::too_large(*limit),
            BusError::Other(_) => Self::new(StatusCode::BAD_GATEWAY, "bus-refused", "The bus refused", detail),
        }
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        Self::from(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = self.members;
        document.insert("type".to_owned(), json!(format!("{TYPES}{}", self.kind)));
        document.insert("title".to_owned(), json!(self.title));
        document.insert("status".to_owned(), json!(self.status.as_u16()));
        document.insert("detail".to_owned(), json!(self.detail));
        let body = format!("{}\n", Value::Object(document));
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::envelope::{Payload, Trace};
    use http_body_util::BodyExt as _;
    use pretty_assertions::assert_eq;

    #[tokio::test]
    async fn a_problem_is_a_document_with_its_status_and_members() {
        let response = Problem::from(BusError::Disconnected).with("id", "t").into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({
                "type": "https://skein.dev/problems/bus-unavailable",
                "title": "The bus is away",
                "status": 503,
                "detail": "there is no connection to the bus",
                "id": "t",
            })
        );
    }

    #[test]
    fn every_outcome_but_success_is_a_problem_of_its_own() {
        let problems: Vec<_> = Outcome::ALL
            .into_iter()
            .filter_map(|outcome| {
                Problem::of_outcome(&TaskResult {
                    task_id: "t".into(),
                    correlation_id: "c".into(),
                    from_pool: "p".into(),
                    from_agent: "p-0".into(),
                    created: 0,
                    outcome,
                    reason: None,
                    trace: Trace::default(),
                    payload: Payload::default(),
                })
            })
            .map(|problem| (problem.kind, problem.status.as_u16()))
            .collect();
        assert_eq!(problems, [("task-failed", 422), ("task-expired", 504), ("task-cancelled", 410), ("task-dead", 502)]);
    }
}
