//! What every request of one replica shares. Nothing of it outlives the process: whatever must is in
//! the journal, so that any replica can answer for a task that another has taken.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use std::collections::BTreeMap;

use super::intake::Intake;
use super::outcomes::{Expected, Outcomes};
use super::problems;
use super::roster::Roster;
use crate::bus::nats::{Bus, BusError, StoredTask};
use crate::bus::{TaskResult, Team};
use crate::http::Problem;
use crate::telemetry::metrics::gateway::Metrics;
use crate::topology::TeamProgram;

/// The programs of all teams.
type Programs = watch::Receiver<Arc<BTreeMap<Team, TeamProgram>>>;

/// One replica of the gateway.
pub(super) struct Gateway {
    pub(super) bus: Bus,
    pub(super) identity: String,
    pub(super) roster: Roster,
    pub(super) outcomes: Outcomes,
    pub(super) intake: Intake,
    pub(super) metrics: Metrics,
    pub(super) programs: Programs,
    pub(super) places: Arc<Semaphore>,
    pub(super) max_waiting: usize,
    /// Cancelled when the process is about to end and nobody may wait any longer.
    pub(super) ending: CancellationToken,
}

/// The permission to wait for a result, and its count.
pub(super) struct Place {
    metrics: Metrics,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.waiting.dec();
    }
}

impl Gateway {
    /// The program of a team.
    pub(super) fn program(&self, team: &Team) -> Result<TeamProgram, Problem> {
        match self.programs.borrow().get(team) {
            Some(program) => Ok(program.clone()),
            None if self.programs_known() => Err(problems::unknown_team(team)),
            None if self.bus.connected() => Err(problems::starting()),
            None => Err(BusError::Disconnected.into()),
        }
    }

    /// Whether the programs have been read once since the process began.
    pub(super) fn programs_known(&self) -> bool {
        // The receiver is never marked as seen, so the first change stays visible for ever.
        self.programs.has_changed().unwrap_or(true)
    }

    /// Whether the gateway can take tasks, or why not.
    pub(super) fn ready(&self) -> Result<(), String> {
        if self.ending.is_cancelled() {
            Err("the gateway is ending".to_owned())
        } else if !self.bus.connected() {
            Err("there is no connection to the bus".to_owned())
        } else if !self.programs_known() {
            Err("the programs of the topologies have not been read from the bus yet".to_owned())
        } else {
            Ok(())
        }
    }

    /// A place to wait, as long as there is one.
    pub(super) fn place_to_wait(&self) -> Result<Place, Problem> {
        let permit = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| problems::too_many(&format!("{} requests wait for a result", self.max_waiting), self.max_waiting))?;
        self.metrics.waiting.inc();
        Ok(Place { metrics: self.metrics.clone(), _permit: permit })
    }

    /// Waits for an outcome; `None` when it has not come in time, or the process ends before.
    pub(super) async fn wait(&self, expected: Expected, until: Instant) -> Option<TaskResult> {
        tokio::select! {
            biased;
            outcome = expected.outcome() => Some(outcome),
            () = tokio::time::sleep_until(until) => None,
            () = self.ending.cancelled() => None,
        }
    }

    /// The outcome of a task that the journal holds, which may have ended long ago.
    pub(super) async fn outcome_of(&self, team: &Team, stored: &StoredTask, until: Instant) -> Result<Option<TaskResult>, Problem> {
        // Listen first and look then, or what comes in between is missed.
        let expected = self.outcomes.expect(team, &stored.task);
        if let Some(ended) = self.bus.find_outcome(team, stored).await? {
            return Ok(self.bus.result_at(team, ended.sequence).await?);
        }
        Ok(self.wait(expected, until).await)
    }
}
