//! Topologies on a real API server and a real broker: their life, the faults of the bus, and what the
//! status says of each within ten seconds. Pools are not run here: the tests say how they are.

#![allow(unreachable_pub, reason = "a test is a program of its own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails fails its test")]

mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use pretty_assertions::assert_eq;
use serde_json::json;
use skein::bus::subjects::pool_program_key;
use skein::controller::roster::PoolKey;

use stage::Stage;
use support::until;

/// What a user sees must be true within this time after a fault.
const TRUTH: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_team_is_put_on_the_bus_told_of_and_taken_off() {
    let stage = Stage::set().await;
    stage.pool("a", 1).await;
    stage.pool("b", 0).await;
    stage.topology("t", &["a", "b"]).await;
    let took = stage.says("t", "Programmed", "True", "Programmed", "").await;
    println!("programmed after {took:?}");
    stage.on_bus("t", &["a", "b"], &stage.keys("t", &["a", "b"])).await;
    stage.says("t", "Ready", "False", "PoolsNotReady", "b: b has 0 agents").await;
    stage.ready("b", 1).await;
    let took = stage.says("t", "Ready", "True", "Ready", "").await;
    assert!(took < TRUTH, "{took:?}");
    let topology = stage.topologies().get("t").await.unwrap();
    assert_eq!(topology.finalizers(), ["skein.dev/bus"]);
    let status = topology.status.unwrap();
    assert_eq!((status.pools, status.ready_pools, status.edges), (2, 2, 2));
    assert!(status.applied_revision.is_some());

    // Work that has begun is ended before the team goes; new work does not come in.
    stage.send("t", "a", "task-1").await;
    until("the queue in the pool's status", async || match stage.context.queue(&PoolKey::new(&stage.namespace, "a")) {
        Some(queue) if queue.pending == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    stage.delete("t").await;
    stage.says("t", "Ready", "False", "Deleting", "a (1 waiting, 0 in flight)").await;
    assert_eq!(stage.programs().await, [pool_program_key(&stage.namespace, "a"), pool_program_key(&stage.namespace, "b")]);
    stage.end("t", "a").await;
    stage.gone("t").await;
    assert!(stage.programs().await.is_empty());
    assert_eq!(stage.bus.journal(&stage.team("t")).await.unwrap(), None);
    until("the queue to leave the pool's status", async || match stage.context.queue(&PoolKey::new(&stage.namespace, "a")) {
        None => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    stage.leave(&[]).await;
}

#[tokio::test]
async fn a_bus_that_goes_away_or_forgets_is_told_of_and_mended() {
    let mut stage = Stage::set().await;
    stage.pool("a", 1).await;
    stage.topology("t", &["a"]).await;
    stage.is_ready("t").await;
    let keys = stage.keys("t", &["a"]);
    stage.on_bus("t", &["a"], &keys).await;

    stage.bus.delete_queue(&stage.team("t"), "a").await.unwrap();
    let queue = stage.on_bus("t", &["a"], &keys).await;
    stage.bus.delete_program(&keys[0]).await.unwrap();
    let program = stage.on_bus("t", &["a"], &keys).await;
    stage.bus.jetstream().delete_stream("KV_skein-programs").await.unwrap();
    let bucket = stage.on_bus("t", &["a"], &keys).await;
    stage.bus.delete_journal(&stage.team("t")).await.unwrap();
    let journal = stage.on_bus("t", &["a"], &keys).await;

    stage.nats.kill().await;
    let away = stage.says("t", "Ready", "False", "BusUnavailable", "no connection to the bus").await;
    stage.says("t", "Programmed", "Unknown", "BusUnavailable", "").await;
    stage.says("t", "Degraded", "True", "BusUnavailable", "").await;
    stage.nats.wipe().await;
    let back = stage.says("t", "Ready", "True", "Ready", "").await;
    stage.on_bus("t", &["a"], &keys).await;
    println!(
        "mended: queue {queue:?}, program {program:?}, bucket {bucket:?}, journal {journal:?}; away told {away:?}, wiped and mended {back:?}"
    );
    for took in [queue, program, bucket, journal, away, back] {
        assert!(took < TRUTH, "{took:?}");
    }
    let events = stage.events().await;
    assert!(events.contains(&"JournalLost".to_owned()) && events.contains(&"Repaired".to_owned()), "{events:?}");
    stage.leave(&["t"]).await;
}

#[tokio::test]
async fn a_pool_belongs_to_the_older_topology_until_that_goes() {
    let stage = Stage::set().await;
    for pool in ["a", "b", "c"] {
        stage.pool(pool, 1).await;
    }
    stage.topology("first", &["a", "b"]).await;
    stage.is_ready("first").await;
    // Creation times are whole seconds; of two that are equally old the name decides.
    stage.topology("second", &["b", "c"]).await;
    stage.says("second", "ResolvedRefs", "False", "PoolInAnotherTopology", "pool b belongs to topology first").await;
    stage.says("second", "Programmed", "True", "Programmed", "").await;
    stage.says("second", "Degraded", "True", "PoolInAnotherTopology", "").await;
    stage.is_ready("first").await;
    stage.on_bus("second", &["c"], &[stage.keys("first", &["a", "b", "c"]), vec![stage.team("second").program_key()]].concat()).await;
    stage.delete("first").await;
    let took = stage.says("second", "Ready", "True", "Ready", "").await;
    println!("taken over after {took:?}");
    assert!(took < TRUTH, "{took:?}");
    stage.on_bus("second", &["b", "c"], &stage.keys("second", &["b", "c"])).await;
    stage.leave(&["second"]).await;
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_rest_works() {
    let stage = Stage::set().await;
    stage.pool("a", 1).await;
    stage.topology("t", &["a", "ghost"]).await;
    stage.says("t", "ResolvedRefs", "False", "PoolNotFound", "pool ghost does not exist: create it, or remove it from members").await;
    stage.says("t", "Programmed", "True", "Programmed", "").await;
    stage.says("t", "Ready", "False", "PoolsNotReady", "ghost: does not exist").await;
    stage.on_bus("t", &["a"], &stage.keys("t", &["a"])).await;
    stage.pool("ghost", 1).await;
    let found = stage.says("t", "Ready", "True", "Ready", "").await;
    stage.on_bus("t", &["a", "ghost"], &stage.keys("t", &["a", "ghost"])).await;

    // A topology that is wrong is told so, and what it said before stays in force, come what may.
    stage
        .change(
            "t",
            json!({"architecture": "Hierarchical", "members": [{"pool": "a", "manager": "ghost"}, {"pool": "ghost", "manager": "a"}]}),
        )
        .await;
    let cycle = stage.says("t", "Accepted", "False", "ManagerCycle", "a -> ghost -> a").await;
    stage.says("t", "Ready", "False", "NotAccepted", "").await;
    stage.bus.delete_queue(&stage.team("t"), "a").await.unwrap();
    stage.on_bus("t", &["a", "ghost"], &stage.keys("t", &["a", "ghost"])).await;

    // A member that is removed keeps its queue for as long as there is work in it.
    stage.send("t", "ghost", "task-1").await;
    stage.change("t", json!({"architecture": "Flat", "members": [{"pool": "a"}]})).await;
    stage.says("t", "Programmed", "True", "Programmed", "pool ghost is no longer a member and its queue still holds 1 tasks").await;
    stage.on_bus("t", &["a", "ghost"], &stage.keys("t", &["a"])).await;
    stage.end("t", "ghost").await;
    stage.on_bus("t", &["a"], &stage.keys("t", &["a"])).await;

    // Back again, it has nothing to do that it has done.
    stage.change("t", json!({"members": [{"pool": "a"}, {"pool": "ghost"}]})).await;
    stage.on_bus("t", &["a", "ghost"], &stage.keys("t", &["a", "ghost"])).await;
    assert_eq!(stage.bus.queues(&stage.team("t")).await.unwrap()["ghost"].progress.pending, 0);

    // A journal that cannot be changed is no reason to keep a new member out.
    stage.pool("late", 1).await;
    stage.change("t", json!({"journal": {"replicas": 3}, "members": [{"pool": "a"}, {"pool": "ghost"}, {"pool": "late"}]})).await;
    stage.says("t", "Programmed", "False", "Refused", "fewer servers than spec.journal.replicas").await;
    stage.on_bus("t", &["a", "ghost", "late"], &stage.keys("t", &["a", "ghost", "late"])).await;
    stage.change("t", json!({"journal": {"replicas": 1}, "members": [{"pool": "a"}, {"pool": "ghost"}]})).await;
    stage.is_ready("t").await;

    stage.pools().delete("ghost", &DeleteParams::default()).await.unwrap();
    let missing = stage.says("t", "ResolvedRefs", "False", "PoolNotFound", "ghost").await;
    println!("pool found {found:?}, cycle {cycle:?}, pool gone {missing:?}");
    for took in [found, cycle, missing] {
        assert!(took < TRUTH, "{took:?}");
    }
    stage.leave(&["t"]).await;
}

/// A regression here leaves a namespace in Terminating.
#[tokio::test]
async fn a_namespace_can_be_deleted_with_work_in_it() {
    let stage = Stage::set().await;
    for pool in ["a", "b"] {
        stage.pool(pool, 1).await;
    }
    stage.topology("t", &["a", "b"]).await;
    stage.is_ready("t").await;
    stage.send("t", "a", "task-1").await;
    // As the namespace's controller does: everything at once, nothing waits for anything.
    let begun = Instant::now();
    stage.topologies().delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    stage.pools().delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    stage.gone("t").await;
    println!("gone after {:?}", begun.elapsed());
    assert!(begun.elapsed() < TRUTH);
    assert!(stage.bus.journals().await.unwrap().is_empty());
    assert!(stage.programs().await.is_empty());
    assert!(stage.events().await.contains(&"TasksLost".to_owned()));
    stage.leave(&[]).await;
}

#[tokio::test]
async fn without_a_bus_a_topology_waits_to_go_and_may_be_let_go_by_hand() {
    let mut stage = Stage::set().await;
    stage.pool("a", 1).await;
    stage.topology("t", &["a"]).await;
    stage.topology("u", &["a"]).await;
    stage.is_ready("t").await;
    stage.nats.kill().await;
    for name in ["t", "u"] {
        stage.delete(name).await;
        stage.says(name, "Programmed", "False", "Deleting", "remove the finalizer skein.dev/bus by hand").await;
    }
    stage.topologies().patch("t", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": []}}))).await.unwrap();
    stage.gone("t").await;
    stage.nats.restart().await;
    stage.gone("u").await;
    until("the journal that was left to be counted", async || match stage.context.metrics.orphans.get() {
        1 => Ok(()),
        other => Err(format!("{other} orphans")),
    })
    .await;
    until("the journal that was left", async || match stage.bus.journals().await.map(|journals| journals.len()) {
        Ok(1) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    // One that appears again goes on with its journal, and takes it along when it goes.
    stage.topology("t", &["a"]).await;
    stage.is_ready("t").await;
    stage.delete("t").await;
    stage.gone("t").await;
    assert!(stage.bus.journals().await.unwrap().is_empty());
    stage.leave(&[]).await;
}

/// A regression here writes to the API server, or lists, for ever: also when the server keeps a list in
/// another order than it was given.
#[tokio::test]
async fn nothing_is_written_while_nothing_changes() {
    let stage = Stage::set().await;
    for pool in ["a", "b", "c", "d"] {
        stage.pool(pool, 1).await;
    }
    stage.topology("t", &["a"]).await;
    stage.is_ready("t").await;
    stage
        .change("t", json!({"architecture": "Hierarchical", "members": [{"pool": "a"}, {"pool": "b"}, {"pool": "c", "manager": "b"}]}))
        .await;
    stage.finds("t", &["IsolatedMember a"]).await;
    let members = json!([{"pool": "a"}, {"pool": "b"}, {"pool": "d"}, {"pool": "c", "manager": "b"}]);
    stage.change("t", json!({"members": members})).await;
    stage.finds("t", &["IsolatedMember a", "IsolatedMember d"]).await;
    stage.change_pool("c", json!({"capabilities": ["search"]})).await;
    stage.finds("t", &["IsolatedMember a", "IsolatedMember d", "SinglePointOfFailure c"]).await;
    // In the middle and before the others.
    let members = json!([{"pool": "a"}, {"pool": "b"}, {"pool": "d"}, {"pool": "c"}]);
    stage.change("t", json!({"members": members})).await;
    let all = ["IsolatedMember a", "IsolatedMember b", "IsolatedMember c", "IsolatedMember d", "SinglePointOfFailure c"];
    stage.finds("t", &all).await;
    stage.change_pool("b", json!({"replicas": 11})).await;
    let members = json!([{"pool": "a"}, {"pool": "b", "manager": "a"}, {"pool": "d", "manager": "a"}, {"pool": "c"}]);
    stage.change("t", json!({"members": members})).await;
    stage.finds("t", &["StarTooLarge a", "IsolatedMember c", "SinglePointOfFailure c"]).await;
    let events = stage.events().await;
    for reason in ["IsolatedMember", "SinglePointOfFailure", "StarTooLarge", "FindingGone"] {
        assert!(events.iter().any(|event| event == reason), "{reason} in {events:?}");
    }
    let looks = || stage.context.metrics.reconciles("topology");
    let still = until("the controller to come to rest", async || {
        let before = (looks(), stage.topologies().get("t").await.unwrap().resource_version());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = (looks(), stage.topologies().get("t").await.unwrap().resource_version());
        if before == after { Ok(after) } else { Err("still working".to_owned()) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(still, (looks(), stage.topologies().get("t").await.unwrap().resource_version()));
    stage.leave(&["t"]).await;
}
