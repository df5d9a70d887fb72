//! Cancelling a task that this pool has sent.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use tracing::warn;

use super::{tasks, team};
use crate::bus::nats::{Canceller, StoredTask};
use crate::bus::{Outcome, Team};
use crate::http::Problem;
use crate::sidecar::Sidecar;

/// `DELETE /v1/tasks/{id}`: the task is no longer wanted, nor what its agent has sent on its behalf.
pub(super) async fn cancel(State(sidecar): State<Arc<Sidecar>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let team = team(&sidecar)?;
    let Some(stored) = tasks::sent(&sidecar, &team, &id).await? else { return Err(Problem::unknown_task(&id)) };
    let agent = &sidecar.config.identity.agent;
    let by = Canceller { agent, reason: &format!("{agent} cancelled it") };
    match sidecar.bus.cancel(&team, &stored, by).await? {
        Outcome::Cancelled => Ok(StatusCode::NO_CONTENT),
        outcome => Err(Problem::has_ended(&id, outcome)),
    }
}

/// Cancels a task that was sent on behalf of one that has been cancelled at this very moment.
pub(super) async fn orphan(sidecar: &Sidecar, team: &Team, stored: &StoredTask) {
    let by = Canceller { agent: &sidecar.config.identity.agent, reason: "the task that it was part of was cancelled" };
    if let Err(error) = sidecar.bus.cancel(team, stored, by).await {
        warn!(task = stored.task.id, %error, "a part of a cancelled task could not be cancelled");
    }
}
