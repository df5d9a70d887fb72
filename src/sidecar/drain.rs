//! Ending without losing a task.
//!
//! The kubelet asks for `/agent/drain` before it ends the agent's container: no further task is pulled,
//! and the request is answered when the last one in hand is done. It asks too before it restarts that
//! container alone; [`super::reprieve`] says when tasks are pulled again. When the whole pod is to end, it
//! asks for `/pod/end` at the same time, for that is a hook of the sidecar's own container: then no task is
//! pulled any more. The sidecar itself is told to end by SIGTERM, which in a pod comes after the agent has
//! gone: what is still in hand goes back to the queue.

use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::Sidecar;
use super::state::Drain;

/// How long tasks that have to go back may take for it.
const HAND_BACK: Duration = Duration::from_secs(3);

/// Stops pulling for the agent and waits until nothing is in hand.
///
/// # Errors
/// When tasks are left after the drain timeout: how many.
pub(super) async fn agent(sidecar: &Sidecar) -> Result<(), u32> {
    sidecar.state.update(|snapshot| snapshot.drain = snapshot.drain.max(Drain::Agent));
    sidecar.monitor.look();
    // Pulls that are open are given up first; what they bring is worked on.
    match tokio::time::timeout(sidecar.config.drain_timeout, sidecar.in_flight.idle()).await {
        Ok(()) => Ok(()),
        Err(_) => Err(sidecar.in_flight.load().busy),
    }
}

/// Stops pulling for good.
pub(super) fn pod(sidecar: &Sidecar) {
    sidecar.state.update(|snapshot| snapshot.drain = snapshot.drain.max(Drain::Pod));
}

/// Ends the work of the process: an agent that listens may finish what it has, unless a second signal
/// comes; an agent that pulls is gone and reports nothing any more.
pub(super) async fn process(sidecar: &Sidecar, signals: &mut mpsc::Receiver<()>) {
    sidecar.state.update(|snapshot| snapshot.drain = Drain::Process);
    info!(busy = sidecar.in_flight.load().busy, "told to end");
    if sidecar.agent.is_some() {
        tokio::select! {
            _ = tokio::time::timeout(sidecar.config.drain_timeout, sidecar.in_flight.idle()) => {}
            _ = signals.recv() => warn!("told to end at once"),
        }
    }
    sidecar.stop.cancel();
    if tokio::time::timeout(HAND_BACK, sidecar.in_flight.idle()).await.is_err() {
        warn!(busy = sidecar.in_flight.load().busy, "tasks are left that could not be given back; the bus delivers them again");
    }
}
