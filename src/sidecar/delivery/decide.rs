//! What becomes of a task. Pure: clock and chance are arguments.
//!
//! Before the agent is asked:
//!
//! | the task | what happens |
//! | --- | --- |
//! | comes from a pool that has no edge to this one | it fails |
//! | may not be passed on so far, or to this pool: see [`crate::topology::delegation`] | it fails |
//! | has been delivered more often than `maxDeliveries` | it is dead: whoever had it last is gone |
//! | has a deadline that passed | it expires |
//!
//! While the agent works, and before, its sender may cancel it: then it is cancelled, whatever the agent says
//! later.
//!
//! After an attempt, where *last* means that it has been delivered `maxDeliveries` times:
//!
//! | the attempt | deadline passed | else, last | else |
//! | --- | --- | --- | --- |
//! | was answered | complete | complete | complete |
//! | was refused for good | fail | fail | fail |
//! | failed in a way that may pass (5xx, time-out, lease) | expire | dead | go back, for 1 s · 2ⁿ |
//! | lost the agent in the middle | expire | dead | go back at once: another agent may be free |
//! | did not begin, for nobody listens | expire | ask again here | go back at once |
//! | met an agent that is overloaded | expire | ask again here | ask again here |
//!
//! Asking again uses up no delivery. A task does not go back for longer than its deadline allows: then
//! it expires at once, and its sender knows.

use std::time::Duration;

use crate::bus::envelope::Task;
use crate::bus::subjects::GATEWAY;
use crate::resilience::Backoff;
use crate::topology::PoolProgram;
use crate::topology::delegation::{self, Refusal};

/// How long a task that failed waits for its next delivery.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(60), jitter: 0.1 };
/// How long an overloaded agent is left alone when it does not say for how long.
const OVERLOAD: Backoff = Backoff { first: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(30), jitter: 0.1 };
/// What an agent may say at most.
const LONGEST_OVERLOAD: Duration = Duration::from_secs(600);
/// The time between two looks whether an agent listens again.
const LOOK: Duration = Duration::from_secs(1);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The agent answered.
    Answered,
    /// The agent refused the task for good.
    Refused {
        /// What it said.
        reason: String,
    },
    /// The attempt failed, and another one may not.
    Failed {
        /// How, as a metric says it.
        class: &'static str,
        /// How, as the sender may read it.
        reason: String,
    },
    /// The agent was lost while it worked.
    Lost {
        /// How.
        reason: String,
    },
    /// The task never reached the agent.
    NotBegun {
        /// Why.
        reason: String,
    },
    /// The agent has no room for it now.
    Overloaded {
        /// What it said.
        reason: String,
        /// After what time it wants to be asked again.
        after: Option<Duration>,
    },
}

/// What becomes of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The agent is asked (now, or again after a while).
    Ask {
        /// How long from now.
        after: Duration,
    },
    /// It is complete.
    Complete,
    /// It should never have come here, and fails.
    Refuse(Refused),
    /// It failed for good.
    Fail {
        /// Why.
        reason: String,
    },
    /// Nobody could do it.
    Dead {
        /// Why.
        reason: String,
    },
    /// Its sender no longer wants it.
    Cancel,
    /// It is too late for it.
    Expire {
        /// Why.
        reason: String,
    },
    /// It goes back, for the next delivery.
    Retry {
        /// How long from now.
        after: Duration,
    },
}

/// Why a task should never have come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its sender has no edge to this pool.
    #[error("pool {from:?} may not send to pool {to:?}: the topology has no such edge")]
    Sender {
        /// The sender.
        from: String,
        /// This pool.
        to: String,
    },
    /// It has been passed on too far.
    #[error("{0}")]
    Delegation(Refusal),
}

/// What is to be known of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// How often the task has been delivered, this time included.
    pub times: u32,
    /// How often that may be.
    pub max: u32,
    /// The deadline of the task, in milliseconds since 1970.
    pub deadline: Option<i64>,
}

/// Decides before the agent is asked.
#[must_use]
pub fn before(task: &Task, pool: &str, program: &PoolProgram, delivered: Delivered, now: i64) -> Next {
    if task.from_pool != GATEWAY && !program.senders.contains(&task.from_pool) {
        return Next::Refuse(Refused::Sender { from: task.from_pool.clone(), to: pool.to_owned() });
    }
    if let Err(refusal) = delegation::judge(&task.ancestry, pool, program.delegation) {
        return Next::Refuse(Refused::Delegation(refusal));
    }
    if delivered.times > delivered.max {
        return Next::Dead {
            reason: format!(
                "it was given to agents {} times, which is all that the pool allows, and was lost with the last of them",
                delivered.max
            ),
        };
    }
    if let Some(reason) = too_late(delivered, now) {
        return Next::Expire { reason };
    }
    Next::Ask { after: Duration::ZERO }
}

