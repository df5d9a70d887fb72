//! Everything that an accepted topology wants on the bus. Pure.

use std::collections::BTreeMap;

use async_nats::jetstream::{consumer, stream};
use bytes::Bytes;
use kube::ResourceExt as _;

use super::observe::{Member, Members, team};
use super::validate::Accepted;
use crate::api::Topology;
use crate::bus::nats::journal;
use crate::bus::subjects::pool_program_key;
use crate::topology::program;

/// What one topology wants on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The journal.
    pub journal: stream::Config,
    /// The queue of every member.
    pub queues: BTreeMap<String, consumer::Config>,
    /// Members whose pool does not exist: their queue is kept for when it appears again, but not made.
    pub absent: Vec<String>,
    /// Every program, by its key.
    pub programs: BTreeMap<String, Bytes>,
    /// The key among them that is the gateway's.
    pub team_key: String,
    /// Names what the programs say.
    pub revision: String,
}

/// Builds it.
///
/// # Errors
/// When a program cannot be written as JSON, which cannot be.
pub fn build(topology: &Topology, members: &Members, accepted: &Accepted) -> Result<Wanted, String> {
    let team = team(topology);
    let compiled = program(&team.topology, (&topology.spec.delegation).into(), &accepted.edges, &accepted.pools);
    let mut programs = BTreeMap::new();
    for (pool, program) in &compiled.pools {
        programs.insert(pool_program_key(&team.namespace, pool), json(program)?);
    }
    programs.insert(team.program_key(), json(&compiled.team)?);
    let ours = |member: &&Member| !matches!(member, Member::Elsewhere(_));
    Ok(Wanted {
        journal: journal::stream(&team, &topology.uid().unwrap_or_default(), &topology.spec.journal),
        queues: members
            .iter()
            .filter(|(_, member)| ours(member))
            .map(|(pool, _)| (pool.clone(), journal::consumer(&team, pool, None)))
            .collect(),
        absent: members.iter().filter(|(_, member)| **member == Member::Missing).map(|(pool, _)| pool.clone()).collect(),
        programs,
        team_key: team.program_key(),
        revision: compiled.team.revision,
    })
}

fn json(program: &impl serde::Serialize) -> Result<Bytes, String> {
    serde_json::to_vec(program).map(Bytes::from).map_err(|error| format!("a program cannot be written as JSON: {error}"))
}
