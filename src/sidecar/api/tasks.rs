//! Sending tasks, and asking what became of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use prometheus::IntGauge;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use tracing::debug;

use super::route::{Target, route};
use super::{cancel, child, parameters, program, team, text, wait};
use crate::bus::envelope::{Payload, Trace, header as names};
use crate::bus::nats::{BusError, StoredTask, Waiting};
use crate::bus::{Task, TaskResult, Team, ids, trace};
use crate::http::{Problem, body};
use crate::sidecar::Sidecar;
use crate::sidecar::inflight::InHand;
use crate::topology::delegation;

/// How often an outcome is looked for that another agent may have been told of.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Send {
    to: Option<String>,
    capability: Option<String>,
    wait: Option<u32>,
    deadline: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    wait: Option<u32>,
}

/// `POST /v1/tasks`: sends a task, and waits for its outcome if asked to.
pub(super) async fn send(State(sidecar): State<Arc<Sidecar>>, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let outcome = try_send(&sidecar, &uri, &headers, body).await;
    let (word, response) = match outcome {
        Ok(sent) => sent,
        Err((problem, word)) => {
            sidecar.metrics.sent(word);
            if delegation::REASONS.contains(&word) {
                sidecar.metrics.refused_delegation("sending", word);
            }
            return Err(problem);
        }
    };
    sidecar.metrics.sent(word);
    response.finish(&sidecar).await
}

/// A task that has been sent.
struct Sent {
    id: String,
    team: Arc<Team>,
    waiting: Option<(Waiting, Instant)>,
    /// Whether the outcome may be one that nobody repeats: of a task that was sent before.
    before: Before,
}

/// Whether a task was sent before.
#[derive(Clone, Copy)]
enum Before {
    No,
    /// So long ago that the journal takes it for another one, if at all.
    Perhaps,
    Yes,
}

async fn try_send(sidecar: &Sidecar, uri: &Uri, headers: &HeaderMap, body: Body) -> Result<(&'static str, Sent), (Problem, &'static str)> {
    let bad = |problem| (problem, "bad_request");
    let query: Send = parameters(uri).map_err(bad)?;
    let target = match (&query.to, &query.capability) {
        (Some(pool), None) => Target::Pool(pool),
        (None, Some(capability)) => Target::Capability(capability),
        _ => return Err(bad(Problem::bad_request("say whom the task is for: either ?to=<pool> or ?capability=<capability>"))),
    };
    let patience = wait(query.wait).map_err(bad)?;
    let named = text(headers, names::TASK_ID).map_err(bad)?;
    // Of many tasks in hand, only the one that is named need be looked at.
    let in_hand = named.map_or_else(|| sidecar.in_flight.all(), |id| sidecar.in_flight.get(id).into_iter().collect());
    let parent = child::parent(named, in_hand).map_err(bad)?;
    let ancestry = child::ancestry(parent.as_ref().map(|parent| &*parent.task), &sidecar.config.identity.pool);
    let key = text(headers, "Idempotency-Key").map_err(bad)?;
    let program = program(sidecar).map_err(|problem| (problem, "unavailable"))?;
    let turn = sidecar.turn.fetch_add(1, Ordering::Relaxed);
    let to_pool = &route(&program, &sidecar.config.identity.pool, &ancestry, target, turn)?.pool;
    let team = sidecar.team(&program.topology);
    if !sidecar.bus.connected() {
        return Err((BusError::Disconnected.into(), "unavailable"));
    }
    let payload = Payload {
        body: body::read(body, sidecar.bus.max_payload()).await.map_err(|problem| {
            let word = if problem.status == StatusCode::PAYLOAD_TOO_LARGE { "too_large" } else { "bad_request" };
            (problem, word)
        })?,
        content_type: text(headers, header::CONTENT_TYPE.as_str()).map_err(bad)?.map(str::to_owned),
    };
    let context = context(headers, parent.as_ref()).map_err(bad)?;
    let id = match (key, named) {
        (None, _) => ids::fresh(),
        (Some(key), Some(parent)) => ids::keyed(parent, key),
        (Some(key), None) => ids::keyed(&format!("{}/{}", sidecar.config.identity.namespace, sidecar.config.identity.pool), key),
    };
    let created = Timestamp::now().as_millisecond();
    let task = Task {
        correlation_id: parent.as_ref().map_or_else(|| id.clone(), |parent| parent.task.correlation_id.clone()),
        id,
        parent_id: parent.as_ref().map(|parent| parent.task.id.clone()),
        ancestry,
        from_pool: sidecar.config.identity.pool.clone(),
        from_agent: sidecar.config.identity.agent.clone(),
        created,
        deadline: child::deadline(parent.as_ref().and_then(|parent| parent.task.deadline), query.deadline, created),
        trace: context,
        payload,
    };

    // To be listened for before the task is sent; the answer may be faster than the acknowledgement.
    let waiting = patience.map(|patience| (sidecar.results.expect(&team, &task.id), Instant::now() + patience));
    match sidecar.bus.publish_task(&team, to_pool, &task).await {
        Ok(published) => {
            let (word, before) = match (published.duplicate, key) {
                (true, _) => ("duplicate", Before::Yes),
                (false, Some(_)) => ("accepted", Before::Perhaps),
                (false, None) => ("accepted", Before::No),
            };
            debug!(task = task.id, to = to_pool, word, "sent");
            if let Some(parent) = parent.filter(|parent| sidecar.cancellations.notice(&parent.task).is_some()) {
                // What has been sent is looked for when a task is cancelled, and this may have come too late.
                let stored = StoredTask { pool: to_pool.clone(), sequence: published.sequence, bytes: 0, task };
                cancel::orphan(sidecar, &team, &stored).await;
                return Err((cancelled(&parent.task.id), "cancelled"));
            }
            Ok((word, Sent { id: task.id, team, waiting, before }))
        }
        Err(error) => {
            let word = if matches!(error, BusError::TooLarge { .. }) { "too_large" } else { "unavailable" };
            Err((Problem::from(error).with("id", task.id), word))
        }
    }
}

