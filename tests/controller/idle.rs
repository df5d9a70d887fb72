//! What a controller costs the API server: next to nothing beyond what it must do, and nothing when it is idle.

use std::time::Instant;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::stage::Stage;
use crate::support::eventually;

/// A regression here costs every cluster a load that grows with its pools, for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_or_listed_but_the_lease() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let controller = stage.controller("one").await;
    let proxy = &controller.proxy;
    team.create_topology().await;
    team.create_pool(5, json!({})).await;
    team.until_settled(5).await;
    team.until("Ready=True/Ready").await;
    // What is still under way when the status has settled: an event, and the length of the queue, which is
    // written a while after everything else.
    eventually("the queue is in the status", || async { team.pool().await.status?.queue }).await;
    let renewals = proxy.renewals();
    eventually("a renewal of the lease", || async { (proxy.renewals() > renewals).then_some(()) }).await;
    let (writes, reads, renewals) = (proxy.writes(), proxy.reads(), proxy.renewals());
    eventually("four renewals of the lease", || async { (proxy.renewals() > renewals + 3).then_some(()) }).await;
    assert_eq!((proxy.writes(), proxy.reads()), (writes.clone(), reads));
    // Five pods, one account, one budget; the rest are statuses, events and the topology's finalizer.
    assert!(writes.len() <= 20, "{writes:#?}");
    controller.end().await.unwrap();
}

/// A regression here makes large pools slow, and the API server busy for everybody else.
#[tokio::test(flavor = "multi_thread")]
async fn scaling_up_costs_one_write_an_agent_and_few_more() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let controller = stage.controller("one").await;
    team.create_topology().await;
    team.create_pool(1, json!({})).await;
    team.until_settled(1).await;
    let before = controller.proxy.writes().len();
    let begun = Instant::now();
    team.edit(json!({"replicas": 201})).await;
    eventually("all pods are created", || async { (team.uids().await.len() == 201).then_some(()) }).await;
    println!("200 pods created in {:?}", begun.elapsed());
    team.until_settled(201).await;
    let writes = controller.proxy.writes().split_off(before);
    let pods = writes.iter().filter(|write| write.starts_with("POST") && write.ends_with("/pods")).count();
    println!("{pods} pods, {} writes, ready after {:?}", writes.len(), begun.elapsed());
    assert_eq!(pods, 200, "no pod is tried twice");
    // Statuses are written once a second at most; a slow machine takes longer and needs more of them.
    let allowed = 220 + 2 * usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!(writes.len() <= allowed, "{} writes of {allowed}", writes.len());
}

/// The end of a namespace deletes one pod after the other, and then the pool. A regression here answers
/// each with as many requests as the pool has agents, all of them in vain.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_tried_again_and_again_in_a_namespace_that_is_ending() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let controller = stage.controller("one").await;
    team.create_topology().await;
    team.create_pool(6, json!({})).await;
    team.until_settled(6).await;
    let namespaces: Api<Namespace> = Api::all(stage.client());
    namespaces.delete(&stage.namespace, &DeleteParams::default()).await.unwrap();
    let before = controller.proxy.writes().len();
    for n in 0..6 {
        team.pods.delete(&format!("coder-{n}"), &DeleteParams::default()).await.unwrap();
        eventually("a pod is gone", || async { (team.uids().await.len() < 6 - n).then_some(()) }).await;
    }
    let renewals = controller.proxy.renewals();
    eventually("two renewals of the lease", || async { (controller.proxy.renewals() > renewals + 1).then_some(()) }).await;
    let tried = controller.proxy.writes().split_off(before).into_iter().filter(|write| write.ends_with("/pods")).count();
    assert!((1..=6).contains(&tried), "{tried} pods were tried");
}
