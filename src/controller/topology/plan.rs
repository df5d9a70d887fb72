//! What has to be done on the bus, and in which order. Pure.
//!
//! 1. The bucket and the journal, for everything else is in them.
//! 2. Queues, before any program that lets a task be sent to them.
//! 3. Programs of the pools, then the program of the gateway, so that work comes in last.
//! 4. Programs of pools that are no longer members.
//! 5. Queues of pools that are no longer members: once everybody has been told (in a later look), and
//!    only when nothing is left in them.

use std::collections::BTreeMap;

use async_nats::jetstream::{consumer, stream};
use bytes::Bytes;
use serde::Deserialize;

use super::build::Wanted;
use super::observe::OnBus;
use crate::bus::Team;
use crate::bus::nats::journal::{self, Change};
use crate::bus::nats::trim::Progress;
use crate::bus::subjects::pool_program_key;

/// What a program of a pool says of its membership; the rest is not looked at here.
#[derive(Deserialize)]
struct Membership {
    topology: String,
}

/// One thing to do on the bus.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the bucket or the journal.
    CreateStream(stream::Config),
    /// Change the bucket or the journal in place.
    UpdateStream(stream::Config),
    /// Make the queue of a pool, from where the journal says that it stands.
    MakeQueue(String),
    /// Change a queue in place.
    UpdateQueue(consumer::Config),
    /// Write a program.
    PutProgram(String, Bytes),
    /// Remove a program.
    DeleteProgram(String),
    /// Remove a queue.
    DeleteQueue(String),
}

/// What has to be done, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What has to be done, in this order; the first failure ends it.
    pub steps: Vec<Step>,
    /// What the broker cannot change, one sentence each.
    pub conflicts: Vec<String>,
    /// Queues of pools that are no longer members, which still hold tasks.
    pub left: BTreeMap<String, Progress>,
    /// Whether another look is needed even when all goes well.
    pub again: bool,
}

/// Compares what is wanted with what is there.
#[must_use]
pub fn plan(team: &Team, wanted: &Wanted, found: &OnBus) -> Plan {
    let mut plan = Plan::default();
    let replicas = found.bucket.as_ref().map_or(1, |bucket| bucket.config.num_replicas).max(wanted.journal.num_replicas);
    plan.stream(journal::compare_stream(found.bucket.as_ref().map(|s| &s.config), &journal::bucket(replicas)));
    plan.stream(journal::compare_stream(found.journal.as_ref().map(|s| &s.config), &wanted.journal));
    for (pool, queue) in &wanted.queues {
        match journal::compare_consumer(found.queues.get(pool).map(|q| &q.config), queue) {
            Change::Create(_) if wanted.absent.contains(pool) => {}
            Change::Create(_) => plan.steps.push(Step::MakeQueue(pool.clone())),
            Change::Keep => {}
            Change::Update(config) => plan.steps.push(Step::UpdateQueue(config)),
            Change::Conflict(problem) => plan.conflicts.push(problem),
        }
    }
    let before = plan.steps.len();
    let pools = wanted.programs.iter().filter(|(key, _)| **key != wanted.team_key);
    for (key, program) in pools.chain(wanted.programs.get_key_value(&wanted.team_key)) {
        if found.programs.get(key) != Some(program) {
            plan.steps.push(Step::PutProgram(key.clone(), program.clone()));
        }
    }
    plan.steps
        .extend(programs_of(team, found).filter(|key| !wanted.programs.contains_key(*key)).map(|key| Step::DeleteProgram(key.to_owned())));
    let told = plan.steps.len() == before;
    for (pool, queue) in &found.queues {
        if wanted.queues.contains_key(pool) || queue.config.filter_subject != team.tasks_for(pool) {
            continue;
        }
        if queue.progress.pending > 0 || queue.progress.in_flight > 0 {
            plan.left.insert(pool.clone(), queue.progress);
        } else if told {
            plan.steps.push(Step::DeleteQueue(pool.clone()));
        } else {
            plan.again = true;
        }
    }
    plan
}

/// The keys of the programs that make pools members of this team, right or wrong.
pub fn programs_of<'a>(team: &Team, found: &'a OnBus) -> impl Iterator<Item = &'a str> {
    let prefix = pool_program_key(&team.namespace, "");
    found
        .programs
        .iter()
        .filter(move |(key, _)| key.starts_with(&prefix))
        .filter(|(_, program)| serde_json::from_slice::<Membership>(program).is_ok_and(|program| program.topology == team.topology))
        .map(|(key, _)| key.as_str())
}

impl Plan {
    fn stream(&mut self, change: Change<stream::Config>) {
        match change {
            Change::Create(config) => self.steps.push(Step::CreateStream(config)),
            Change::Keep => {}
            Change::Update(config) => self.steps.push(Step::UpdateStream(config)),
            Change::Conflict(problem) => self.conflicts.push(problem),
        }
    }
}
