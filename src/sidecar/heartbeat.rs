//! Says on the bus how the agent is: at every heartbeat, and at once when something changes that others
//! act upon.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::Sidecar;
use super::state::Snapshot;
use crate::bus::Heartbeat;

/// The shortest time between two heartbeats: a state that flaps must not flood the bus.
const GAP: Duration = Duration::from_millis(100);
/// The same when only the number of tasks in hand has changed.
const BUSY_GAP: Duration = Duration::from_secs(1);

/// Sends heartbeats for as long as the process lives.
pub(super) async fn run(sidecar: Arc<Sidecar>) {
    let mut snapshots = sidecar.state.watch();
    let mut loads = sidecar.in_flight.watch();
    let mut said: Option<Heartbeat> = None;
    let mut last: Option<Instant> = None;
    loop {
        let busy = loads.borrow_and_update().busy;
        let (connected, heartbeat) = {
            let snapshot = snapshots.borrow_and_update();
            (snapshot.connected, of(&sidecar, &snapshot, busy))
        };
        sidecar.metrics.ready.set(i64::from(heartbeat.ready));
        let now = Instant::now();
        let due = match (&said, last) {
            (Some(said), Some(last)) if *said == heartbeat => last + sidecar.config.heartbeat,
            (Some(said), Some(last)) if Heartbeat { busy: said.busy, ..heartbeat.clone() } == *said => {
                last + BUSY_GAP.min(sidecar.config.heartbeat)
            }
            (_, Some(last)) => last + GAP,
            (_, None) => now,
        };
        if due <= now && connected {
            match sidecar.bus.publish_heartbeat(&heartbeat).await {
                Ok(()) => sidecar.metrics.heartbeats.inc(),
                Err(error) => debug!(%error, "a heartbeat was not sent"),
            }
            said = Some(heartbeat);
            last = Some(now);
            continue;
        }
        if !connected {
            // The first thing that the bus hears when it is back.
            (said, last) = (None, None);
        }
        // Once the number is known to differ from what was said, further changes of it are of no interest
        // until it is said.
        let listening = said.as_ref().is_some_and(|said| said.busy == busy);
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            changed = loads.changed(), if listening => if changed.is_err() { return },
            () = tokio::time::sleep_until(due.max(now + Duration::from_millis(10))), if connected => {}
        }
    }
}

/// The last one, when the process ends.
pub(super) async fn farewell(sidecar: &Sidecar) {
    let heartbeat = of(sidecar, &sidecar.state.now(), sidecar.in_flight.load().busy);
    if let Err(error) = sidecar.bus.publish_heartbeat(&heartbeat).await {
        debug!(%error, "the last heartbeat was not sent");
    }
}

fn of(sidecar: &Sidecar, snapshot: &Snapshot, busy: u32) -> Heartbeat {
    snapshot.heartbeat(&sidecar.config.identity, sidecar.config.concurrency, busy)
}
