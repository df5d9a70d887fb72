//! What a topology's status says, computed from what was seen and done. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::observe::{Member, Members};
use crate::api::condition::{self, ACCEPTED, DEGRADED, PROGRAMMED, READY, RESOLVED_REFS, Statement};
use crate::api::topology::{Finding, MAX_FINDINGS, MemberStatus, TopologyStatus};
use crate::api::{AgentPool, Problem, Topology};
use crate::bus::nats::trim::Progress;
use crate::kubernetes::events::News;

/// Whether the bus does what the topology says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The topology is wrong; what was accepted before stays in force.
    NotAccepted,
    /// It does.
    InForce {
        /// Names what is in force.
        revision: String,
    },
    /// The broker cannot be reached.
    Away(String),
    /// The broker has something that it cannot change into what is wanted.
    Conflict(Vec<String>),
    /// The broker refused.
    Refused(String),
    /// The topology is being deleted; the sentence says what is waited for.
    Leaving(String),
}

/// Everything that a report is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts<'a> {
    /// The topology.
    pub topology: &'a Topology,
    /// Its members.
    pub members: &'a Members,
    /// What is wrong with it by itself, or how many edges it has.
    pub edges: Result<usize, &'a [Problem]>,
    /// What is weak in its design, what weighs most first.
    pub findings: &'a [Finding],
    /// Whether the bus does what it says.
    pub bus: Bus,
    /// Pools that are no longer members and whose queue still holds tasks.
    pub left: &'a BTreeMap<String, Progress>,
    /// How full the journal is, in percent, when that is a worry.
    pub full: Option<u64>,
}

/// From how many percent on the fullness of a journal is a worry.
pub const WORRYING: u64 = 90;

/// Computes the status that follows `before`.
#[must_use]
pub fn report(facts: &Facts<'_>, before: &TopologyStatus, now: Timestamp) -> TopologyStatus {
    let statements = [accepted(facts), resolved(facts), programmed(facts), ready(facts), degraded(facts)];
    let generation = facts.topology.metadata.generation;
    let here = || facts.members.values().filter_map(Member::pool);
    TopologyStatus {
        conditions: condition::merge(&before.conditions, &statements, generation, &Time(now)),
        observed_generation: generation,
        pools: count(here().count()),
        ready_pools: count(here().filter(|pool| ready_agents(pool) > 0).count()),
        edges: count(facts.edges.unwrap_or(0)),
        members: facts
            .members
            .iter()
            .map(|(name, member)| MemberStatus {
                pool: name.clone(),
                ready: member.pool().map_or(0, ready_agents),
                desired: member.pool().map_or(0, AgentPool::desired_replicas),
            })
            .collect(),
        findings: facts.findings.iter().take(MAX_FINDINGS).cloned().collect(),
        applied_revision: match &facts.bus {
            Bus::InForce { revision } => Some(revision.clone()),
            _ => before.applied_revision.clone(),
        },
    }
}

fn accepted(facts: &Facts<'_>) -> Statement {
    match facts.edges {
        Ok(edges) => Statement::yes(ACCEPTED, "Accepted", format!("{} members, {edges} edges", facts.members.len())),
        Err(problems) => {
            let all: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
            let reason = problems.first().map_or("Invalid", |problem| problem.reason);
            Statement::no(ACCEPTED, reason, format!("{}; what was accepted before stays in force", all.join("; ")))
        }
    }
}

/// What is wrong with the pools that the topology names: the reason of the first and a sentence on all.
fn unresolved(facts: &Facts<'_>) -> Option<(&'static str, String)> {
    let (mut reason, mut all) = (None, Vec::new());
    for (name, member) in facts.members {
        let (why, message) = match member {
            Member::Here(_) => continue,
            Member::Missing => ("PoolNotFound", format!("pool {name} does not exist: create it, or remove it from members")),
            Member::Elsewhere(other) => (
                "PoolInAnotherTopology",
                format!("pool {name} belongs to topology {other}, which is older: remove it from the members of one of the two"),
            ),
        };
        reason.get_or_insert(why);
        all.push(message);
    }
    reason.map(|reason| (reason, all.join("; ")))
}

fn resolved(facts: &Facts<'_>) -> Statement {
    match unresolved(facts) {
        None => Statement::yes(RESOLVED_REFS, "Resolved", "every member is a pool of this topology"),
        Some((reason, message)) => Statement::no(RESOLVED_REFS, reason, message),
    }
}

fn programmed(facts: &Facts<'_>) -> Statement {
    match &facts.bus {
        Bus::InForce { revision } => Statement::yes(
            PROGRAMMED,
            "Programmed",
            format!("the journal, the queues and the programs of revision {revision} are in force on the bus{}", remainder(facts)),
        ),
        Bus::NotAccepted => Statement::no(PROGRAMMED, "NotAccepted", "the topology is not accepted, so the bus is not changed"),
        Bus::Away(problem) => Statement::unknown(
            PROGRAMMED,
            "BusUnavailable",
            format!(
                "{problem}: see that NATS runs and that the controller's --nats-url is right; agents go on by what they were told last"
            ),
        ),
        Bus::Conflict(problems) => Statement::no(PROGRAMMED, "JournalConflict", problems.join("; ")),
        Bus::Refused(problem) => Statement::no(PROGRAMMED, "Refused", problem.clone()),
        Bus::Leaving(message) => Statement::no(PROGRAMMED, "Deleting", message.clone()),
    }
}

/// What is still there of pools that are no longer members.
fn remainder(facts: &Facts<'_>) -> String {
    let left = facts.left.iter().map(|(pool, progress)| {
        let tasks = progress.pending.saturating_add(progress.in_flight);
        format!("; pool {pool} is no longer a member and its queue still holds {tasks} tasks: make it a member again to have them done")
    });
    left.collect()
}