/// Decides after an attempt. `asked` counts how often the agent was asked for this delivery; `chance` is
/// in `0..1`.
#[must_use]
pub fn after(attempt: &Attempt, delivered: Delivered, asked: u32, now: i64, chance: f64) -> Next {
    let last = delivered.times >= delivered.max;
    match attempt {
        Attempt::Answered => Next::Complete,
        Attempt::Refused { reason } => Next::Fail { reason: reason.clone() },
        Attempt::Failed { reason, .. } => give_back(reason, BACKOFF.after(delivered.times, chance), last, delivered, now),
        Attempt::Lost { reason } => give_back(reason, Duration::ZERO, last, delivered, now),
        Attempt::NotBegun { reason } if !last => give_back(reason, Duration::ZERO, false, delivered, now),
        Attempt::NotBegun { .. } => ask_again(LOOK, delivered, now),
        Attempt::Overloaded { after, .. } => {
            let wait = after.map_or_else(|| OVERLOAD.after(asked.max(1), chance), |said| said.min(LONGEST_OVERLOAD));
            ask_again(wait.max(Duration::from_millis(100)), delivered, now)
        }
    }
}

fn give_back(reason: &str, after: Duration, last: bool, delivered: Delivered, now: i64) -> Next {
    if let Some(late) = too_late(delivered, now) {
        return Next::Expire { reason: format!("{late}; the last attempt: {reason}") };
    }
    if last {
        let times = if delivered.max == 1 { "once".to_owned() } else { format!("{} times", delivered.max) };
        return Next::Dead {
            reason: format!("it was given to agents {times}, which is all that the pool allows; the last attempt: {reason}"),
        };
    }
    match too_late(delivered, later(now, after)) {
        Some(_) => Next::Expire { reason: format!("its deadline comes before its next attempt; the last attempt: {reason}") },
        None => Next::Retry { after },
    }
}

/// Asks again, at the deadline at the latest.
fn ask_again(after: Duration, delivered: Delivered, now: i64) -> Next {
    match delivered.deadline {
        Some(deadline) if deadline <= now => Next::Expire { reason: "its deadline passed while the agent had no room for it".to_owned() },
        Some(deadline) => Next::Ask { after: after.min(Duration::from_millis(u64::try_from(deadline - now).unwrap_or(0))) },
        None => Next::Ask { after },
    }
}

fn too_late(delivered: Delivered, now: i64) -> Option<String> {
    let deadline = delivered.deadline.filter(|deadline| *deadline <= now)?;
    let when = jiff::Timestamp::from_millisecond(deadline).map_or_else(|_| deadline.to_string(), |when| when.to_string());
    Some(format!("its deadline {when} passed"))
}

