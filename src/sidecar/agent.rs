//! The HTTP client to an agent that listens: pushes tasks, asks for its health.
//!
//! Connections are kept for the next task, but not for long: many servers close an idle connection after
//! a few seconds, and a task that is sent at that very moment would be lost. No redirect is followed.

use std::borrow::Cow;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::config::Push;
use super::delivery::decide::Attempt;
use super::health::Check;
use crate::bus::envelope::{Payload, Trace, header as names};
use crate::bus::{Task, envelope};

const IDLE: Duration = Duration::from_millis(1500);
const CONNECT: Duration = Duration::from_secs(2);
/// How long a health check may take.
const CHECK: Duration = Duration::from_secs(2);
/// How much of an agent's refusal its sender gets to read.
const EXCERPT: usize = 512;

/// The agent of this pod. Cheap to clone.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

struct Inner {
    client: Client<HttpConnector, Full<Bytes>>,
    push: Push,
    task: Uri,
    health: Uri,
}

/// How the agent answered a task.
#[derive(Debug)]
pub struct Answer {
    /// What that means.
    pub attempt: Attempt,
    /// The result, when there is one.
    pub payload: Payload,
}

impl Agent {
    /// A client for an agent; connects to nothing yet.
    ///
    /// # Errors
    /// When one of its paths is not a path, which [`super::config`] excludes.
    pub fn new(push: &Push, concurrency: u32) -> Result<Self, String> {
        let uri = |path: &str| {
            format!("http://{}{path}", push.address).parse::<Uri>().map_err(|error| format!("{path:?} is not a path: {error}"))
        };
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(usize::try_from(concurrency).unwrap_or(1))
            .build(connector);
        Ok(Self(Arc::new(Inner { client, task: uri(&push.path)?, health: uri(&push.health_path)?, push: push.clone() })))
    }

    /// Gives the agent a task and waits for its answer, which may be `limit` bytes long.
    pub async fn ask(&self, task: &Task, attempt: u32, trace: &Trace, timeout: Duration, limit: usize) -> Answer {
        let request = match self.request(task, attempt, trace) {
            Ok(request) => request,
            Err(reason) => return Answer { attempt: Attempt::Refused { reason }, payload: Payload::default() },
        };
        match tokio::time::timeout(timeout, self.exchange(request, limit)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer { attempt: self.broken(&error).await, payload: Payload::default() },
            Err(_) => {
                let reason = format!("the agent did not answer within {} s", timeout.as_secs_f64());
                Answer { attempt: Attempt::Failed { class: "timeout", reason }, payload: Payload::default() }
            }
        }
    }

    /// Asks the agent how it is.
    pub async fn check(&self) -> Check {
        let mut request = Request::new(Full::default());
        request.uri_mut().clone_from(&self.0.health);
        match tokio::time::timeout(CHECK, self.0.client.request(request)).await {
            Ok(Ok(response)) => {
                let status = response.status();
                // Reading it to its end gives the connection back.
                let _ = tokio::time::timeout(CHECK, Limited::new(response.into_body(), 64 * 1024).collect()).await;
                match status {
                    StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Check::Well,
                    status if status.is_server_error() => Check::Unwell(status.as_u16()),
                    _ => Check::Well,
                }
            }
            // A connection that was kept breaks when the process ends.
            Ok(Err(error)) if error.is_connect() || !self.listens().await => Check::Nobody,
            Ok(Err(_)) | Err(_) => Check::Silent,
        }
    }

    fn request(&self, task: &Task, attempt: u32, trace: &Trace) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::new(Full::new(task.payload.body.clone()));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(&self.0.task);
        for (name, value) in headers(task, attempt, trace) {
            let value = HeaderValue::from_str(&value).map_err(|_| format!("its {name} cannot be a header of an HTTP request"))?;
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, limit: usize) -> Result<Answer, hyper_util::client::legacy::Error> {
        let response = self.0.client.request(request).await?;
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
        let content_type = header(header::CONTENT_TYPE);
        let retry_after = header(header::RETRY_AFTER);
        let read = Limited::new(response.into_body(), limit).collect().await;
        let body = match read {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() && status.is_success() => {
                let reason =
                    format!("the agent's result is larger than the {limit} bytes that the bus takes: return a reference to it instead");
                return Ok(Answer { attempt: Attempt::Refused { reason }, payload: Payload::default() });
            }
            Err(error) if error.is::<LengthLimitError>() => Bytes::new(),
            Err(error) => {
                let reason = format!("the agent's answer broke off: {error}");
                return Ok(Answer { attempt: self.lost(reason).await, payload: Payload::default() });
            }
        };
        let attempt = classify(status, retry_after.as_deref(), &body);
        let payload = if attempt == Attempt::Answered { Payload { body, content_type } } else { Payload::default() };
        Ok(Answer { attempt, payload })
    }

