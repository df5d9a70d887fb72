//! What is wrong with a pool: the one cause that `Degraded` names, of all that there may be.
//!
//! The order: a name that is not ours, a refusal of the API server, the budget, then what the kubelet and
//! the scheduler say of a pod, then what agents say of themselves.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::apply::Applied;
use super::observe::Seen;
use super::plan::{Agent, Plan, Standing, Target};
use super::report::Standings;
use crate::api::{AgentPool, names};
use crate::controller::pods::Phase;
use kube::ResourceExt as _;

/// How long an agent may take to become well before its own word counts.
pub const SETTLED: SignedDuration = SignedDuration::from_secs(30);

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A CamelCase word for programs.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether nothing can be done until somebody sees to it.
    pub blocks: bool,
}

impl Agent {
    /// Whether the pod has run for longer than this.
    #[must_use]
    pub fn has_run_for(&self, span: SignedDuration, now: Timestamp) -> bool {
        now.duration_since(self.pod.begun) > span
    }
}

/// The worst that is wrong, if anything is.
#[must_use]
pub fn cause(
    pool: &AgentPool,
    seen: &Seen,
    target: &Target,
    plan: &Plan,
    applied: &Applied,
    all: &Standings<'_>,
    now: Timestamp,
) -> Option<Cause> {
    let name = pool.name_any();
    taken(&name, seen, plan, applied)
        .or_else(|| refused(applied))
        .or_else(|| exhausted(&name, seen, target, plan, now))
        .or_else(|| troubled(all, now))
        .or_else(|| held(&name, seen, target, plan))
        .or_else(|| unwell(all, now))
}

fn taken(pool: &str, seen: &Seen, plan: &Plan, applied: &Applied) -> Option<Cause> {
    let planned = plan.taken.iter().filter(|ordinal| !seen.leaving.contains(ordinal)).map(|n| format!("pod {}", names::agent(pool, *n)));
    let mut all: Vec<String> = planned.chain(applied.taken.iter().cloned()).collect();
    all.sort();
    all.dedup();
    let first = all.first()?;
    let more = more(all.len());
    let message = format!("{first} exists and does not belong to this pool{more}: delete it, or call the pool something else");
    Some(Cause { reason: "NameTaken", message, blocks: true })
}

fn refused(applied: &Applied) -> Option<Cause> {
    let words = applied.refused.as_deref()?.trim_end_matches('.');
    let (reason, what) = if words.contains("exceeded quota") {
        ("QuotaExceeded", "raise the quota of the namespace, or ask for fewer or smaller agents")
    } else if words.contains("PodSecurity") || words.contains("violates") {
        ("PodRefused", "make the template fit the Pod Security level of the namespace")
    } else {
        ("PodRefused", "correct the template, or the policy that refuses it")
    };
    Some(Cause { reason, message: format!("the API server does not take the pods ({words}): {what}"), blocks: true })
}

fn exhausted(pool: &str, seen: &Seen, target: &Target, plan: &Plan, now: Timestamp) -> Option<Cause> {
    if !plan.exhausted {
        return None;
    }
    let worst = plan.held.iter().find_map(|ordinal| {
        let agent = seen.observed.agents.get(ordinal)?;
        let trouble = agent.pod.trouble(now).map(|trouble| trouble.message.clone());
        Some(format!("agent {} {}", names::agent(pool, *ordinal), trouble.unwrap_or_else(|| lost(agent, target))))
    });
    let message = format!(
        "as many agents as supervision.maxRestarts allows ({}) were replaced within {} seconds, and {} more should be ({}): see to the cause; agents are replaced again once the window has passed",
        target.budget.max,
        target.budget.within.as_secs(),
        plan.held.len(),
        worst.unwrap_or_default()
    );
    Some(Cause { reason: "RestartBudgetExceeded", message, blocks: true })
}

fn held(pool: &str, seen: &Seen, target: &Target, plan: &Plan) -> Option<Cause> {
    let ordinal = plan.held.first()?;
    let agent = seen.observed.agents.get(ordinal)?;
    let reason = if matches!(agent.pod.phase, Phase::Ended(_)) { "AgentEnded" } else { "AgentSilent" };
    let message = format!(
        "agent {} {} again soon after it was replaced{}, and waits for its next replacement: see its log and events",
        names::agent(pool, *ordinal),
        lost(agent, target),
        more(plan.held.len())
    );
    Some(Cause { reason, message, blocks: false })
}

fn lost(agent: &Agent, target: &Target) -> String {
    match &agent.pod.phase {
        Phase::Ended(reason) => format!("has ended ({reason})"),
        Phase::Pending | Phase::Running => format!("has not been heard for more than {} seconds", target.stale.as_secs()),
    }
}

fn troubled(all: &Standings<'_>, now: Timestamp) -> Option<Cause> {
    let agents = all.here.values().filter_map(|(agent, _)| *agent);
    let mut troubles: Vec<_> = agents.filter_map(|agent| Some((agent.pod.trouble(now)?, agent))).collect();
    // The order of the ordinals stays within equal reasons.
    troubles.sort_by_key(|(trouble, _)| trouble.reason);
    let (trouble, agent) = troubles.first()?;
    // A container that is restarted because it does not answer looks like one that crashes.
    let said = agent.heard.as_ref().filter(|heard| heard.unhealthy).and_then(|heard| heard.reason.as_deref());
    let said = said.map(|reason| format!("; its sidecar says: {}", reason.trim_end_matches('.'))).unwrap_or_default();
    let message = format!("agent {}: {}{said}{}", agent.pod.name, trouble.message, more(troubles.len()));
    Some(Cause { reason: trouble.reason.as_str(), message, blocks: false })
}

fn unwell(all: &Standings<'_>, now: Timestamp) -> Option<Cause> {
    let unwell = |(agent, standing): &(Option<&Agent>, Standing)| {
        let agent = agent.filter(|agent| *standing != Standing::Broken && agent.has_run_for(SETTLED, now))?;
        let heard = agent.heard.as_ref().filter(|heard| heard.unhealthy)?;
        Some((agent.pod.name.clone(), heard.reason.clone()))
    };
    let all: Vec<_> = all.here.values().filter_map(unwell).collect();
    let (name, reason) = all.first()?;
    let reason = reason.as_deref().unwrap_or("it does not say why; see its log").trim_end_matches('.');
    Some(Cause { reason: "AgentUnhealthy", message: format!("agent {name} is not well: {reason}{}", more(all.len())), blocks: false })
}

/// Says that there are more of the kind than the one that is named.
fn more(all: usize) -> String {
    match all.saturating_sub(1) {
        0 => String::new(),
        1 => " (and 1 more)".to_owned(),
        more => format!(" (and {more} more)"),
    }
}