fn later(now: i64, by: Duration) -> i64 {
    now.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::envelope::{Payload, Trace};
    use crate::topology::Delegation;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn task(from_pool: &str) -> Task {
        Task {
            id: "t".into(),
            correlation_id: "t".into(),
            parent_id: None,
            ancestry: vec![],
            from_pool: from_pool.into(),
            from_agent: "a-0".into(),
            created: 0,
            deadline: None,
            trace: Trace::default(),
            payload: Payload::default(),
        }
    }

    fn program(senders: &[&str]) -> PoolProgram {
        PoolProgram {
            topology: "team".into(),
            revision: "r".into(),
            max_deliveries: 3,
            routes: vec![],
            senders: senders.iter().map(|pool| (*pool).to_owned()).collect(),
            delegation: Delegation { max_depth: 2, allow_cycles: false },
        }
    }

    fn delivered(times: u32, deadline: Option<i64>) -> Delivered {
        Delivered { times, max: 3, deadline }
    }

    fn failed() -> Attempt {
        Attempt::Failed { class: "error", reason: "the agent answered 500".into() }
    }

    #[test]
    fn only_senders_with_an_edge_and_the_gateway_reach_the_agent() {
        let senders = program(&["planner"]);
        let ask = Next::Ask { after: Duration::ZERO };
        assert_eq!(before(&task("planner"), "coder", &senders, delivered(1, None), 0), ask);
        assert_eq!(before(&task("_gateway"), "coder", &program(&[]), delivered(1, None), 0), ask);
        let Next::Refuse(refused) = before(&task("tester"), "coder", &senders, delivered(1, None), 0) else { panic!() };
        assert_eq!(refused.to_string(), r#"pool "tester" may not send to pool "coder": the topology has no such edge"#);
    }

    /// The sender's sidecar has asked the same; whoever gets round it must not get round this one.
    #[test]
    fn a_task_that_comes_back_or_too_far_does_not_reach_the_agent() {
        let of = |ancestry: &[&str], program: &PoolProgram| {
            let task = Task { ancestry: ancestry.iter().map(|pool| (*pool).to_owned()).collect(), ..task("writer") };
            match before(&task, "coder", program, delivered(1, None), 0) {
                Next::Refuse(refused) => refused.to_string(),
                next => format!("{next:?}"),
            }
        };
        let program = program(&["writer"]);
        assert_eq!(of(&["planner", "writer"], &program), "Ask { after: 0ns }");
        assert!(of(&["coder", "writer"], &program).contains("(coder -> writer -> coder)"));
        assert!(of(&["a", "b", "writer"], &program).contains("passed on 2 times"));
        let circular = PoolProgram { delegation: Delegation { allow_cycles: true, ..program.delegation }, ..program };
        assert_eq!(of(&["coder", "writer"], &circular), "Ask { after: 0ns }");
    }

    #[test]
    fn a_task_that_was_lost_with_its_last_agent_is_not_given_to_another() {
        assert!(matches!(before(&task("_gateway"), "p", &program(&[]), delivered(4, None), 0), Next::Dead { .. }));
        assert!(matches!(before(&task("_gateway"), "p", &program(&[]), delivered(3, None), 0), Next::Ask { .. }));
        assert!(matches!(before(&task("_gateway"), "p", &program(&[]), delivered(1, Some(5)), 5), Next::Expire { .. }));
    }

    #[test]
    fn failures_wait_longer_each_time_and_the_last_is_the_end() {
        assert_eq!(after(&failed(), delivered(1, None), 1, 0, 0.5), Next::Retry { after: Duration::from_secs(1) });
        assert_eq!(after(&failed(), delivered(2, None), 1, 0, 0.5), Next::Retry { after: Duration::from_secs(2) });
        let Next::Dead { reason } = after(&failed(), delivered(3, None), 1, 0, 0.5) else { panic!() };
        assert_eq!(reason, "it was given to agents 3 times, which is all that the pool allows; the last attempt: the agent answered 500");
    }

    #[test]
    fn a_lost_agent_passes_its_task_on_at_once() {
        let lost = Attempt::Lost { reason: "gone".into() };
        assert_eq!(after(&lost, delivered(1, None), 1, 0, 0.5), Next::Retry { after: Duration::ZERO });
        assert!(matches!(after(&lost, delivered(3, None), 1, 0, 0.5), Next::Dead { .. }));
    }

    /// A rolling restart must not kill the tasks that happen to meet it.
    #[test]
    fn what_never_reached_an_agent_is_not_its_death() {
        let not_begun = Attempt::NotBegun { reason: "nobody listens".into() };
        assert_eq!(after(&not_begun, delivered(1, None), 1, 0, 0.5), Next::Retry { after: Duration::ZERO });
        assert_eq!(after(&not_begun, delivered(3, None), 1, 0, 0.5), Next::Ask { after: LOOK });
    }

    #[test]
    fn an_overloaded_agent_is_asked_when_it_says_so_but_not_after_the_deadline() {
        let overloaded = |after| Attempt::Overloaded { reason: "busy".into(), after };
        let said = Some(Duration::from_secs(7));
        assert_eq!(after(&overloaded(said), delivered(3, None), 1, 0, 0.5), Next::Ask { after: Duration::from_secs(7) });
        assert_eq!(after(&overloaded(said), delivered(3, Some(2_000)), 1, 0, 0.5), Next::Ask { after: Duration::from_secs(2) });
        assert_eq!(after(&overloaded(None), delivered(1, None), 3, 0, 0.5), Next::Ask { after: Duration::from_secs(4) });
        assert!(matches!(after(&overloaded(said), delivered(1, Some(5)), 1, 5, 0.5), Next::Expire { .. }));
    }

    fn attempts() -> impl Strategy<Value = Attempt> {
        prop_oneof![
            Just(Attempt::Answered),
            Just(Attempt::Refused { reason: "no".into() }),
            Just(failed()),
            Just(Attempt::Lost { reason: "gone".into() }),
            Just(Attempt::NotBegun { reason: "nobody".into() }),
            prop::option::of(0..100_000_u64)
                .prop_map(|ms| Attempt::Overloaded { reason: "busy".into(), after: ms.map(Duration::from_millis) }),
        ]
    }

    proptest! {
        /// What the agent said is never overruled, a dead task was given out as often as allowed, and
        /// nothing is put off beyond its deadline.
        #[test]
        fn every_decision_keeps_the_rules(
            attempt in attempts(), times in 1..9_u32, max in 1..9_u32, asked in 1..9_u32,
            deadline in prop::option::of(-10_000..200_000_i64), chance in 0.0..1.0,
        ) {
            let next = after(&attempt, Delivered { times, max, deadline }, asked, 0, chance);
            match (&attempt, &next) {
                (Attempt::Answered, next) => prop_assert_eq!(next, &Next::Complete),
                (Attempt::Refused { .. }, next) => {
                    let failed = matches!(next, Next::Fail { .. });
                    prop_assert!(failed, "{:?}", next);
                }
                (_, Next::Complete | Next::Fail { .. } | Next::Refuse(_) | Next::Cancel) => prop_assert!(false, "{:?}", next),
                (Attempt::Overloaded { .. } | Attempt::NotBegun { .. }, Next::Dead { .. }) => prop_assert!(false, "{:?}", next),
                (_, Next::Dead { .. }) => prop_assert!(times >= max),
                (_, Next::Retry { after }) => {
                    prop_assert!(times < max);
                    prop_assert!(*after <= Duration::from_secs(66));
                    prop_assert!(deadline.is_none_or(|deadline| later(0, *after) < deadline));
                }
                (_, Next::Ask { after }) => prop_assert!(deadline.is_none_or(|deadline| later(0, *after) <= deadline)),
                (_, Next::Expire { .. }) => prop_assert!(deadline.is_some()),
            }
        }
    }
}
