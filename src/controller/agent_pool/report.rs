//! What a pool's status says: a pure function of what was seen, planned and done.
//!
//! Conditions turn and sentences are written so that a reader of `kubectl describe` knows what to do.
//! Nothing in them changes by itself with time, or an idle pool would be written again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::apply::Applied;
use super::degraded::{Cause, cause};
use super::observe::Seen;
use super::plan::{Agent, Plan, Standing, Target, Why};
use super::validate::{desired, suspended};
use crate::api::agent_pool::RestartStatus;
use crate::api::condition::{self, ACCEPTED, DEGRADED, PROGRESSING, READY, Statement};
use crate::api::{AgentPool, AgentPoolStatus, Problem, labels, names};
use crate::kubernetes::News;

#[cfg(test)]
mod tests;

/// How long a reconcile waits at least between two writes that only count.
pub const COUNTERS: Duration = Duration::from_secs(15);
/// How long a reconcile waits at least between two writes of how many agents are ready.
pub const READINESS: Duration = Duration::from_secs(1);

/// The agents as they stand once the plan is carried out.
pub struct Standings<'a> {
    /// Those that stay, with those that were created as `Broken`, which is how a pod begins.
    pub here: BTreeMap<u32, (Option<&'a Agent>, Standing)>,
    /// The number of those that are ending.
    pub ending: usize,
}

impl<'a> Standings<'a> {
    /// What is here after a plan was carried out.
    #[must_use]
    pub fn new(seen: &'a Seen, target: &Target, applied: &Applied, now: Timestamp) -> Self {
        let mut here = BTreeMap::new();
        let mut ending = 0;
        for (ordinal, agent) in &seen.observed.agents {
            match agent.standing(target, seen.observed.blind, now) {
                Standing::Ending => ending += 1,
                _ if applied.deleted.iter().any(|deletion| deletion.ordinal == *ordinal) => ending += 1,
                standing => {
                    here.insert(*ordinal, (Some(agent), standing));
                }
            }
        }
        here.extend(applied.created.iter().map(|ordinal| (*ordinal, (None, Standing::Broken))));
        Self { here, ending }
    }

    fn count(&self, is: impl Fn(Option<&Agent>, Standing) -> bool) -> i32 {
        i32::try_from(self.here.values().filter(|(agent, standing)| is(*agent, *standing)).count()).unwrap_or(i32::MAX)
    }
}

/// The status of a pool that makes sense.
#[must_use]
pub fn status(pool: &AgentPool, seen: &Seen, target: &Target, plan: &Plan, applied: &Applied, now: Timestamp) -> AgentPoolStatus {
    let all = Standings::new(seen, target, applied, now);
    let new = |agent: Option<&Agent>| agent.is_none_or(|agent| agent.pod.revision == target.revision);
    let desired = i32::try_from(target.desired).unwrap_or(i32::MAX);
    let ready = all.count(|_, standing| standing == Standing::Ready);
    let updated = all.count(|agent, _| new(agent));
    let replicas = all.count(|_, _| true);
    let cause = cause(pool, seen, target, plan, applied, &all, now);
    let statements = [
        Statement::yes(ACCEPTED, "Valid", "the spec makes sense"),
        ready_statement(pool, seen, desired, ready, &all, cause.as_ref(), now),
        progressing_statement(target, desired, ready, updated, replicas, &all, cause.as_ref()),
        degraded_statement(cause),
    ];
    AgentPoolStatus {
        conditions: merged(pool, &statements, now),
        observed_generation: pool.metadata.generation,
        selector: Some(labels::selector_of_pool(&pool.name_any())),
        topology: seen.topology.clone(),
        replicas,
        desired_replicas: desired,
        ready_replicas: ready,
        updated_replicas: updated,
        busy_replicas: all.count(|agent, _| agent.and_then(|agent| agent.heard.as_ref()).is_some_and(|heard| heard.busy > 0)),
        revision: Some(target.revision.clone()),
        queue: seen.queue.clone(),
        restarts: (applied.restarts != RestartStatus::default()).then(|| still_counting(&applied.restarts, target, now)),
    }
}

