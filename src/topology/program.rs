//! From edges to programs: what each sidecar and the gateway must know to let through exactly what
//! the topology allows. The controller writes programs to the bus; nothing else does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::delegation::Delegation;
use super::edges::{Edge, Relation};
use crate::api::agent_pool::{AgentPoolSpec, HealthSpec, OperatingMode};

/// What the compiler must know of a pool that exists and belongs to the topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFacts {
    /// What its agents can do.
    pub capabilities: Vec<String>,
    /// How many agents it is declared with.
    pub agents: u32,
    /// Whether it takes no work for now.
    pub suspended: bool,
    /// How often a task is given to an agent before it is dead.
    pub max_deliveries: u32,
    /// How its agents are heard.
    pub hearing: Hearing,
}

impl PoolFacts {
    /// What the compiler must know of a pool, from its spec.
    #[must_use]
    pub fn of(spec: &AgentPoolSpec) -> Self {
        Self {
            capabilities: spec.capabilities.clone(),
            agents: u32::try_from(spec.replicas).unwrap_or(0),
            suspended: spec.operating_mode == OperatingMode::Suspended,
            max_deliveries: positive(spec.queue.max_deliveries),
            hearing: Hearing {
                heartbeat_seconds: positive(spec.health.heartbeat_seconds),
                stale_seconds: positive(spec.health.stale_seconds),
            },
        }
    }
}

/// How the agents of a pool are heard, which whoever judges their silence must know: a pool that
/// speaks once in five minutes has not fallen silent after ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hearing {
    /// The time between two heartbeats.
    pub heartbeat_seconds: u32,
    /// How long an agent may be silent before it counts as lost.
    pub stale_seconds: u32,
}

impl Default for Hearing {
    fn default() -> Self {
        let health = HealthSpec::default();
        Self { heartbeat_seconds: positive(health.heartbeat_seconds), stale_seconds: positive(health.stale_seconds) }
    }
}

/// A number of the API as a count; the API server lets nothing below one through.
fn positive(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(1).max(1)
}

/// What the sidecars of one pool must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolProgram {
    /// The topology that the pool is a member of.
    pub topology: String,
    /// Names the edges of the whole topology; see [`TeamProgram::revision`].
    pub revision: String,
    /// How often a task is given to an agent of this pool before it is dead.
    pub max_deliveries: u32,
    /// Whom this pool may send tasks to.
    pub routes: Vec<Route>,
    /// The pools that may send tasks to this one. The gateway always may.
    pub senders: Vec<String>,
    /// How far a task may be passed on.
    #[serde(default)]
    pub delegation: Delegation,
}

/// Somebody whom a pool may send tasks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The pool that may be sent to.
    pub pool: String,
    /// Why; `None` for the gateway, which stands outside the team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<Relation>,
    /// What the agents of that pool can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Whether that pool takes no work for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// How its agents are heard.
    #[serde(default)]
    pub hearing: Hearing,
}

/// What the gateway must know of one topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TeamProgram {
    /// Names the edges and routes of the topology: equal revisions mean equal programs.
    pub revision: String,
    /// Every member, as a route from outside.
    pub routes: Vec<Route>,
}

/// Everything that the bus must hold for one topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// For the gateway.
    pub team: TeamProgram,
    /// For the sidecars, by pool.
    pub pools: BTreeMap<String, PoolProgram>,
}

/// Compiles the programs of a topology. Edges from or to a pool without facts are left out: that pool
/// does not exist or belongs to another topology, and the rest of the team works on.
#[must_use]
pub fn program(topology: &str, delegation: Delegation, edges: &[Edge], all: &BTreeMap<String, PoolFacts>) -> Program {
    let route = |pool: &str, relation| {
        all.get(pool).map(|facts| Route {
            pool: pool.to_owned(),
            relation,
            capabilities: facts.capabilities.clone(),
            suspended: facts.suspended,
            hearing: facts.hearing,
        })
    };
    let mut pools: BTreeMap<String, PoolProgram> = all
        .iter()
        .map(|(pool, facts)| {
            let program = PoolProgram {
                topology: topology.to_owned(),
                revision: String::new(),
                max_deliveries: facts.max_deliveries,
                routes: edges.iter().filter(|e| e.from == *pool).filter_map(|e| route(&e.to, Some(e.relation))).collect(),
                senders: edges.iter().filter(|e| e.to == *pool && all.contains_key(&e.from)).map(|e| e.from.clone()).collect(),
                delegation,
            };
            (pool.clone(), program)
        })
        .collect();
    let routes: Vec<Route> = all.keys().filter_map(|pool| route(pool, None)).collect();
    let revision = revision(&routes, &pools);
    for program in pools.values_mut() {
        program.revision.clone_from(&revision);
    }
    Program { team: TeamProgram { revision, routes }, pools }
}

/// Sixteen hexadecimal digits over everything that the programs say.
fn revision(routes: &[Route], pools: &BTreeMap<String, PoolProgram>) -> String {
    let said = serde_json::to_vec(&(routes, pools)).unwrap_or_default();
    Sha256::digest(said).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn edge(from: &str, to: &str) -> Edge {
        Edge { from: from.to_owned(), to: to.to_owned(), relation: Relation::Delegate }
    }

    fn compiled(edges: &[Edge], all: &BTreeMap<String, PoolFacts>) -> Program {
        program("team", Delegation::default(), edges, all)
    }

    fn facts(names: &[&str]) -> BTreeMap<String, PoolFacts> {
        names
            .iter()
            .map(|name| {
                (
                    (*name).to_owned(),
                    PoolFacts { capabilities: vec![], agents: 1, suspended: false, max_deliveries: 3, hearing: Hearing::default() },
                )
            })
            .collect()
    }

    #[test]
    fn a_member_whose_pool_is_missing_leaves_the_rest_working() {
        let program = compiled(&[edge("a", "b"), edge("a", "ghost"), edge("ghost", "b")], &facts(&["a", "b"]));
        assert_eq!(program.pools["a"].routes.iter().map(|r| r.pool.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(program.pools["b"].senders, ["a"]);
        assert_eq!(program.team.routes.len(), 2);
    }

    #[test]
    fn the_revision_changes_with_what_is_said_and_only_then() {
        let base = compiled(&[edge("a", "b")], &facts(&["a", "b"]));
        assert_eq!(base, compiled(&[edge("a", "b")], &facts(&["a", "b"])));
        let mut suspended = facts(&["a", "b"]);
        suspended.get_mut("b").unwrap().suspended = true;
        let other = compiled(&[edge("a", "b")], &suspended);
        assert_ne!(base.team.revision, other.team.revision);
        let circular = Delegation { allow_cycles: true, ..Delegation::default() };
        let other = program("team", circular, &[edge("a", "b")], &facts(&["a", "b"]));
        assert_ne!(base.team.revision, other.team.revision);
        assert_eq!(base.pools["a"].revision, base.team.revision);
    }
}
