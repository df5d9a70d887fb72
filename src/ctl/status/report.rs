//! Judges what was read: what is ready, what is not, and why. Pure.
//!
//! A resource is well when its `Ready` condition is true, nothing says that it is degraded, and the
//! controller has seen its newest generation. Whatever is not so gives one line that says why, the
//! deepest cause first: a spec that makes no sense explains everything that follows from it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde::Serialize;

use super::observe::Seen;
use crate::api::agent_pool::OperatingMode;
use crate::api::topology::Finding;
use crate::api::{AgentPool, Topology, condition};
use crate::topology::{self, Edge};

/// What `-o json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) namespace: String,
    /// Whether everything below is well.
    pub(super) ready: bool,
    pub(super) topologies: Vec<TopologyReport>,
    /// Pools that no topology names, when all of the namespace was asked for.
    pub(super) other_pools: Vec<PoolReport>,
}

/// One topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopologyReport {
    pub(super) name: String,
    pub(super) architecture: String,
    pub(super) ready: bool,
    pub(super) status: String,
    pub(super) why: Vec<String>,
    pub(super) pools: Vec<PoolReport>,
    pub(super) edges: Vec<Edge>,
    /// What the controller found weak in its design.
    pub(super) findings: Vec<Finding>,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PoolReport {
    pub(super) name: String,
    pub(super) ready: bool,
    pub(super) status: String,
    pub(super) why: Vec<String>,
    pub(super) ready_agents: i32,
    pub(super) desired_agents: i32,
    pub(super) busy_agents: i32,
    /// Absent while the controller knows of no queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<QueueReport>,
}

/// What waits for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueueReport {
    pub(super) pending: i64,
    pub(super) in_flight: i64,
}

impl Report {
    pub(super) fn is_empty(&self) -> bool {
        self.topologies.is_empty() && self.other_pools.is_empty()
    }
}

/// Judges everything that was read. `everything` also tells of pools that are in no topology.
pub(super) fn report(namespace: &str, seen: &Seen, everything: bool) -> Report {
    let pools: BTreeMap<String, &AgentPool> = seen.pools.iter().map(|pool| (pool.name_any(), pool)).collect();
    let mut topologies: Vec<TopologyReport> = seen.topologies.iter().map(|t| of_topology(t, &pools)).collect();
    topologies.sort_by(|a, b| a.name.cmp(&b.name));
    let named = |pool: &str| topologies.iter().any(|t| t.pools.iter().any(|p| p.name == pool));
    let other_pools: Vec<PoolReport> = pools.iter().filter(|(name, _)| everything && !named(name)).map(|(_, pool)| of_pool(pool)).collect();
    let ready = topologies.iter().all(|t| t.ready && t.pools.iter().all(|p| p.ready)) && other_pools.iter().all(|p| p.ready);
    Report { namespace: namespace.to_owned(), ready, topologies, other_pools }
}

fn of_topology(topology: &Topology, pools: &BTreeMap<String, &AgentPool>) -> TopologyReport {
    let name = topology.name_any();
    let status = topology.status.clone().unwrap_or_default();
    let verdict = verdict(&status.conditions, status.observed_generation, topology.metadata.generation);
    let mut names: Vec<&str> = topology.spec.members.iter().map(|m| m.pool.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let members = names.into_iter().map(|pool| of_member(&name, pool, pools.get(pool).copied())).collect();
    let edges = match topology::check(&topology.spec).is_empty() {
        true => topology::edges(&topology.spec),
        false => Vec::new(),
    };
    TopologyReport {
        name,
        architecture: format!("{:?}", topology.spec.architecture),
        ready: verdict.well,
        status: verdict.status,
        why: verdict.why,
        pools: members,
        edges,
        findings: status.findings,
    }
}

fn of_member(topology: &str, name: &str, pool: Option<&AgentPool>) -> PoolReport {
    let Some(pool) = pool else {
        let why = format!("there is no AgentPool {name:?} in this namespace: create it, or remove the member");
        return PoolReport { name: name.to_owned(), status: "Missing".to_owned(), why: vec![why], ..PoolReport::default() };
    };
    let mut report = of_pool(pool);
    if let Some(other) = pool.status.as_ref().and_then(|s| s.topology.as_deref()).filter(|other| *other != topology) {
        report.ready = false;
        report.why.insert(
            0,
            format!("the pool belongs to topology {other:?}: a pool is a member of one topology, remove it from one of the two"),
        );
    }
    report
}

fn of_pool(pool: &AgentPool) -> PoolReport {
    let status = pool.status.clone().unwrap_or_default();
    let verdict = verdict(&status.conditions, status.observed_generation, pool.metadata.generation);
    let mut why = verdict.why;
    if why.is_empty() && pool.spec.operating_mode == OperatingMode::Suspended {
        why.push("the pool is suspended: set spec.operatingMode to Running".to_owned());
    }
    PoolReport {
        name: pool.name_any(),
        ready: verdict.well,
        status: verdict.status,
        why,
        ready_agents: status.ready_replicas,
        desired_agents: if pool.status.is_some() { status.desired_replicas } else { pool.desired_replicas() },
        busy_agents: status.busy_replicas,
        queue: status.queue.map(|q| QueueReport { pending: q.pending, in_flight: q.in_flight }),
    }
}

struct Verdict {
    well: bool,
    status: String,
    why: Vec<String>,
}

/// The conditions that explain a trouble, deepest cause first, and the status that each should not have.
const CAUSES: [(&str, &str); 5] = [
    (condition::ACCEPTED, "False"),
    (condition::RESOLVED_REFS, "False"),
    (condition::PROGRAMMED, "False"),
    (condition::DEGRADED, "True"),
    (condition::READY, "False"),
];

fn verdict(conditions: &[Condition], observed: Option<i64>, generation: Option<i64>) -> Verdict {
    let Some(ready) = condition::find(conditions, condition::READY) else {
        let why = "no controller has looked at it yet: see that the controller runs (`skein version`)";
        return Verdict { well: false, status: "Unknown".to_owned(), why: vec![why.to_owned()] };
    };
    let mut causes: Vec<&Condition> = CAUSES
        .iter()
        .filter_map(|(type_, bad)| condition::find(conditions, type_).filter(|c| c.status == *bad))
        .chain(Some(ready).filter(|c| c.status == "Unknown"))
        .collect();
    // One cause often stands in two conditions.
    let mut told = Vec::new();
    causes.retain(|c| {
        let fresh = !told.contains(&c.message.as_str());
        told.push(c.message.as_str());
        fresh
    });
    let mut why: Vec<String> = causes
        .iter()
        .map(|c| if c.message.is_empty() { c.reason.clone() } else { c.message.split_whitespace().collect::<Vec<_>>().join(" ") })
        .collect();
    let behind = matches!((observed, generation), (Some(observed), Some(generation)) if observed < generation);
    if behind {
        why.push("the controller has not seen the newest change of the spec yet".to_owned());
    }
    let status = causes.first().map_or(&ready.reason, |c| &c.reason).clone();
    Verdict { well: causes.is_empty() && !behind, status, why }
}

#[cfg(test)]
#[path = "report_tests.rs"]
pub(super) mod tests;
