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

#[cfg(test)]
mod tests {
    use super::super::testing::{at, ending, members, pool, queue};
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn queues(all: &[(&str, u64, u64)]) -> BTreeMap<String, Queue> {
        all.iter().map(|(name, pending, in_flight)| ((*name).to_owned(), queue(name, *pending, *in_flight))).collect()
    }

    fn here(name: &str, ready: i32) -> Member {
        pool(name, ready, json!([]))
    }

    #[test]
    fn work_is_waited_for_as_long_as_the_pools_may_take() {
        let members = members(&[("a", here("a", 1)), ("b", here("b", 1))]);
        let Drain::Wait { message, left } = drain(at(100), at(110), &members, &queues(&[("a", 2, 1), ("b", 0, 0)])) else { panic!("gone") };
        assert_eq!(left, Duration::from_secs(50));
        assert_eq!(
            message,
            "no new work comes in from outside; waiting for the tasks of a (2 waiting, 1 in flight), until 1970-01-01T00:02:40Z at the latest"
        );
        assert_eq!(drain(at(100), at(110), &members, &queues(&[("a", 0, 0)])), Drain::Go { lost: None });
        let late = drain(at(100), at(160), &members, &queues(&[("a", 2, 1)]));
        assert_eq!(late, Drain::Go { lost: Some("tasks that nobody ended are gone with the journal: a (2 waiting, 1 in flight)".into()) });
    }

    /// A regression here keeps a namespace in Terminating.
    #[test]
    fn nobody_waits_for_pools_that_cannot_end_anything() {
        for member in [Member::Missing, Member::Elsewhere("other".into()), here("a", 0), ending(here("a", 1))] {
            let gone = drain(at(100), at(101), &members(&[("a", member)]), &queues(&[("a", 2, 1)]));
            assert!(matches!(gone, Drain::Go { lost: Some(_) }), "{gone:?}");
        }
        assert!(matches!(drain(at(100), at(101), &members(&[]), &queues(&[("former", 1, 0)])), Drain::Go { lost: Some(_) }));
    }
}
