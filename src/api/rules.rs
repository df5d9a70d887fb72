//! The rules of the definitions once more, for whoever asks no API server. Pure.
//!
//! The API server evaluates the rules that the definitions carry, which are written in CEL. An evaluator of
//! CEL would make the program of every sidecar larger, for the sake of one command; so the few rules are
//! here a second time. A test gives both the same objects, and has a case for every rule.

use kube::ResourceExt as _;

use super::agent_pool::AgentPool;
use super::topology::{Architecture, Topology};

/// What the name of a pool must be.
pub const POOL_NAME: &str =
    "the name of a pool must be a DNS label that starts with a letter, of 50 characters at most: pods are called <pool>-<ordinal>";
/// What the name of a topology must be.
pub const TOPOLOGY_NAME: &str = "the name of a topology must be a DNS label that starts with a letter, of 63 characters at most";
/// How heartbeats and silence must fit together.
pub const STALE: &str = "staleSeconds must be at least twice heartbeatSeconds, or one lost heartbeat would replace an agent";
/// What a Flat topology may not have.
pub const FLAT: &str =
    "in a Flat topology every member may send to every other one: remove manager and peers, or use Hierarchical or Hybrid";

/// The rules that a new pool breaks.
#[must_use]
pub fn broken_by_pool(pool: &AgentPool) -> Vec<&'static str> {
    let health = &pool.spec.health;
    let rules =
        [(is_label(&pool.name_any(), 50), POOL_NAME), (i64::from(health.stale_seconds) >= 2 * i64::from(health.heartbeat_seconds), STALE)];
    broken(&rules)
}

/// The rules that a new topology breaks.
#[must_use]
pub fn broken_by_topology(topology: &Topology) -> Vec<&'static str> {
    let flat = topology.spec.architecture == Architecture::Flat;
    let free = topology.spec.members.iter().all(|member| member.manager.is_none() && member.peers.is_empty());
    broken(&[(is_label(&topology.name_any(), 63), TOPOLOGY_NAME), (!flat || free, FLAT)])
}

fn broken(rules: &[(bool, &'static str)]) -> Vec<&'static str> {
    rules.iter().filter(|(kept, _)| !kept).map(|(_, message)| *message).collect()
}

/// Whether this is a DNS label that starts with a letter, of so many characters at most.
fn is_label(name: &str, most: usize) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.starts_with(|first: char| first.is_ascii_lowercase()) && !name.ends_with('-') && name.bytes().all(inner) && name.len() <= most
}
