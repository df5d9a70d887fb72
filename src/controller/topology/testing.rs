//! Topologies, pools and members for the tests of this folder.

#![allow(clippy::needless_pass_by_value, reason = "json! makes values")]

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::build::{Wanted, build};
use super::observe::{Member, Members, OnBus};
use super::validate::validate;
use crate::api::{AgentPool, Topology};
use crate::bus::nats::admin::{Queue, Stream};
use crate::bus::nats::journal;
use crate::bus::nats::trim::{Held, Progress};
use crate::bus::subjects::Team;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn team() -> Team {
    Team::new("default", "t")
}

pub(super) fn topology(members: &[&str]) -> Topology {
    let members: Vec<_> = members.iter().map(|pool| json!({"pool": pool})).collect();
    of_spec(json!({"architecture": "Flat", "members": members}))
}

pub(super) fn of_spec(spec: Value) -> Topology {
    serde_json::from_value(json!({
        "apiVersion": "skein.dev/v1alpha1", "kind": "Topology",
        "metadata": {"name": "t", "namespace": "default", "uid": "uid-t", "generation": 1, "resourceVersion": "1"},
        "spec": spec,
    }))
    .unwrap()
}

pub(super) fn pool(name: &str, ready: i32, conditions: Value) -> Member {
    let pool: AgentPool = serde_json::from_value(json!({
        "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": {"containers": []}}, "drainTimeoutSeconds": 60},
        "status": {"readyReplicas": ready, "conditions": conditions},
    }))
    .unwrap();
    Member::Here(Arc::new(pool))
}

pub(super) fn ending(member: Member) -> Member {
    let Member::Here(pool) = member else { return member };
    let mut pool = Arc::unwrap_or_clone(pool);
    pool.metadata.deletion_timestamp = Some(Time(at(1)));
    Member::Here(Arc::new(pool))
}

pub(super) fn condition(type_: &str, status: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": "Told", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

pub(super) fn members(all: &[(&str, Member)]) -> Members {
    all.iter().map(|(name, member)| ((*name).to_owned(), member.clone())).collect()
}

pub(super) fn ready_members(names: &[&str]) -> Members {
    names.iter().map(|name| ((*name).to_owned(), pool(name, 1, json!([])))).collect()
}

pub(super) fn wanted(topology: &Topology, members: &Members) -> Wanted {
    build(topology, members, &validate(topology, members).unwrap()).unwrap()
}

pub(super) fn stream(config: async_nats::jetstream::stream::Config) -> Stream {
    let held = Held { messages: 0, bytes: 0, first: 1, last: 0, oldest: std::time::Duration::ZERO };
    Stream { config, created: "then".to_owned(), held, consumers: 0, now: 0 }
}

pub(super) fn queue(pool: &str, pending: u64, in_flight: u64) -> Queue {
    Queue { config: journal::consumer(&team(), pool, None), progress: Progress { ack_floor: 0, pending, in_flight } }
}

/// A bus that holds exactly what is wanted.
pub(super) fn as_wanted(wanted: &Wanted) -> OnBus {
    OnBus {
        bucket: Some(stream(journal::bucket(1))),
        journal: Some(stream(wanted.journal.clone())),
        queues: wanted.queues.keys().map(|pool| (pool.clone(), queue(pool, 0, 0))).collect(),
        programs: Arc::new(wanted.programs.clone()),
    }
}
