//! Findings: weaknesses of a team's design, which are allowed and will cost its owner. Pure.
//!
//! | type | found when |
//! | --- | --- |
//! | `MeshTooLarge` | more than [`LARGEST_MESH`] agents, of two pools or more, may all send to each other: those of a Flat team, or of the reports of one manager in a Hybrid one |
//! | `StarTooLarge` | a manager has more than [`LARGEST_STAR`] agents below it for each agent of its own: those of the pools that report to it directly |
//! | `TooManyEdges` | a member has more than its share of edges: it is a peer of more than [`FEW_PEERS`] others, and has a part in more than half of all pairs of peers. Edges to its manager and its reports do not count: somebody must have them, and `StarTooLarge` judges how many |
//! | `IsolatedMember` | no edge leads to a member or away from it, and it is not alone |
//! | `SinglePointOfFailure` | a pool has one agent, and alone serves a capability, or stands above all other members |
//!
//! A pool counts with the agents that it is declared with; one that does not exist, or belongs to another
//! topology, has none. Each finding has one line of YAML as its remedy. Where one line cannot mend it, it
//! is the first of several, and the next look tells the next one: whoever follows them all ends with a
//! team of which nothing is found.

use std::collections::{BTreeMap, BTreeSet};

use super::edges::{Edge, Relation};
use super::program::PoolFacts;
use crate::api::topology::{Architecture, Finding, Member, TopologySpec};

/// The number of agents that may all send to each other.
pub const LARGEST_MESH: u32 = 20;
/// The number of agents that one agent of a manager may have below it.
pub const LARGEST_STAR: u32 = 10;
/// The number of peers that nobody minds, however few pairs of peers the team has.
pub const FEW_PEERS: usize = 5;

/// The number of names that a sentence holds.
const NAMED: usize = 10;

/// Finds what is weak in a topology that [`check`](super::check()) found no problem in. `edges` are those
/// that were compiled from it, `pools` its members that exist and belong to it. What weighs most comes
/// first; of one type there is one finding a member, in the order of their names.
#[must_use]
pub fn findings(spec: &TopologySpec, edges: &[Edge], pools: &BTreeMap<String, PoolFacts>) -> Vec<Finding> {
    let team = Team::of(spec, edges, pools);
    let mut found = Vec::new();
    for mut of_one_type in [team.meshes(), team.stars(), team.hoarders(), team.isolated(), team.single_points()] {
        of_one_type.sort_by(|a, b| a.member.cmp(&b.member));
        found.append(&mut of_one_type);
    }
    found
}

/// A topology from the points of view that findings need.
struct Team<'a> {
    spec: &'a TopologySpec,
    pools: &'a BTreeMap<String, PoolFacts>,
    /// Members by their manager; without one, the roots.
    reports: BTreeMap<Option<&'a str>, Vec<&'a Member>>,
    /// The peers of each member that has any.
    peers: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Members that an edge leads to or away from.
    joined: BTreeSet<&'a str>,
}

impl<'a> Team<'a> {
    fn of(spec: &'a TopologySpec, edges: &'a [Edge], pools: &'a BTreeMap<String, PoolFacts>) -> Self {
        let mut reports: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for member in &spec.members {
            reports.entry(member.manager.as_deref()).or_default().push(member);
        }
        let mut peers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for edge in edges.iter().filter(|edge| edge.relation == Relation::Coordinate) {
            peers.entry(&edge.from).or_default().insert(&edge.to);
        }
        let joined = edges.iter().flat_map(|edge| [edge.from.as_str(), edge.to.as_str()]).collect();
        Self { spec, pools, reports, peers, joined }
    }

    fn agents(&self, pool: &str) -> u32 {
        self.pools.get(pool).map_or(0, |facts| facts.agents)
    }