/// The status of a pool that makes no sense: what runs is left as it is, and counted.
#[must_use]
pub fn rejected(pool: &AgentPool, seen: &Seen, problems: &[Problem], now: Timestamp) -> AgentPoolStatus {
    let before = pool.status.clone().unwrap_or_default();
    let reason = problems.first().map_or("Invalid", |problem| problem.reason);
    let sentences = problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ");
    let agents = seen.observed.agents.values().filter(|agent| agent.ending.is_none());
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let statements = [
        Statement::no(ACCEPTED, reason, &sentences),
        Statement::no(READY, "NotAccepted", format!("the spec is not acted upon: {sentences}")),
        Statement::no(PROGRESSING, "NotAccepted", "agents are left as they are until the spec is corrected"),
        Statement::yes(DEGRADED, reason, &sentences),
    ];
    AgentPoolStatus {
        conditions: merged(pool, &statements, now),
        observed_generation: pool.metadata.generation,
        selector: Some(labels::selector_of_pool(&pool.name_any())),
        topology: seen.topology.clone(),
        replicas: number(agents.clone().count()),
        desired_replicas: number(usize::try_from(desired(pool)).unwrap_or(usize::MAX)),
        ready_replicas: number(agents.filter(|agent| agent.pod.ready).count()),
        queue: seen.queue.clone(),
        ..before
    }
}

fn ready_statement(
    pool: &AgentPool,
    seen: &Seen,
    desired: i32,
    ready: i32,
    all: &Standings<'_>,
    cause: Option<&Cause>,
    now: Timestamp,
) -> Statement {
    if suspended(pool) {
        let message = "the pool is suspended: set operatingMode to Running to bring its agents back";
        return Statement::no(READY, "Suspended", message);
    }
    let count = format!("{ready} of {desired} agents are ready");
    if seen.topology.is_none() {
        let message = format!("no topology names this pool, so it gets no work: add it to the members of a Topology ({count})");
        return Statement::no(READY, "NoTopology", message);
    }
    if ready >= desired {
        return Statement::yes(READY, "Ready", count);
    }
    if let Some(cause) = cause {
        return Statement::no(READY, cause.reason, format!("{count}: {}", cause.message));
    }
    let starts = |agent: Option<&Agent>, standing: Standing| match standing {
        Standing::Broken => true,
        Standing::Unready => agent.is_none_or(|agent| !agent.has_run_for(super::degraded::SETTLED, now)),
        _ => false,
    };
    if seen.bus_away {
        let message = format!("{count}: the controller has lost the bus, and the agents probably have, too: see to the NATS servers");
        return Statement::no(READY, "BusAway", message);
    }
    let said = all.here.values().filter(|(_, standing)| *standing != Standing::Ready);
    let said = said.filter_map(|(agent, _)| Some((agent.as_ref()?.pod.name.as_str(), agent.as_ref()?.heard.as_ref()?.reason.as_deref()?)));
    let message = match said.clone().next() {
        Some((agent, reason)) => format!("{count}: {agent} says: {reason}"),
        None => count,
    };
    if all.count(starts) > 0 || all.ending > 0 || all.count(|_, _| true) < desired {
        Statement::no(READY, "Starting", message)
    } else {
        Statement::no(READY, "NotEnoughReady", message)
    }
}

fn progressing_statement(
    target: &Target,
    desired: i32,
    ready: i32,
    updated: i32,
    replicas: i32,
    all: &Standings<'_>,
    cause: Option<&Cause>,
) -> Statement {
    let ending = all.ending;
    if cause.is_some_and(|cause| cause.blocks) {
        return Statement::no(PROGRESSING, "Blocked", "nothing can be done until what Degraded says is seen to");
    }
    if updated < replicas || (ending > 0 && updated < desired && updated > 0) {
        let message = format!("{updated} of {desired} agents are of revision {}", target.revision);
        return Statement::yes(PROGRESSING, "RollingOut", message);
    }
    if replicas < desired {
        return Statement::yes(PROGRESSING, "Creating", format!("{replicas} of {desired} agents are created"));
    }
    if ending > 0 {
        let message = if ending == 1 { "1 agent ends its work".to_owned() } else { format!("{ending} agents end their work") };
        return Statement::yes(PROGRESSING, "Draining", message);
    }
    if ready < desired && cause.is_none() && all.count(|_, standing| standing == Standing::Broken) > 0 {
        return Statement::yes(PROGRESSING, "Starting", format!("{} of {desired} agents start", desired - ready));
    }
    Statement::no(PROGRESSING, "Complete", "nothing is under way")
}

fn degraded_statement(cause: Option<Cause>) -> Statement {
    match cause {
        Some(cause) => Statement::yes(DEGRADED, cause.reason, cause.message),
        None => Statement::no(DEGRADED, "AsExpected", "nothing is wrong"),
    }
}