fn ready(facts: &Facts<'_>) -> Statement {
    match (&facts.bus, facts.edges) {
        (Bus::Leaving(message), _) => return Statement::no(READY, "Deleting", message.clone()),
        (_, Err(_)) | (Bus::NotAccepted, _) => return Statement::no(READY, "NotAccepted", "the topology is not accepted: see Accepted"),
        (Bus::Away(problem), _) => return Statement::no(READY, "BusUnavailable", problem.clone()),
        (Bus::Conflict(_) | Bus::Refused(_), _) => {
            return Statement::no(READY, "NotProgrammed", "the bus does not do what the topology says: see Programmed");
        }
        (Bus::InForce { .. }, Ok(_)) => {}
    }
    let waiting: Vec<_> = facts.members.iter().filter_map(|(name, member)| Some(format!("{name}: {}", not_ready(member)?))).collect();
    if waiting.is_empty() {
        return Statement::yes(READY, "Ready", format!("all {} pools have a ready agent", facts.members.len()));
    }
    Statement::no(READY, "PoolsNotReady", waiting.join("; "))
}

/// Why a member has no ready agent; `None` when it has one.
fn not_ready(member: &Member) -> Option<String> {
    let pool = match member {
        Member::Here(pool) => pool,
        Member::Missing => return Some("does not exist".to_owned()),
        Member::Elsewhere(other) => return Some(format!("belongs to topology {other}")),
    };
    if ready_agents(pool) > 0 {
        return None;
    }
    let conditions = pool.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let said = condition::find(conditions, READY).filter(|ready| ready.status != "True");
    Some(said.map_or_else(|| "has no ready agent yet".to_owned(), |ready| ready.message.clone()))
}

fn degraded(facts: &Facts<'_>) -> Statement {
    let (mut reason, mut all) = (None, Vec::new());
    let mut say = |why, message| {
        reason.get_or_insert(why);
        all.push(message);
    };
    match &facts.bus {
        Bus::Away(problem) => say("BusUnavailable", problem.clone()),
        Bus::Conflict(problems) => say("JournalConflict", problems.join("; ")),
        Bus::Refused(problem) => say("Refused", problem.clone()),
        Bus::NotAccepted | Bus::InForce { .. } | Bus::Leaving(_) => {}
    }
    if let Some((why, message)) = unresolved(facts) {
        say(why, message);
    }
    for pool in facts.members.values().filter_map(Member::pool) {
        let conditions = pool.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if let Some(degraded) = condition::find(conditions, DEGRADED).filter(|degraded| degraded.status == "True") {
            say("PoolDegraded", format!("pool {}: {}", pool.metadata.name.as_deref().unwrap_or_default(), degraded.message));
        }
    }
    if let Some(percent) = facts.full {
        let message = format!(
            "the journal is {percent}% full, and a full one refuses new tasks: what is not done or younger than two minutes cannot be dropped; add agents, or raise spec.journal.maxBytes"
        );
        say("JournalFull", message);
    }
    match reason {
        None => Statement::no(DEGRADED, "AsDeclared", "nothing is missing"),
        Some(reason) => Statement::yes(DEGRADED, reason, all.join("; ")),
    }
}

fn ready_agents(pool: &AgentPool) -> i32 {
    pool.status.as_ref().map_or(0, |status| status.ready_replicas)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The transitions between two statuses that people should read of: a condition whose status or reason
/// is another, and findings that were made or are gone. The first statement of each condition is told too,
/// unless it says that all is well.
#[must_use]
pub fn transitions(before: &TopologyStatus, after: &TopologyStatus) -> Vec<News> {
    let good = |type_: &str, status: &str| status == if type_ == DEGRADED { "False" } else { "True" };
    after
        .conditions
        .iter()
        .filter(|now| match condition::find(&before.conditions, &now.type_) {
            Some(then) => then.status != now.status || then.reason != now.reason,
            None => !good(&now.type_, &now.status),
        })
        .filter(|now| told(&now.type_, &now.reason))
        .map(|now| {
            let news = if good(&now.type_, &now.status) { News::normal } else { News::warning };
            news("Report", now.reason.clone(), now.message.clone())
        })
        .chain(findings(before, after))
        .collect()
}

/// Findings that only one of two statuses has, in one piece of news a type: of a large team many may
/// change at once.
fn findings(before: &TopologyStatus, after: &TopologyStatus) -> Vec<News> {
    let missing = |from: &TopologyStatus, finding: &Finding| {
        from.findings.iter().all(|other| (&other.type_, &other.member) != (&finding.type_, &finding.member))
    };
    let (mut made, mut gone) = (BTreeMap::<&str, Vec<String>>::new(), BTreeMap::<&str, Vec<&str>>::new());
    for finding in after.findings.iter().filter(|finding| missing(before, finding)) {
        made.entry(&finding.type_).or_default().push(finding.to_string());
    }
    for finding in before.findings.iter().filter(|finding| missing(after, finding)) {
        gone.entry(&finding.type_).or_default().push(&finding.member);
    }
    let made = made.into_iter().map(|(type_, all)| News::warning("Report", type_, all.join("; ")));
    let gone = gone.into_iter().map(|(type_, all)| News::normal("Report", "FindingGone", format!("no longer {type_}: {}", all.join(", "))));
    made.chain(gone).collect()
}

/// Whether a condition is told of: `Ready` and `Degraded` mostly repeat what the other three say.
fn told(type_: &str, reason: &str) -> bool {
    match type_ {
        READY => matches!(reason, "Ready" | "PoolsNotReady"),
        DEGRADED => matches!(reason, "PoolDegraded" | "JournalFull"),
        _ => true,
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
