//! Whether a topology can be put into force, and with which of its members. Pure.

use std::collections::BTreeMap;

use super::observe::{Member, Members};
use crate::api::{Problem, Topology};
use crate::topology::{Edge, PoolFacts, check, edges};

/// A topology that can be put into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who may send what to whom, members whose pool is missing included.
    pub edges: Vec<Edge>,
    /// The pools that exist and belong to this topology.
    pub pools: BTreeMap<String, PoolFacts>,
}

/// Checks a topology by itself.
///
/// # Errors
/// All its mistakes. What is in force then stays in force.
pub fn validate(topology: &Topology, members: &Members) -> Result<Accepted, Vec<Problem>> {
    let problems = check(&topology.spec);
    if !problems.is_empty() {
        return Err(problems);
    }
    let pools = members.iter().filter_map(|(name, member)| Some((name.clone(), facts(member)?))).collect();
    Ok(Accepted { edges: edges(&topology.spec), pools })
}

/// What the compiler must know of a member. A pool that is being deleted takes no new work.
fn facts(member: &Member) -> Option<PoolFacts> {
    let pool = member.pool()?;
    let mut facts = PoolFacts::of(&pool.spec);
    facts.suspended |= pool.metadata.deletion_timestamp.is_some();
    Some(facts)
}
