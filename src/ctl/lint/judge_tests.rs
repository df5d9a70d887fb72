//! What is said of documents, alone and together.

use pretty_assertions::assert_eq;
use serde_json::json;

use super::*;

fn documents(all: &[Value]) -> Vec<Document> {
    let place = |number: usize| Place { file: "f".to_owned(), document: number + 1, item: None };
    all.iter().enumerate().map(|(number, value)| Document { place: place(number), value: value.clone() }).collect()
}

fn said(all: &[Value]) -> Vec<String> {
    judge(&documents(all), "default").remarks.iter().map(ToString::to_string).collect()
}

fn pool(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": name},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "agent", "image": "i"}]}}},
    })
}

fn topology(name: &str, architecture: &str, members: &Value) -> Value {
    json!({
        "apiVersion": "skein.dev/v1alpha1", "kind": "Topology", "metadata": {"name": name},
        "spec": {"architecture": architecture, "members": members},
    })
}

fn changed(mut value: Value, pointer: &str, to: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[field] = to;
    value
}

#[test]
fn a_team_that_is_well_made_gets_no_remark() {
    let members = json!([{"pool": "planner"}, {"pool": "writer", "manager": "planner"}]);
    assert_eq!(said(&[topology("t", "Hierarchical", &members), pool("planner", 2), pool("writer", 2)]), [""; 0]);
    // What is not ours is not looked at.
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "spce": 1});
    assert_eq!(said(&[foreign]), [""; 0]);
}

#[test]
fn what_is_weak_is_told_with_its_remedy() {
    let members = json!([{"pool": "planner"}, {"pool": "writer", "manager": "planner"}]);
    assert_eq!(
        said(&[topology("t", "Hierarchical", &members), pool("planner", 1), pool("writer", 2)]),
        [
            "f:1: Topology/t: Warning SinglePointOfFailure: planner has one agent, and all other members stand below it: while that agent is away, that work waits; to mend it: spec.replicas: 2 # AgentPool planner"
        ]
    );
}

#[test]
fn what_the_api_server_would_refuse_is_an_error() {
    let said_of = |pool: Value| {
        let team = topology("t", "Flat", &json!([{"pool": "coder"}]));
        let all = said(&[pool, team]);
        all.iter().filter_map(|said| said.strip_prefix("f:1: AgentPool/coder: Error Invalid: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let coder = || pool("coder", 2);
    assert_eq!(said_of(coder()), [""; 0]);
    assert_eq!(said_of(changed(coder(), "/spec/replicas", json!("two"))), ["spec.replicas must be a whole number, and is \"two\""]);
    assert_eq!(said_of(changed(coder(), "/spec/health", json!({"heartbeatSeconds": 30}))), [rules::STALE]);
    assert_eq!(said_of(changed(coder(), "/metadta", json!({}))), ["there is no field \"metadta\" beside spec: remove it"]);
    let mut bare = coder();
    bare.as_object_mut().unwrap().remove("spec");
    assert_eq!(said_of(bare), ["spec is missing"]);
    // The status of what was read out of a cluster is the controller's.
    assert_eq!(said_of(changed(coder(), "/status", json!({"nonsense": 1}))), [""; 0]);

    let odd = |pointer: &str, to: &str| said(&[changed(coder(), pointer, json!(to))]);
    assert_eq!(odd("/kind", "Agent"), ["f:1: Agent/coder: Error Invalid: skein.dev has no kind \"Agent\": it has AgentPool and Topology"]);
    assert_eq!(odd("/kind", ""), ["f:1: Error Invalid: kind is missing: this is no resource"]);
    assert_eq!(
        odd("/apiVersion", "skein.dev/v2"),
        ["f:1: AgentPool/coder: Error Invalid: skein.dev has no version \"v2\": it has v1alpha1"]
    );
    assert_eq!(odd("/metadata/name", ""), ["f:1: AgentPool: Error Invalid: metadata.name is missing"]);
    assert_eq!(said(&[json!("text")]), ["f:1: Error Invalid: kind is missing: this is no resource"]);
    assert!(odd("/metadata/name", "Coder")[0].contains(rules::POOL_NAME));
}

#[test]
fn what_the_controller_would_refuse_is_an_error() {
    let members = json!([{"pool": "a", "manager": "b"}, {"pool": "b", "manager": "a"}]);
    let host = changed(pool("a", 2), "/spec/template/spec/hostNetwork", json!(true));
    let all = said(&[topology("t", "Hierarchical", &members), host, pool("b", 2)]);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].starts_with("f:1: Topology/t: Error ManagerCycle: "), "{}", all[0]);
    assert!(all[1].starts_with("f:2: AgentPool/a: Error HostNetwork: "), "{}", all[1]);
    // Said once, by the member that it is about.
    let flat = topology("t", "Flat", &json!([{"pool": "a", "manager": "b"}, {"pool": "b"}, {"pool": "b"}]));
    let all = said(&[flat, pool("a", 2), pool("b", 2)]);
    assert_eq!(all.iter().map(|said| said.split(' ').nth(3).unwrap()).collect::<Vec<_>>(), ["DuplicateMember:", "NotFlat:"]);
}

#[test]
fn documents_are_looked_at_together() {
    let team = |name: &str| topology(name, "Flat", &json!([{"pool": "a"}, {"pool": "ghost"}]));
    assert_eq!(
        said(&[team("t"), pool("a", 2), pool("spare", 2), pool("a", 3)]),
        [
            "f:1: Topology/t: Warning PoolNotFound: pool ghost is not in these files: name its file too, or what is said here is not all of it",
            "f:3: AgentPool/spare: Info NoTopology: no topology in these files names it, and without one it gets no work",
            "f:4: AgentPool/a: Error Duplicate: it is in f:2 too: of two, the one that is applied last stays",
        ]
    );
    // A pool that makes no sense is there all the same.
    let broken = changed(pool("a", 2), "/spec/replicas", json!("two"));
    assert_eq!(said(&[topology("t", "Flat", &json!([{"pool": "a"}])), broken]).len(), 1);
    // Of two topologies, the pool belongs to the older one.
    let older =
        |name: &str, time: &str| changed(topology(name, "Flat", &json!([{"pool": "a"}])), "/metadata/creationTimestamp", json!(time));
    let all = said(&[older("young", "2026-02-01T00:00:00Z"), older("zebra", "2026-01-01T00:00:00Z"), pool("a", 2)]);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with("f:1: Topology/young: Error PoolInAnotherTopology: pool a is a member of topology zebra too"), "{}", all[0]);
}

#[test]
fn namespaces_are_kept_apart() {
    let elsewhere = |value: Value, namespace: &str| changed(value, "/metadata/namespace", json!(namespace));
    let team = || topology("t", "Flat", &json!([{"pool": "a"}]));
    assert_eq!(said(&[elsewhere(team(), "x"), elsewhere(pool("a", 2), "x")]), [""; 0]);
    assert_eq!(said(&[elsewhere(team(), "default"), pool("a", 2)]), [""; 0]);
    assert_eq!(said(&[elsewhere(team(), "x"), elsewhere(pool("a", 2), "y")]).len(), 2);
    assert_eq!(judge(&documents(&[elsewhere(team(), "x"), pool("a", 2)]), "x").remarks, []);
}
