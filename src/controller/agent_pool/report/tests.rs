//! What a reader is told, and how often.

use std::collections::BTreeSet;
use std::sync::Arc;

use pretty_assertions::assert_eq;
use serde_json::json;

use super::*;
use crate::api::agent_pool::QueueStatus;
use crate::api::check::tests::pool;
use crate::controller::agent_pool::plan::{Heard, Observed, plan};
use crate::controller::agent_pool::testing::{at, running, target};
use crate::controller::pods::{Phase, PodFacts};
use crate::controller::trouble::{Reason, Trouble};

fn agent(ordinal: u32, change: impl FnOnce(&mut PodFacts, &mut Heard)) -> (u32, Agent) {
    let mut pod = running("coder", ordinal);
    let mut heard = Heard { age: Duration::from_secs(1), busy: 0, draining: false, unhealthy: false, reason: None };
    change(&mut pod, &mut heard);
    (ordinal, Agent { ending: pod.ending, pod: Arc::new(pod), heard: Some(heard), streak: None })
}

fn seen(agents: impl IntoIterator<Item = (u32, Agent)>) -> Seen {
    let observed = Observed { agents: agents.into_iter().collect(), ..Observed::default() };
    Seen { observed, topology: Some("team".to_owned()), ..Seen::default() }
}

fn three() -> Seen {
    seen((0..3).map(|n| agent(n, |_, _| {})))
}

fn look(seen: &Seen, applied: &Applied, second: u32) -> AgentPoolStatus {
    let (target, now) = (target(3), at(second));
    status(&pool(|_| {}), seen, &target, &plan(&seen.observed, &target, now), applied, now)
}

fn told(status: &AgentPoolStatus, type_: &str) -> (String, String, String) {
    let condition = condition::find(&status.conditions, type_).unwrap();
    (condition.status.clone(), condition.reason.clone(), condition.message.clone())
}

fn reason(status: &AgentPoolStatus, type_: &str) -> String {
    let (status, reason, _) = told(status, type_);
    format!("{status}/{reason}")
}

#[test]
fn a_pool_that_works_says_so() {
    let status = look(&three(), &Applied::default(), 100);
    assert_eq!(told(&status, READY), ("True".into(), "Ready".into(), "3 of 3 agents are ready".into()));
    assert_eq!((reason(&status, PROGRESSING), reason(&status, DEGRADED)), ("False/Complete".into(), "False/AsExpected".into()));
    assert_eq!((status.replicas, status.ready_replicas, status.updated_replicas, status.busy_replicas), (3, 3, 3, 0));
    assert!(status.conditions.iter().all(|c| c.observed_generation == Some(4)));
}

/// A regression here writes to the API server for ever although nothing happens.
#[test]
fn time_alone_is_no_news() {
    let mut sick = three();
    sick.observed.agents.extend([agent(1, |pod, _| pod.phase = Phase::Ended("Evicted".to_owned())), agent(2, |pod, _| pod.ready = false)]);
    sick.observed.recent = vec![at(50), at(60), at(70)];
    for seen in [three(), sick] {
        let mut pool = pool(|_| {});
        pool.status = Some(look(&seen, &Applied::default(), 100));
        for second in [101, 130, 200] {
            let (target, now) = (target(3), at(second));
            let later = status(&pool, &seen, &target, &plan(&seen.observed, &target, now), &Applied::default(), now);
            assert_eq!(urgency(pool.status.as_ref(), &later), None, "after {second} seconds");
        }
    }
}

#[test]
fn the_reason_why_a_pool_is_not_ready_is_the_worst_one() {
    let mut all = three();
    all.topology = None;
    assert_eq!(reason(&look(&all, &Applied::default(), 100), READY), "False/NoTopology");
    let mut waiting = three();
    waiting.observed.agents.extend([agent(2, |pod, heard| {
        pod.ready = false;
        heard.reason = Some("the agent does not answer on port 8080".to_owned());
    })]);
    let starting = look(&waiting, &Applied::default(), 10);
    let expected = "2 of 3 agents are ready: coder-2 says: the agent does not answer on port 8080";
    assert_eq!(told(&starting, READY), ("False".into(), "Starting".into(), expected.into()));
    assert_eq!(reason(&look(&waiting, &Applied::default(), 100), READY), "False/NotEnoughReady");
    waiting.bus_away = true;
    assert_eq!(reason(&look(&waiting, &Applied::default(), 100), READY), "False/BusAway");
    waiting.observed.agents.extend([agent(1, |pod, _| {
        pod.ready = false;
        pod.trouble =
            Some(Trouble { reason: Reason::CrashLoop, message: "container \"agent\" ended with exit code 3".into(), fades: None });
    })]);
    let crashing = look(&waiting, &Applied::default(), 100);
    assert_eq!((reason(&crashing, READY), reason(&crashing, DEGRADED)), ("False/CrashLoop".into(), "True/CrashLoop".into()));
    assert!(told(&crashing, READY).2.contains("agent coder-1: container \"agent\" ended with exit code 3"));
}

