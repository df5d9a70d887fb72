//! Answers for tasks that this or any other replica has taken, out of the journal.

use axum::Json;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use super::state::Gateway;
use super::{answer, problems, query};
use crate::bus::Team;
use crate::bus::nats::StoredTask;
use crate::bus::subjects::GATEWAY;
use crate::http::Problem;

/// `GET …/tasks/{id}`.
pub(super) async fn task(gateway: &Gateway, team: &Team, id: &str, uri: &Uri) -> Result<Response, Problem> {
    query::nothing(uri)?;
    let stored = stored(gateway, team, id).await?;
    let ended = gateway.bus.find_outcome(team, &stored).await?;
    Ok(Json(answer::state(&stored, ended.as_ref())).into_response())
}

/// `GET …/tasks/{id}/result`.
pub(super) async fn result(gateway: &Gateway, team: &Team, id: &str, uri: &Uri) -> Result<Response, Problem> {
    let wait = query::wait(uri)?;
    let place = wait.map(|_| gateway.place_to_wait()).transpose()?;
    let until = Instant::now() + wait.unwrap_or_default();
    let stored = stored(gateway, team, id).await?;
    let outcome = gateway.outcome_of(team, &stored, until).await?;
    drop(place);
    match outcome {
        Some(outcome) => answer::result(outcome),
        None => Ok(answer::pending(team, &stored.task.id)),
    }
}

pub(super) async fn stored(gateway: &Gateway, team: &Team, id: &str) -> Result<StoredTask, Problem> {
    let (id, created) = query::id(id)?;
    gateway.program(team)?;
    gateway.bus.find_task(team, GATEWAY, &id, created).await?.ok_or_else(|| problems::unknown_task(&id))
}