    /// Members with their agents, and how many these are together.
    fn counted(&self, members: &[&'a Member]) -> (Vec<String>, u32) {
        let said = members.iter().map(|member| format!("{} ({})", member.pool, self.agents(&member.pool))).collect();
        (said, members.iter().map(|member| self.agents(&member.pool)).fold(0, u32::saturating_add))
    }

    fn meshes(&self) -> Vec<Finding> {
        let groups: Vec<Vec<&Member>> = match self.spec.architecture {
            Architecture::Flat => vec![self.spec.members.iter().collect()],
            Architecture::Hybrid => self.reports.values().cloned().collect(),
            Architecture::Hierarchical => Vec::new(),
        };
        let there = |group: Vec<&'a Member>| group.into_iter().filter(|member| self.agents(&member.pool) > 0).collect::<Vec<_>>();
        let found = groups.into_iter().map(there).filter_map(|group| {
            let (said, agents) = self.counted(&group);
            (group.len() > 1 && agents > LARGEST_MESH).then(|| Finding {
                type_: "MeshTooLarge".to_owned(),
                member: group[0].pool.clone(),
                members: group.iter().map(|member| member.pool.clone()).collect(),
                message: format!(
                    "all {agents} agents of {} may send to each other, which are more than {LARGEST_MESH}: nobody can follow who asked whom for what",
                    listed(&said)
                ),
                remedy: "spec.architecture: Hierarchical".to_owned(),
            })
        });
        found.collect()
    }

    fn stars(&self) -> Vec<Finding> {
        let managers = self.reports.iter().filter_map(|(manager, reports)| Some(((*manager)?, reports)));
        let found = managers.filter_map(|(manager, reports)| {
            let (said, agents) = self.counted(reports);
            let enough = agents.div_ceil(LARGEST_STAR);
            // A manager that does not exist has another trouble, and one with no agents is out of service.
            let own = self.pools.get(manager)?.agents;
            (own.max(1) < enough).then(|| Finding {
                type_: "StarTooLarge".to_owned(),
                member: manager.to_owned(),
                members: std::iter::once(manager).chain(reports.iter().map(|member| member.pool.as_str())).map(str::to_owned).collect(),
                message: format!(
                    "{manager} has {}, and {agents} below it, of {}: more than {LARGEST_STAR} for each, so the team waits for {manager}",
                    plural(own, "agent"),
                    listed(&said)
                ),
                remedy: replicas(manager, enough),
            })
        });
        found.collect()
    }

    fn hoarders(&self) -> Vec<Finding> {
        let pairs = self.peers.values().map(BTreeSet::len).sum::<usize>() / 2;
        let found = self.spec.members.iter().enumerate().filter_map(|(place, member)| {
            let peers = self.peers.get(member.pool.as_str())?;
            let part = peers.len();
            (part > FEW_PEERS && 2 * part > pairs).then(|| Finding {
                type_: "TooManyEdges".to_owned(),
                member: member.pool.clone(),
                members: std::iter::once(member.pool.as_str()).chain(peers.iter().copied()).map(str::to_owned).collect(),
                message: format!(
                    "{} has a part in {part} of the team's {pairs} pairs of peers, which is more than half: it learns of everything, and is in everybody's way",
                    member.pool
                ),
                remedy: self.fewer_peers(place, member, part.saturating_sub(FEW_PEERS).min((2 * part).saturating_sub(pairs))),
            })
        });
        found.collect()
    }

    /// The line that takes a number of peers from a member: those that it names last, and once it names
    /// none itself, the first of those that name it.
    fn fewer_peers(&self, place: usize, member: &Member, fewer: usize) -> String {
        let line = |place: usize, peers: &[&str]| format!("spec.members[{place}].peers: [{}]", peers.join(", "));
        let own: Vec<&str> = member.peers.iter().map(String::as_str).collect();
        let naming = self.spec.members.iter().enumerate().find(|(_, other)| other.peers.contains(&member.pool));
        match naming {
            Some((other, namer)) if own.is_empty() => {
                line(other, &namer.peers.iter().map(String::as_str).filter(|peer| *peer != member.pool).collect::<Vec<_>>())
            }
            _ => line(place, &own[..own.len().saturating_sub(fewer)]),
        }
    }

    fn isolated(&self) -> Vec<Finding> {
        if self.spec.members.len() < 2 {
            return Vec::new();
        }
        let members = self.spec.members.iter().enumerate().filter(|(_, member)| !self.joined.contains(member.pool.as_str()));
        let found = members.filter_map(|(place, member)| {
            // Best is a manager that the team has already.
            let others = || self.spec.members.iter().map(|other| other.pool.as_str()).filter(|other| *other != member.pool);
            let manager = others().find(|other| self.reports.contains_key(&Some(*other))).or_else(|| others().next())?;
            Some(Finding {
                type_: "IsolatedMember".to_owned(),
                member: member.pool.clone(),
                members: vec![member.pool.clone()],
                message: format!(
                    "no member may send to {0}, and {0} may send to no member: it only gets what comes from outside",
                    member.pool
                ),
                remedy: format!("spec.members[{place}].manager: {manager}"),
            })
        });
        found.collect()
    }

    fn single_points(&self) -> Vec<Finding> {
        let mut servers: BTreeMap<&str, u32> = BTreeMap::new();
        for capability in self.pools.values().flat_map(|facts| &facts.capabilities) {
            *servers.entry(capability).or_default() += 1;
        }
        let head = match self.reports.get(&None).map(Vec::as_slice) {
            Some([head]) if self.spec.members.len() > 1 => Some(head.pool.as_str()),
            _ => None,
        };
        let found = self.pools.iter().filter(|(_, facts)| facts.agents == 1).filter_map(|(pool, facts)| {
            let alone = |capability: &&String| servers.get(capability.as_str()) == Some(&1);
            let mut alone: Vec<_> = facts.capabilities.iter().filter(alone).cloned().collect();
            alone.sort();
            let mut why = Vec::new();
            if !alone.is_empty() {
                why.push(format!("no other pool serves {}", listed(&alone)));
            }
            if head == Some(pool) {
                why.push("all other members stand below it".to_owned());
            }
            (!why.is_empty()).then(|| Finding {
                type_: "SinglePointOfFailure".to_owned(),
                member: pool.clone(),
                members: vec![pool.clone()],
                message: format!("{pool} has one agent, and {}: while that agent is away, that work waits", why.join(", and ")),
                remedy: replicas(pool, 2),
            })
        });
        found.collect()
    }
}

/// The line that gives a pool a number of agents. It belongs into another document than the topology.
fn replicas(pool: &str, agents: u32) -> String {
    format!("spec.replicas: {agents} # AgentPool {pool}")
}

fn plural(count: u32, what: &str) -> String {
    if count == 1 { format!("one {what}") } else { format!("{count} {what}s") }
}

/// Names as a sentence lists them, no more than anybody reads.
fn listed(names: &[String]) -> String {
    match names.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{} and {more} more", names[..NAMED].join(", ")),
        _ => names.join(", "),
    }
}

#[cfg(test)]
#[path = "findings_tests.rs"]
pub(super) mod tests;
