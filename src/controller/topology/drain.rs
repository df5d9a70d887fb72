//! Whether a topology that is being deleted may go, or what it still waits for. Pure.
//!
//! The way in from outside is closed first. The team keeps its programs while it ends what it has:
//! an agent in the middle of a task may have to ask another one. Not waited for are pools that cannot
//! end anything: they do not exist, are being deleted themselves, or have no ready agent.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::observe::{Member, Members};
use crate::bus::nats::admin::Queue;

/// What becomes of a topology that is being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Some of its pools still work, for at most this long.
    Wait {
        /// What is waited for.
        message: String,
        /// How much longer at most.
        left: Duration,
    },
    /// It may go.
    Go {
        /// What is lost by that, if anything.
        lost: Option<String>,
    },
}

/// Decides. The longest `drainTimeoutSeconds` of its pools, from the deletion on, bounds the waiting.
#[must_use]
pub fn drain(deleted: Timestamp, now: Timestamp, members: &Members, queues: &BTreeMap<String, Queue>) -> Drain {
    let working: Vec<_> = queues
        .iter()
        .filter(|(_, queue)| queue.progress.pending > 0 || queue.progress.in_flight > 0)
        .map(|(name, queue)| (name, queue.progress, members.get(name).and_then(Member::pool)))
        .collect();
    let able: Vec<_> = working
        .iter()
        .filter_map(|(name, progress, pool)| {
            let pool = pool.filter(|pool| pool.metadata.deletion_timestamp.is_none())?;
            (pool.status.as_ref()?.ready_replicas > 0).then_some((name, progress, pool))
        })
        .collect();
    let bound = able.iter().map(|(_, _, pool)| i64::from(pool.spec.drain_timeout_seconds.max(0))).max().unwrap_or(0);
    let left = bound.saturating_sub(now.as_second().saturating_sub(deleted.as_second()));
    let said = |name: &str, pending: u64, in_flight: u64| format!("{name} ({pending} waiting, {in_flight} in flight)");
    if !able.is_empty() && left > 0 {
        let pools: Vec<_> = able.iter().map(|(name, progress, _)| said(name, progress.pending, progress.in_flight)).collect();
        let until = deleted.as_second().saturating_add(bound);
        let until = Timestamp::from_second(until).map_or_else(|_| String::new(), |until| format!(", until {until} at the latest"));
        return Drain::Wait {
            message: format!("no new work comes in from outside; waiting for the tasks of {}{until}", pools.join(", ")),
            left: Duration::from_secs(u64::try_from(left).unwrap_or(0)),
        };
    }
    let pools: Vec<_> = working.iter().map(|(name, progress, _)| said(name, progress.pending, progress.in_flight)).collect();
    Drain::Go { lost: (!pools.is_empty()).then(|| format!("tasks that nobody ended are gone with the journal: {}", pools.join(", "))) }
}