#[test]
fn a_suspended_pool_is_not_ready_and_nothing_is_wrong_with_it() {
    let suspended = pool(|spec| spec["operatingMode"] = json!("Suspended"));
    let target = Target { desired: 0, ..target(3) };
    let seen = seen([]);
    let status = status(&suspended, &seen, &target, &plan(&seen.observed, &target, at(9)), &Applied::default(), at(9));
    assert_eq!((reason(&status, READY), reason(&status, DEGRADED)), ("False/Suspended".into(), "False/AsExpected".into()));
    assert_eq!(status.desired_replicas, 0);
}

/// An agent's word counts once it has had the time to become well.
#[test]
fn an_agent_that_is_not_well_degrades_the_pool() {
    let mut all = three();
    all.observed.agents.extend([agent(0, |_, heard| (heard.unhealthy, heard.reason) = (true, Some("GET /healthz gave 500".into())))]);
    assert_eq!(reason(&look(&all, &Applied::default(), 20), DEGRADED), "False/AsExpected");
    let (_, reason, message) = told(&look(&all, &Applied::default(), 31), DEGRADED);
    assert_eq!((reason.as_str(), message.as_str()), ("AgentUnhealthy", "agent coder-0 is not well: GET /healthz gave 500"));
}

/// A regression here writes a status for each of a thousand agents that become ready.
#[test]
fn turns_are_written_at_once_and_counters_now_and_then() {
    let base = look(&three(), &Applied::default(), 100);
    assert_eq!(urgency(None, &base), Some(Duration::ZERO));
    assert_eq!(urgency(Some(&base), &base), None);
    let busy = AgentPoolStatus { busy_replicas: 2, queue: Some(QueueStatus { pending: 4, in_flight: 2 }), ..base.clone() };
    assert_eq!(urgency(Some(&base), &busy), Some(COUNTERS));
    let mut fewer = three();
    fewer.observed.agents.extend([agent(2, |pod, _| (pod.ready, pod.phase) = (false, Phase::Pending))]);
    let fewer = look(&fewer, &Applied::default(), 100);
    assert_eq!(urgency(Some(&base), &fewer), Some(Duration::ZERO), "Ready has turned");
    let mut fewest = three();
    fewest.observed.agents.extend((1..3).map(|n| agent(n, |pod, _| (pod.ready, pod.phase) = (false, Phase::Pending))));
    assert_eq!(urgency(Some(&fewer), &look(&fewest, &Applied::default(), 100)), Some(READINESS));
    let elsewhere = AgentPoolStatus { topology: Some("other".into()), ..base.clone() };
    assert_eq!(urgency(Some(&base), &elsewhere), Some(Duration::ZERO));
}

#[test]
fn what_was_done_and_what_has_turned_is_told_once() {
    let (pool, base) = (pool(|_| {}), look(&three(), &Applied::default(), 100));
    let created = Applied { created: BTreeSet::from_iter(0..12), ..Applied::default() };
    let all: Vec<_> = news(&pool, Some(&base), &base, Some(&created)).into_iter().map(|news| news.note).collect();
    assert_eq!(all.len(), 1);
    assert!(all[0].ends_with("coder-9 and 2 more"), "{all:?}");
    let taken = look(&three(), &Applied { taken: vec!["pod coder-3".to_owned()], ..Applied::default() }, 100);
    let warnings = news(&pool, Some(&base), &taken, None);
    assert!(warnings.len() == 1 && warnings[0].warning && warnings[0].reason == "NameTaken", "{warnings:?}");
    assert_eq!(news(&pool, Some(&taken), &taken, None), []);
    assert_eq!(news(&pool, Some(&taken), &base, None)[0].reason, "Recovered");
}
