//! Cancels a task that came through the gateway, at whichever replica.

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};

use super::state::Gateway;
use super::{query, read};
use crate::bus::nats::Canceller;
use crate::bus::{Outcome, Team};
use crate::http::Problem;

/// `DELETE …/tasks/{id}`.
pub(super) async fn cancel(gateway: &Gateway, team: &Team, id: &str, uri: &Uri) -> Result<Response, Problem> {
    query::nothing(uri)?;
    let stored = read::stored(gateway, team, id).await?;
    let by = Canceller { agent: &gateway.identity, reason: "it was cancelled through the gateway" };
    match gateway.bus.cancel(team, &stored, by).await? {
        Outcome::Cancelled => Ok(StatusCode::NO_CONTENT.into_response()),
        outcome => Err(Problem::has_ended(&stored.task.id, outcome)),
    }
}
