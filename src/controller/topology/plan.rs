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
    /// Remove the program of a pool that is no longer a member.
    WithdrawProgram(String),
    /// Remove a queue.
    DeleteQueue(String),
}

/// What has to be done, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What has to be done, in this order.
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
    plan.steps.extend(
        programs_of(team, found).filter(|key| !wanted.programs.contains_key(*key)).map(|key| Step::WithdrawProgram(key.to_owned())),
    );
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{as_wanted, members, pool, queue, ready_members, stream, team, topology, wanted};
    use super::*;
    use crate::bus::nats::admin::Queue;
    use crate::controller::topology::observe::Member;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn steps(wanted: &Wanted, found: &OnBus) -> Vec<String> {
        plan(&team(), wanted, found).steps.iter().map(ToString::to_string).collect()
    }

    /// A regression here lets a task in before there is a queue for it.
    #[test]
    fn a_new_team_is_made_from_the_inside_out() {
        let wanted = wanted(&topology(&["a", "b"]), &ready_members(&["a", "b"]));
        assert_eq!(
            steps(&wanted, &OnBus::default()),
            [
                "make stream KV_skein-programs",
                "make stream skein_default_t",
                "make the queue of pool a",
                "make the queue of pool b",
                "write program pool.default.a",
                "write program pool.default.b",
                "write program team.default.t",
            ]
        );
        assert_eq!(plan(&team(), &wanted, &as_wanted(&wanted)), Plan::default());
    }

    /// A regression here loses the tasks of a member that was removed, or removes its queue under a sender.
    #[test]
    fn a_former_member_loses_its_program_first_and_its_queue_only_when_that_is_empty() {
        let before = wanted(&topology(&["a", "b"]), &ready_members(&["a", "b"]));
        let now = wanted(&topology(&["a"]), &ready_members(&["a"]));
        let first = plan(&team(), &now, &as_wanted(&before));
        let said: Vec<_> = first.steps.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["write program pool.default.a", "write program team.default.t", "remove program pool.default.b"]);
        assert!(first.again);

        let mut told = as_wanted(&now);
        told.queues.insert("b".to_owned(), queue("b", 0, 0));
        told.queues.insert("somebody-elses".to_owned(), Queue { config: consumer::Config::default(), ..queue("x", 0, 0) });
        assert_eq!(steps(&now, &told), ["remove the queue of pool b, which is no longer a member"]);
        told.queues.insert("b".to_owned(), queue("b", 2, 1));
        let kept = plan(&team(), &now, &told);
        assert_eq!((kept.steps, kept.left.keys().map(String::as_str).collect::<Vec<_>>()), (vec![], vec!["b"]));
    }

    #[test]
    fn a_member_whose_pool_is_missing_keeps_its_queue_and_is_not_given_one() {
        let gone = members(&[("a", pool("a", 1, json!([]))), ("b", Member::Missing)]);
        let wanted = wanted(&topology(&["a", "b"]), &gone);
        assert!(!steps(&wanted, &OnBus::default()).contains(&"make the queue of pool b".to_owned()));
        let mut found = as_wanted(&wanted);
        found.queues.insert("b".to_owned(), queue("b", 0, 0));
        assert_eq!(steps(&wanted, &found), [""; 0]);
    }

    /// A regression here takes the program of a pool away that another topology has just been given.
    #[test]
    fn programs_of_others_are_left_alone() {
        let wanted = wanted(&topology(&["a"]), &ready_members(&["a"]));
        let mut found = as_wanted(&wanted);
        let programs = Arc::make_mut(&mut found.programs);
        programs.insert("pool.default.x".to_owned(), Bytes::from_static(br#"{"topology":"other"}"#));
        programs.insert("pool.elsewhere.y".to_owned(), Bytes::from_static(br#"{"topology":"t"}"#));
        programs.insert("team.default.other".to_owned(), Bytes::from_static(b"{}"));
        assert_eq!(steps(&wanted, &found), [""; 0]);
    }

    #[test]
    fn what_cannot_be_changed_is_said_and_does_not_hold_up_the_rest() {
        let wanted = wanted(&topology(&["a"]), &ready_members(&["a"]));
        let mut found = as_wanted(&wanted);
        found.journal = Some(stream(stream::Config { sealed: true, ..wanted.journal.clone() }));
        found.queues.clear();
        let plan = plan(&team(), &wanted, &found);
        assert_eq!(plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>(), ["make the queue of pool a"]);
        assert!(plan.conflicts[0].contains("is sealed"), "{:?}", plan.conflicts);
    }
}
