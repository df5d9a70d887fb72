//! One place at which the agent can work: pulls a task, sees it through, pulls the next one. There are as
//! many as the agent's `concurrency`.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::work::{Worker, admit, see_through};
use crate::bus::nats::{BusError, Delivery, Puller};
use crate::bus::{Health, Team};
use crate::sidecar::Sidecar;
use crate::sidecar::agent::Agent;
use crate::sidecar::state::{Drain, Queue, Snapshot};

/// How long the broker keeps a pull open.
pub(crate) const WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

/// Works for as long as the process lives.
pub(in crate::sidecar) async fn run(sidecar: Arc<Sidecar>, agent: Agent) {
    loop {
        sidecar.state.until(|snapshot| open(snapshot).is_some()).await;
        let team = open(&sidecar.state.now()).map(|topology| sidecar.team(topology));
        let Some(team) = team else { continue };
        let mut puller = match Puller::new(&sidecar.bus, &team, &sidecar.config.identity.pool).await {
            Ok(puller) => puller,
            Err(error) => {
                trouble(&sidecar, &error).await;
                continue;
            }
        };
        let _pulling = sidecar.in_flight.pulling();
        while let Some(pulled) = pull(&sidecar, &team, &mut puller).await {
            match pulled {
                Ok(Some(delivery)) => work(&sidecar, &team, delivery, &agent).await,
                Ok(None) => {}
                Err(error) => trouble(&sidecar, &error).await,
            }
        }
        if let Some(delivery) = puller.close().await {
            if sidecar.state.now().drain == Drain::Process {
                let _ = delivery.receipt.nak(None).await;
            } else {
                work(&sidecar, &team, delivery, &agent).await;
            }
        }
    }
}

/// Waits for a task; `None` when none may be pulled any more.
async fn pull(sidecar: &Sidecar, team: &Team, puller: &mut Puller) -> Option<Result<Option<Delivery>, BusError>> {
    tokio::select! {
        biased;
        () = sidecar.state.until(|snapshot| open(snapshot) != Some(&team.topology)) => None,
        pulled = puller.next(WAIT) => Some(pulled),
    }
}

async fn work(sidecar: &Arc<Sidecar>, team: &Arc<Team>, delivery: Delivery, agent: &Agent) {
    if let Some(offer) = admit(sidecar, team, delivery, None).await {
        see_through(sidecar, offer, Worker::Push(agent.clone())).await;
    }
}

/// The topology whose tasks the agent can take now.
fn open(snapshot: &Snapshot) -> Option<&str> {
    let well = matches!(snapshot.agent.health, Health::Healthy | Health::Degraded);
    snapshot.open_queue().filter(|_| well)
}

/// What is to be done when a pull fails. Waits a moment, so that no failure becomes a loop.
pub(in crate::sidecar) async fn trouble(sidecar: &Sidecar, error: &BusError) {
    match error {
        BusError::NoJournal => sidecar.state.update(|snapshot| snapshot.queue = Queue::Missing),
        BusError::Disconnected => {}
        error => warn!(%error, "no task can be pulled"),
    }
    let pause = if *error == BusError::Disconnected { PAUSE / 10 } else { PAUSE };
    tokio::time::sleep(pause).await;
}