    /// What a request means that has no response.
    async fn broken(&self, error: &hyper_util::client::legacy::Error) -> Attempt {
        if error.is_connect() {
            return Attempt::NotBegun { reason: format!("nothing answers on port {}", self.0.push.address.port()) };
        }
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        if error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>()).is_some_and(hyper::Error::is_parse) {
            return Attempt::Refused { reason: format!("the agent's answer is not HTTP: {cause}") };
        }
        self.lost(format!("the connection to the agent broke while it worked: {cause}")).await
    }

    /// A connection that breaks is the end of the agent's process, unless it still listens: then it only
    /// let go of this one task, and would let go of it again at once.
    async fn lost(&self, reason: String) -> Attempt {
        if self.listens().await { Attempt::Failed { class: "connection", reason } } else { Attempt::Lost { reason } }
    }

    async fn listens(&self) -> bool {
        let connection = tokio::net::TcpStream::connect(self.0.push.address);
        matches!(tokio::time::timeout(CONNECT, connection).await, Ok(Ok(_)))
    }
}

/// The headers with which an agent is given a task, pushed or pulled.
#[must_use]
pub fn headers<'a>(task: &'a Task, attempt: u32, trace: &'a Trace) -> Vec<(&'static str, Cow<'a, str>)> {
    let deadline = task.deadline.and_then(|deadline| jiff::Timestamp::from_millisecond(deadline).ok());
    let always = [
        (names::TASK_ID, Cow::from(&task.id)),
        (names::CORRELATION_ID, Cow::from(&task.correlation_id)),
        ("Skein-From", Cow::from(&task.from_pool)),
        ("Skein-Attempt", Cow::from(attempt.to_string())),
    ];
    let ancestry = (!task.ancestry.is_empty()).then(|| Cow::from(task.ancestry.join(",")));
    let sometimes = [
        (names::ANCESTRY, ancestry),
        (names::DEADLINE, deadline.map(|deadline| Cow::from(deadline.to_string()))),
        (envelope::header::CONTENT_TYPE, task.payload.content_type.as_ref().map(Cow::from)),
        (names::TRACEPARENT, trace.parent.as_ref().map(Cow::from)),
        (names::TRACESTATE, trace.state.as_ref().map(Cow::from)),
    ];
    always.into_iter().chain(sometimes.into_iter().filter_map(|(name, value)| Some((name, value?)))).collect()
}

/// What the status of an answer means.
fn classify(status: StatusCode, retry_after: Option<&str>, body: &[u8]) -> Attempt {
    let reason = || {
        let text = excerpt(body);
        if text.is_empty() {
            format!("the agent answered {}", status.as_u16())
        } else {
            format!("the agent answered {}: {text}", status.as_u16())
        }
    };
    match status {
        status if status.is_success() => Attempt::Answered,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Attempt::Overloaded { reason: reason(), after: retry_after.and_then(|value| wait(value, jiff::Timestamp::now())) }
        }
        status if status.is_server_error() => Attempt::Failed { class: "error", reason: reason() },
        status if status.is_redirection() => {
            Attempt::Refused { reason: format!("the agent answered {}, and redirects are not followed", status.as_u16()) }
        }
        _ => Attempt::Refused { reason: reason() },
    }
}

/// Reads a `Retry-After`: seconds, or a date.
fn wait(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// The beginning of a body, when it is text.
fn excerpt(body: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(body) else { return String::new() };
    let text = text.trim();
    let mut short: String = text.chars().take(EXCERPT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The moment until which an agent that is asked now may work.
#[must_use]
pub fn until(timeout: Duration) -> Instant {
    Instant::now() + timeout
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn of(status: u16, retry_after: Option<&str>, body: &str) -> Attempt {
        classify(StatusCode::from_u16(status).unwrap(), retry_after, body.as_bytes())
    }

    #[test]
    fn a_status_says_whether_another_attempt_makes_sense() {
        assert_eq!(of(204, None, ""), Attempt::Answered);
        assert_eq!(of(422, None, " no such file\n"), Attempt::Refused { reason: "the agent answered 422: no such file".into() });
        assert_eq!(of(500, None, ""), Attempt::Failed { class: "error", reason: "the agent answered 500".into() });
        assert_eq!(of(302, None, ""), Attempt::Refused { reason: "the agent answered 302, and redirects are not followed".into() });
        let after = Some(Duration::from_secs(7));
        assert_eq!(of(429, Some("7"), ""), Attempt::Overloaded { reason: "the agent answered 429".into(), after });
        assert_eq!(of(503, Some("soon"), ""), Attempt::Overloaded { reason: "the agent answered 503".into(), after: None });
    }

    #[test]
    fn retry_after_may_be_a_date() {
        let now = "2026-11-24T18:00:00Z".parse().unwrap();
        assert_eq!(wait("Tue, 24 Nov 2026 18:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(wait("Tue, 24 Nov 2026 17:00:00 GMT", now), Some(Duration::ZERO));
    }

    #[test]
    fn an_excerpt_is_text_and_short() {
        assert_eq!(excerpt(&[0xff, 0xfe]), "");
        assert_eq!(excerpt("ä".repeat(600).as_bytes()).chars().count(), EXCERPT + 1);
    }
}
