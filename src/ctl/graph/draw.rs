//! The graph of a team: pools and edges, in the order of the management tree. Pure.

use kube::ResourceExt as _;
use serde::Serialize;

use super::super::team::Team;
use crate::api::agent_pool::OperatingMode;
use crate::topology::{Edge, edges};

/// What `-o json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Graph {
    pub(super) namespace: String,
    pub(super) topology: String,
    pub(super) architecture: String,
    /// Each manager before its reports, and these in the order of the YAML.
    pub(super) pools: Vec<Node>,
    /// In the order of the pools that send.
    pub(super) edges: Vec<Edge>,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) manager: Option<String>,
    /// How many managers stand above it.
    #[serde(skip)]
    pub(super) depth: usize,
    /// How many agents it is declared with; absent when the pool cannot be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agents: Option<i32>,
    pub(super) capabilities: Vec<String>,
    pub(super) suspended: bool,
    /// Why the pool cannot be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trouble: Option<String>,
}

/// Draws a team whose topology makes sense.
pub(super) fn draw(team: &Team) -> Graph {
    let spec = &team.topology.spec;
    let mut pools = Vec::new();
    below(team, None, 0, &mut pools);
    let place = |name: &str| pools.iter().position(|node| node.name == name);
    let mut edges = edges(spec);
    edges.sort_by_key(|edge| (place(&edge.from), place(&edge.to)));
    Graph {
        namespace: team.topology.namespace().unwrap_or_default(),
        topology: team.topology.name_any(),
        architecture: format!("{:?}", spec.architecture),
        pools,
        edges,
    }
}

/// Adds whoever reports to this manager, and all below.
fn below(team: &Team, manager: Option<&str>, depth: usize, pools: &mut Vec<Node>) {
    for member in team.topology.spec.members.iter().filter(|member| member.manager.as_deref() == manager) {
        let pool = team.pool(&member.pool);
        pools.push(Node {
            name: member.pool.clone(),
            manager: member.manager.clone(),
            depth,
            agents: pool.map(|pool| pool.spec.replicas),
            capabilities: pool.map(|pool| pool.spec.capabilities.clone()).unwrap_or_default(),
            suspended: pool.is_some_and(|pool| pool.spec.operating_mode == OperatingMode::Suspended),
            trouble: team.trouble(&member.pool),
        });
        below(team, Some(&member.pool), depth + 1, pools);
    }
}

impl Graph {
    /// Pairs of pools that send to each other sideways, each once.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let place = |name: &str| self.pools.iter().position(|node| node.name == name);
        let sideways = self.edges.iter().filter(|edge| edge.relation == crate::topology::Relation::Coordinate);
        sideways.filter(move |edge| place(&edge.from) < place(&edge.to)).map(|edge| (edge.from.as_str(), edge.to.as_str()))
    }
}

impl Node {
    /// Its agents, in words.
    pub(super) fn staff(&self) -> String {
        let agents = match (self.agents, &self.trouble) {
            (Some(1), _) => "1 agent".to_owned(),
            (Some(agents), _) => format!("{agents} agents"),
            (None, trouble) => trouble.clone().unwrap_or_default(),
        };
        if self.suspended { format!("{agents}, suspended") } else { agents }
    }
}