/// Where the task belongs in a trace: where the agent says, or else below the task that it works on.
fn context(headers: &HeaderMap, parent: Option<&InHand>) -> Result<Trace, Problem> {
    let said = text(headers, names::TRACEPARENT)?.filter(|said| trace::is_valid(said));
    Ok(match (said, parent) {
        (Some(said), _) => Trace { parent: Some(said.to_owned()), state: text(headers, names::TRACESTATE)?.map(str::to_owned) },
        (None, Some(parent)) => trace::child(&parent.trace, rand::random(), rand::random()),
        (None, None) => trace::child(&Trace::default(), rand::random(), rand::random()),
    })
}

impl Sent {
    /// Waits for the outcome as long as the agent wants to.
    async fn finish(self, sidecar: &Sidecar) -> Result<Response, Problem> {
        let Some((waiting, until)) = self.waiting else { return Ok(accepted(&self.id)) };
        match outcome(sidecar, &self.team, &self.id, waiting, until, self.before).await {
            Some(result) => answer(result),
            None => Ok(accepted(&self.id)),
        }
    }
}

/// The outcome of a task, if it comes in time. That of a task that was sent before may have come before,
/// or to another agent.
async fn outcome(sidecar: &Sidecar, team: &Team, id: &str, waiting: Waiting, until: Instant, before: Before) -> Option<TaskResult> {
    let _counted = Counted::new(&sidecar.metrics.results_waiting);
    let found = async {
        match before {
            Before::No => std::future::pending().await,
            Before::Perhaps => tokio::time::sleep(LOOK).await,
            Before::Yes => {}
        }
        let mut search = sidecar.results.search(team, id);
        loop {
            if let Ok(Some(result)) = search.look().await {
                return result;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        result = waiting => Some(result),
        result = found => Some(result),
        () = tokio::time::sleep_until(until) => None,
    }
}

/// Counts in a gauge for as long as it lives: an agent may stop waiting at any moment.
struct Counted<'a>(&'a IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// `GET /v1/tasks/{id}`: what became of a task.
pub(super) async fn get(State(sidecar): State<Arc<Sidecar>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let team = team(&sidecar)?;
    if let Some(result) = sidecar.results.find(&team, &id).await? {
        let document = json!({
            "id": id,
            "state": result.outcome.as_str(),
            "reason": result.reason,
            "pool": result.from_pool,
            "agent": result.from_agent,
            "endedAt": time(result.created),
        });
        return Ok(axum::Json(document).into_response());
    }
    let Some(stored) = sent(&sidecar, &team, &id).await? else { return Err(Problem::unknown_task(&id)) };
    let document = json!({"id": id, "state": "pending", "pool": stored.pool, "sentAt": time(stored.task.created)});
    Ok(axum::Json(document).into_response())
}

/// `GET /v1/tasks/{id}/result`: the result itself.
pub(super) async fn result(State(sidecar): State<Arc<Sidecar>>, Path(id): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let query: Wait = parameters(&uri)?;
    let patience = wait(query.wait)?.unwrap_or_default();
    let team = team(&sidecar)?;
    let until = Instant::now() + patience;
    let waiting = sidecar.results.expect(&team, &id);
    if let Some(result) = sidecar.results.find(&team, &id).await? {
        return answer(result);
    }
    if sent(&sidecar, &team, &id).await?.is_none() {
        return Err(Problem::unknown_task(&id));
    }
    match outcome(&sidecar, &team, &id, waiting, until, Before::Yes).await {
        Some(result) => answer(result),
        None => Ok(accepted(&id)),
    }
}

/// The task itself, if this pool has sent it.
pub(super) async fn sent(sidecar: &Sidecar, team: &Team, id: &str) -> Result<Option<StoredTask>, Problem> {
    let Some(created) = ids::time_of(id) else { return Ok(None) };
    Ok(sidecar.bus.find_task(team, &sidecar.config.identity.pool, id, created).await?)
}

/// The task that an agent works on has been cancelled.
pub(super) fn cancelled(id: &str) -> Problem {
    let detail = format!("task {id:?} was cancelled, and nobody wants its result: stop working on it");
    Problem::new(StatusCode::GONE, "task-cancelled", "The task was cancelled", detail).with("id", id)
}

fn accepted(id: &str) -> Response {
    let location = format!("/v1/tasks/{id}");
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], axum::Json(json!({ "id": id }))).into_response()
}

/// The raw result, or the problem that it is.
fn answer(result: TaskResult) -> Result<Response, Problem> {
    if let Some(problem) = Problem::of_outcome(&result) {
        return Err(problem);
    }
    let mut response = result.payload.body.into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in [
        (header::CONTENT_TYPE, result.payload.content_type),
        (HeaderName::from_static("skein-task-id"), Some(result.task_id)),
        (HeaderName::from_static("skein-correlation-id"), Some(result.correlation_id)),
        (HeaderName::from_static("skein-from"), Some(result.from_pool)),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

fn time(ms: i64) -> Option<String> {
    Timestamp::from_millisecond(ms).ok().map(|time| time.to_string())
}
