use super::*;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

fn pool(name: &str, topology: &str, status: &Value) -> AgentPool {
    let mut pool = json!({
        "metadata": {"name": name, "namespace": "demo", "generation": 2},
        "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "agent", "image": "i"}]}}},
        "status": {"observedGeneration": 2, "topology": topology},
    });
    for (key, value) in status.as_object().unwrap() {
        pool["status"][key] = value.clone();
    }
    serde_json::from_value(pool).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn team(members: &Value, conditions: &Value) -> Topology {
    serde_json::from_value(json!({
        "metadata": {"name": "research", "namespace": "demo", "generation": 1},
        "spec": {"architecture": "Hierarchical", "members": members},
        "status": {"observedGeneration": 1, "conditions": conditions, "findings": [{
            "type": "SinglePointOfFailure", "member": "planner", "members": ["planner"],
            "message": "planner has one agent", "remedy": "spec.replicas: 2 # AgentPool planner",
        }]},
    }))
    .unwrap()
}

/// A team with one sick pool, one that does not exist and one that is well.
pub(in super::super) fn seen() -> Seen {
    Seen {
        topologies: vec![team(
            &json!([{"pool": "planner"}, {"pool": "searcher", "manager": "planner"}, {"pool": "writer", "manager": "planner", "peers": ["searcher"]}]),
            &json!([
                condition("Accepted", "True", "Accepted", "the spec makes sense"),
                condition("ResolvedRefs", "False", "PoolMissing", "pool \"writer\" does not exist"),
                condition("Ready", "False", "PoolMissing", "pool \"writer\" does not exist"),
            ]),
        )],
        pools: vec![
            pool(
                "searcher",
                "research",
                &json!({"readyReplicas": 2, "desiredReplicas": 3, "busyReplicas": 2, "queue": {"pending": 1207, "inFlight": 2}, "conditions": [
                    condition("Ready", "False", "AgentsMissing", "2 of 3 agents are ready"),
                    condition("Degraded", "True", "ImagePull", "searcher-2: the image \"x:1\"\ncannot be pulled"),
                ]}),
            ),
            pool(
                "planner",
                "research",
                &json!({"readyReplicas": 1, "desiredReplicas": 1, "queue": {"pending": 0, "inFlight": 0},
                    "conditions": [condition("Ready", "True", "Ready", "1 of 1 agents are ready"), condition("Degraded", "False", "AsExpected", "")]}),
            ),
            pool(
                "spare",
                "",
                &json!({"desiredReplicas": 1, "conditions": [condition("Ready", "False", "NoTopology", "no topology names this pool")]}),
            ),
        ],
    }
}

#[test]
fn the_deepest_cause_comes_first_and_none_is_told_twice() {
    let report = report("demo", &seen(), true);
    assert!(!report.ready);
    let topology = &report.topologies[0];
    assert_eq!((topology.ready, topology.status.as_str()), (false, "PoolMissing"));
    assert_eq!(topology.why, ["pool \"writer\" does not exist"]);
    let [planner, searcher, writer] = topology.pools.as_slice() else { panic!("{topology:?}") };
    assert!(planner.ready && planner.why.is_empty());
    assert_eq!(searcher.status, "ImagePull");
    assert_eq!(searcher.why, ["searcher-2: the image \"x:1\" cannot be pulled", "2 of 3 agents are ready"]);
    assert_eq!((writer.status.as_str(), writer.ready), ("Missing", false));
    assert_eq!(report.other_pools[0].why, ["no topology names this pool"]);
}

#[test]
fn one_topology_leaves_the_pools_of_others_out() {
    assert!(report("demo", &seen(), false).other_pools.is_empty());
}

/// Without this a script that waits for `status` to succeed after an edit would go on at once.
#[test]
fn a_change_that_the_controller_has_not_seen_is_not_ready() {
    let well = json!([condition("Ready", "True", "Ready", "")]);
    let mut topology = team(&json!([{"pool": "planner"}]), &well);
    let seen = |topology: &Topology| Seen { topologies: vec![topology.clone()], pools: vec![seen().pools[1].clone()] };
    assert!(report("demo", &seen(&topology), false).ready);
    topology.metadata.generation = Some(2);
    let report_of_edited = report("demo", &seen(&topology), false);
    assert!(!report_of_edited.ready);
    assert_eq!(report_of_edited.topologies[0].why, ["the controller has not seen the newest change of the spec yet"]);
    topology.status = None;
    assert_eq!(report("demo", &seen(&topology), false).topologies[0].status, "Unknown");
}

#[test]
fn a_pool_of_another_topology_is_told() {
    let topology = team(&json!([{"pool": "planner"}]), &json!([condition("Ready", "True", "Ready", "")]));
    let mut planner = seen().pools[1].clone();
    planner.status.as_mut().unwrap().topology = Some("other".to_owned());
    let report = report("demo", &Seen { topologies: vec![topology], pools: vec![planner] }, false);
    assert!(report.topologies[0].pools[0].why[0].contains("belongs to topology \"other\""));
    assert!(!report.ready);
}