/// The replacements that still count. Those that do not are dropped only when something else is written:
/// that they leave the window is no news.
fn still_counting(restarts: &RestartStatus, target: &Target, now: Timestamp) -> RestartStatus {
    let recent: Vec<_> = restarts.recent.iter().map(|time| time.0).collect();
    RestartStatus { total: restarts.total, recent: target.budget.counting(&recent, now).into_iter().map(Time).collect() }
}

fn merged(pool: &AgentPool, statements: &[Statement], now: Timestamp) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let before = pool.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    condition::merge(before, statements, pool.metadata.generation, &Time(now))
}

/// How soon a new status must be written, counted from the last write. `None` when it tells nothing new.
#[must_use]
pub fn urgency(before: Option<&AgentPoolStatus>, after: &AgentPoolStatus) -> Option<Duration> {
    let Some(before) = before else { return Some(Duration::ZERO) };
    // What has left the window is no news.
    let total = |status: &AgentPoolStatus| status.restarts.as_ref().map_or(0, |restarts| restarts.total);
    let after = &AgentPoolStatus { restarts: before.restarts.clone().filter(|_| total(before) == total(after)), ..after.clone() };
    if before == after {
        return None;
    }
    let turned = |status: &AgentPoolStatus| -> Vec<_> {
        status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone(), c.observed_generation)).collect()
    };
    let quiet = AgentPoolStatus { busy_replicas: after.busy_replicas, queue: after.queue.clone(), ..before.clone() };
    let counts = AgentPoolStatus {
        conditions: after.conditions.clone(),
        replicas: after.replicas,
        ready_replicas: after.ready_replicas,
        updated_replicas: after.updated_replicas,
        ..quiet.clone()
    };
    Some(if quiet == *after {
        COUNTERS
    } else if counts == *after && turned(before) == turned(after) {
        READINESS
    } else {
        Duration::ZERO
    })
}

/// What has turned, and what was done, as events.
#[must_use]
pub fn news(pool: &AgentPool, before: Option<&AgentPoolStatus>, after: &AgentPoolStatus, applied: Option<&Applied>) -> Vec<News> {
    let mut news = Vec::new();
    let conditions = |status: Option<&AgentPoolStatus>| status.map(|s| s.conditions.clone()).unwrap_or_default();
    let (before, after) = (conditions(before), conditions(Some(after)));
    let now = |type_: &str, status: &str| condition::find(&after, type_).filter(|c| c.status == status);
    let same =
        |type_: &str, reason: &str, status: &str| condition::find(&before, type_).is_some_and(|c| c.reason == reason && c.status == status);
    if let Some(wrong) = now(DEGRADED, "True").filter(|c| !same(DEGRADED, &c.reason, "True")) {
        news.push(News::warning("Reconcile", &wrong.reason, &wrong.message));
    } else if now(DEGRADED, "False").is_some() && condition::is_true(&before, DEGRADED) {
        news.push(News::normal("Reconcile", "Recovered", "what was wrong is seen to"));
    }
    let Some(applied) = applied else { return news };
    let name = pool.name_any();
    let list = |ordinals: Vec<u32>| {
        let names: Vec<_> = ordinals.iter().take(10).map(|ordinal| names::agent(&name, *ordinal)).collect();
        let more = ordinals.len().saturating_sub(names.len());
        names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
    };
    if !applied.adopted.is_empty() {
        let note =
            format!("adopted {}, which carried the labels of this pool and were nobody's", list(applied.adopted.iter().copied().collect()));
        news.push(News::normal("Adopt", "AgentsAdopted", note));
    }
    if !applied.created.is_empty() {
        news.push(News::normal("Create", "AgentsCreated", format!("created {}", list(applied.created.iter().copied().collect()))));
    }
    let of =
        |why: Why| -> Vec<u32> { applied.deleted.iter().filter(|deletion| deletion.why == why).map(|deletion| deletion.ordinal).collect() };
    for (why, reason, what) in [
        (Why::Surplus, "AgentsRemoved", "no more needed, told to end their work: "),
        (Why::Outdated, "AgentsRolled", "of an older revision, told to end their work: "),
    ] {
        let ordinals = of(why);
        if !ordinals.is_empty() {
            news.push(News::normal("Delete", reason, format!("{what}{}", list(ordinals))));
        }
    }
    for (why, what) in [(Why::Ended, "ended and are replaced: "), (Why::Silent, "were not heard any more and are replaced: ")] {
        let ordinals = of(why);
        if !ordinals.is_empty() {
            news.push(News::warning("Delete", "AgentsReplaced", format!("{what}{}", list(ordinals))));
        }
    }
    news
}
