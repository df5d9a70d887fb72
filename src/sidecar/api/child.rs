//! What a task inherits from the task that it is part of. Pure: the clock is an argument.
//!
//! | | |
//! | --- | --- |
//! | its parent | the task in hand that the agent names; without a name the only one in hand, if it is one |
//! | its ancestry | that of its parent, and the pool that sends; never what the agent says |
//! | its deadline | its own, or that of its parent less a reserve, whichever comes first |
//!
//! The reserve is a twentieth of the time that is left, a second at most: who waits for a child that expires
//! has it to say so, or to give what there is.

use crate::bus::Task;
use crate::bus::envelope::header;
use crate::http::Problem;
use crate::sidecar::inflight::InHand;

/// The longest reserve, in milliseconds.
const RESERVE_MS: i64 = 1000;
/// Which part of the time that is left the reserve is at most.
const RESERVE_PART: i64 = 20;

/// The task that the agent works on while it sends another one. An agent that names none and has only one
/// works on that one: nothing gets out of its tree by being sent without a header.
///
/// # Errors
/// When the task that is named is not in hand, or one has to be named and is not.
pub fn parent(named: Option<&str>, mut in_hand: Vec<InHand>) -> Result<Option<InHand>, Problem> {
    if let Some(id) = named {
        return in_hand.into_iter().find(|one| one.task.id == id).map(Some).ok_or_else(|| {
            let detail =
                format!("{} names task {id:?}, which is not in hand here: give the id of the task that is worked on", header::TASK_ID);
            Problem::bad_request(detail)
        });
    }
    if in_hand.len() > 1 {
        let mut ids: Vec<&str> = in_hand.iter().map(|one| one.task.id.as_str()).collect();
        ids.sort_unstable();
        let detail = format!(
            "{} tasks are in hand here, and which of them this one is part of is not said: give its id in the header {}",
            ids.len(),
            header::TASK_ID
        );
        return Err(Problem::bad_request(detail).with("tasks", ids));
    }
    Ok(in_hand.pop())
}

/// The ancestry of a task that an agent of `pool` sends.
#[must_use]
pub fn ancestry(parent: Option<&Task>, pool: &str) -> Vec<String> {
    parent.map_or_else(Vec::new, |parent| parent.ancestry.iter().cloned().chain([pool.to_owned()]).collect())
}

/// The deadline of a task, in milliseconds since 1970: `own` seconds from now, within the deadline of its
/// parent.
#[must_use]
pub fn deadline(parent: Option<i64>, own: Option<u32>, now: i64) -> Option<i64> {
    let own = own.map(|seconds| now.saturating_add(i64::from(seconds) * 1000));
    let inherited = parent.map(|deadline| {
        let left = deadline.saturating_sub(now).max(0);
        deadline - (left / RESERVE_PART).min(RESERVE_MS)
    });
    own.into_iter().chain(inherited).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::envelope::{Payload, Trace};
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::Instant;

    fn in_hand(id: &str) -> InHand {
        let task = Task {
            id: id.to_owned(),
            correlation_id: id.to_owned(),
            parent_id: None,
            ancestry: vec!["planner".to_owned()],
            from_pool: "planner".to_owned(),
            from_agent: "planner-0".to_owned(),
            created: 0,
            deadline: None,
            trace: Trace::default(),
            payload: Payload::default(),
        };
        InHand { task: Arc::new(task), attempt: 1, trace: Trace::default(), until: Instant::now(), lease: None }
    }

    fn of(named: Option<&str>, ids: &[&str]) -> Result<Option<String>, String> {
        let parent = parent(named, ids.iter().map(|id| in_hand(id)).collect());
        parent.map(|parent| parent.map(|parent| parent.task.id.clone())).map_err(|problem| problem.detail)
    }

    /// An agent that forgets a header must not get its tasks out of the reach of guard, deadline and trace.
    #[test]
    fn the_parent_is_the_task_that_is_named_or_the_only_one() {
        assert_eq!(of(Some("b"), &["a", "b"]), Ok(Some("b".to_owned())));
        assert_eq!(of(None, &["a"]), Ok(Some("a".to_owned())));
        assert_eq!(of(None, &[]), Ok(None));
        assert!(of(Some("c"), &["a"]).unwrap_err().contains(r#"names task "c", which is not in hand"#));
        assert!(of(None, &["a", "b"]).unwrap_err().starts_with("2 tasks are in hand here"));
    }

    #[test]
    fn an_ancestry_grows_by_the_pool_that_sends() {
        assert_eq!(ancestry(Some(&in_hand("a").task), "writer"), ["planner", "writer"]);
        assert_eq!(ancestry(None, "writer"), [""; 0]);
    }

    #[test]
    fn a_child_ends_before_its_parent() {
        assert_eq!(deadline(Some(60_000), None, 0), Some(59_000));
        assert_eq!(deadline(Some(60_000), Some(30), 0), Some(30_000));
        assert_eq!(deadline(Some(2_000), Some(30), 0), Some(1_900));
        assert_eq!(deadline(None, Some(30), 5), Some(30_005));
        assert_eq!(deadline(None, None, 0), None);
        assert_eq!(deadline(Some(10), None, 20), Some(10), "it is over already");
    }

    proptest! {
        /// A regression here lets work go on that nobody wants any more, and is paid for.
        #[test]
        fn a_deadline_never_grows_on_the_way(
            first in 0..10_000_000_i64,
            hops in prop::collection::vec((prop::option::of(0..10_000_u32), 0..1000_i64), 0..20),
        ) {
            let (mut before, mut now) = (first, 0);
            for (own, took) in hops {
                now += took;
                let after = deadline(Some(before), own, now);
                prop_assert!(after.is_some_and(|after| after <= before));
                let after = after.unwrap_or(before);
                prop_assert!(after < before || before - now < RESERVE_PART);
                prop_assert!(own.is_none_or(|own| after <= now + i64::from(own) * 1000));
                before = after;
            }
        }
    }
}
