//! Follows the bus: is it there, which program does it hold for the pool, and is there a queue.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::Sidecar;
use super::state::Queue;
use crate::bus::Team;
use crate::bus::nats::BusError;

/// The time between two looks for a queue that is not there.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps [`super::state`] true about the bus for as long as the process lives.
pub(super) async fn follow(sidecar: Arc<Sidecar>) {
    let mut connection = sidecar.bus.state();
    let mut program = sidecar.program.clone();
    let mut said_missing = false;
    loop {
        let connected = *connection.borrow_and_update();
        let topology = program.borrow_and_update().as_ref().map(|program| program.topology.clone());
        sidecar.state.update(|snapshot| {
            if !connected || snapshot.topology != topology {
                // After a reconnect the queue may be another one, or gone.
                snapshot.queue = Queue::Unknown;
            }
            snapshot.connected = connected;
            snapshot.topology.clone_from(&topology);
        });
        let missed = sidecar.bus.reconnects().saturating_sub(sidecar.metrics.bus_reconnects.get());
        sidecar.metrics.bus_reconnects.inc_by(missed);
        sidecar.metrics.bus_connected.set(i64::from(connected));
        if let (true, Some(topology)) = (connected, topology) {
            let team = Team::new(&sidecar.config.identity.namespace, topology);
            sidecar.results.follow(&team);
            sidecar.cancellations.follow(&team);
            if !matches!(sidecar.state.now().queue, Queue::There(_)) {
                let queue = look(&sidecar, &team).await;
                if queue == Queue::Missing && !said_missing {
                    warn!(stream = team.stream(), "the bus holds no queue for the pool");
                } else if said_missing && queue != Queue::Missing {
                    info!(stream = team.stream(), "the bus holds the queue of the pool again");
                }
                said_missing = queue == Queue::Missing;
                sidecar.state.update(|snapshot| snapshot.queue = queue);
            }
        }
        let there = matches!(sidecar.state.now().queue, Queue::There(_));
        let again = async {
            if connected && !there {
                tokio::time::sleep(LOOK).await;
            } else {
                // A pull has found the queue gone.
                sidecar.state.until(|snapshot| snapshot.queue == Queue::Missing).await;
            }
        };
        tokio::select! {
            changed = connection.changed() => if changed.is_err() { return },
            changed = program.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

async fn look(sidecar: &Sidecar, team: &Team) -> Queue {
    match sidecar.bus.queue(team, &sidecar.config.identity.pool).await {
        Ok(created) => Queue::There(created.into()),
        Err(BusError::NoJournal) => Queue::Missing,
        Err(error) => {
            warn!(%error, "the queue of the pool cannot be looked for");
            Queue::Unknown
        }
    }
}
