//! Taking tasks, for an agent that pulls.
//!
//! A task is the agent's for `timeoutSeconds`; each report of progress begins that time anew. When it runs
//! out, the task goes back to the queue.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{parameters, tasks, text, wait};
use crate::bus::Team;
use crate::bus::envelope::Payload;
use crate::bus::nats::{BusError, Puller};
use crate::http::{Problem, body};
use crate::sidecar::Sidecar;
use crate::sidecar::agent;
use crate::sidecar::delivery::slot::{WAIT, trouble};
use crate::sidecar::delivery::work::{Offer, Worker, admit, see_through};
use crate::sidecar::inflight::{Pulling, Report};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Next {
    wait: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    retryable: bool,
}

/// `GET /v1/tasks/next`: a task, or 204 when none came in time.
pub(super) async fn next(State(sidecar): State<Arc<Sidecar>>, uri: Uri) -> Result<Response, Problem> {
    let query: Next = parameters(&uri)?;
    let patience = wait(query.wait)?.unwrap_or_default();
    if sidecar.agent.is_some() {
        let detail = "tasks are pushed to this agent: remove spec.agent.port from the pool, and it can pull";
        return Err(Problem::new(StatusCode::CONFLICT, "tasks-are-pushed", "The agent does not pull", detail));
    }
    let _asking = sidecar.monitor.asking();
    // Even without a wait, the broker needs a moment to answer.
    let until = Instant::now() + patience.max(Duration::from_millis(500));
    match tokio::time::timeout_at(until, take(&sidecar, until)).await {
        Ok(offer) => Ok(offer),
        Err(_) if !sidecar.bus.connected() => Err(BusError::Disconnected.into()),
        Err(_) => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Takes a task and answers with it. May be dropped at any moment: when the agent no longer waits, the
/// task goes to another one.
async fn take(sidecar: &Arc<Sidecar>, until: Instant) -> Response {
    // The semaphore is never closed.
    let place = Arc::clone(&sidecar.places).acquire_owned().await.ok();
    loop {
        sidecar.state.until(|snapshot| snapshot.open_queue().is_some()).await;
        let team = sidecar.state.now().open_queue().map(|topology| sidecar.team(topology));
        let Some(team) = team else { continue };
        let Ok(puller) = Puller::new(&sidecar.bus, &team, &sidecar.config.identity.pool).await else { continue };
        let mut line = Line { puller: Some(puller), pulling: Some(sidecar.in_flight.pulling()) };
        let (reports, lease) = mpsc::channel(8);
        let Some(offer) = pull(sidecar, &team, &mut line, &reports, until).await else { continue };
        let response = response(&offer);
        let sidecar = Arc::clone(sidecar);
        tokio::spawn(async move {
            see_through(&sidecar, offer, Worker::Pull(lease)).await;
            drop(place);
        });
        return response;
    }
}

/// A pull that is given up properly, also when nobody waits for it any more.
struct Line {
    puller: Option<Puller>,
    pulling: Option<Pulling>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let (Some(puller), pulling) = (self.puller.take(), self.pulling.take()) else { return };
        tokio::spawn(async move {
            if let Some(delivery) = puller.close().await {
                let _ = delivery.receipt.nak(None).await;
            }
            drop(pulling);
        });
    }
}

async fn pull(sidecar: &Arc<Sidecar>, team: &Arc<Team>, line: &mut Line, reports: &mpsc::Sender<Report>, until: Instant) -> Option<Offer> {
    let puller = line.puller.as_mut()?;
    loop {
        let wait = until.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(100), WAIT);
        let pulled = tokio::select! {
            biased;
            () = sidecar.state.until(|snapshot| snapshot.open_queue() != Some(&team.topology)) => return None,
            pulled = puller.next(wait) => pulled,
        };
        match pulled {
            Ok(Some(delivery)) => {
                if let Some(offer) = admit(sidecar, team, delivery, Some(reports.clone())).await {
                    return Some(offer);
                }
            }
            Ok(None) => {}
            Err(error) => trouble(sidecar, &error).await,
        }
    }
}

fn response(offer: &Offer) -> Response {
    let mut response = offer.task.payload.body.clone().into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in agent::headers(&offer.task, offer.delivered.times, &offer.trace) {
        if let (Ok(name), Ok(value)) = (header::HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// `POST /v1/tasks/{id}/complete`: the body is the result.
pub(super) async fn complete(
    State(sidecar): State<Arc<Sidecar>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let lease = lease(&sidecar, &id)?;
    let content_type = text(&headers, header::CONTENT_TYPE.as_str())?.map(str::to_owned);
    let body = body::read(body, sidecar.bus.max_payload()).await?;
    report(&id, &lease, Report::Complete(Payload { body, content_type })).await
}

/// `POST /v1/tasks/{id}/fail?retryable=`: the body is the reason.
pub(super) async fn fail(State(sidecar): State<Arc<Sidecar>>, Path(id): Path<String>, uri: Uri, body: Body) -> Result<StatusCode, Problem> {
    let lease = lease(&sidecar, &id)?;
    let Fail { retryable } = parameters(&uri)?;
    let body = body::read(body, 64 * 1024).await?;
    let reason = String::from_utf8_lossy(&body).trim().to_owned();
    let reason = if reason.is_empty() { "the agent reported a failure without a reason".to_owned() } else { reason };
    report(&id, &lease, Report::Fail { reason, retryable }).await
}

/// `POST /v1/tasks/{id}/progress`: the agent has `timeoutSeconds` from now on.
pub(super) async fn progress(State(sidecar): State<Arc<Sidecar>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let lease = lease(&sidecar, &id)?;
    report(&id, &lease, Report::Progress).await
}

fn lease(sidecar: &Sidecar, id: &str) -> Result<mpsc::Sender<Report>, Problem> {
    sidecar.monitor.heard();
    match sidecar.in_flight.get(id) {
        Some(in_hand) if sidecar.cancellations.notice(&in_hand.task).is_some() => Err(tasks::cancelled(id)),
        Some(in_hand) => in_hand.lease.ok_or_else(|| unknown(id)),
        None if sidecar.cancellations.mentions(id) => Err(tasks::cancelled(id)),
        None => Err(unknown(id)),
    }
}

async fn report(id: &str, lease: &mpsc::Sender<Report>, report: Report) -> Result<StatusCode, Problem> {
    lease.send(report).await.map(|()| StatusCode::NO_CONTENT).map_err(|_| unknown(id))
}

fn unknown(id: &str) -> Problem {
    let detail =
        format!("task {id:?} is not in hand here: it was never taken, has ended, or its time ran out and it went back to the queue");
    Problem::new(StatusCode::NOT_FOUND, "unknown-lease", "The task is not in hand", detail).with("id", id)
}
