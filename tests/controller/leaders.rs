//! Several controllers: one acts, and another takes over when it ends or dies.

use std::time::{Duration, Instant};

use serde_json::json;
use skein::controller::{End, LEASE};

use crate::stage::{Controller, Stage, Team};
use crate::support::eventually;
use crate::support::proxy::Proxy;

/// Two controllers: the first one has made a pool of two agents, the second one stands by.
async fn two(stage: &Stage, team: &Team) -> (Controller, Controller) {
    team.create_topology().await;
    let first = stage.controller("first").await;
    team.create_pool(2, json!({})).await;
    team.until_settled(2).await;
    let second = stage.controller("second").await;
    eventually("the second one has looked at the lease", || async { (second.proxy.looks() > 0).then_some(()) }).await;
    (first, second)
}

/// Waits until a controller that stood by acts.
async fn writes(controller: &Controller) {
    eventually("it writes", || async { (!controller.proxy.writes().is_empty()).then_some(()) }).await;
}

/// A regression here leaves pools to themselves for as long as a lease lasts at each upgrade.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_told_to_end_hands_over_at_once() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let (first, second) = two(&stage, &team).await;
    team.edit(json!({"replicas": 3})).await;
    team.until_settled(3).await;
    assert_eq!(second.proxy.writes(), Vec::<String>::new(), "the second one stands by");

    let told = Instant::now();
    assert_eq!(first.end().await, Ok(End::Told));
    team.edit(json!({"replicas": 4})).await;
    writes(&second).await;
    let took = told.elapsed();
    println!("hand-over: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    team.until_settled(4).await;
    second.end().await.unwrap();
}

/// A regression here leaves every pool alone for longer than promised after a node was lost, or costs the API
/// server requests for each replica that stands by.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_is_followed_once_its_lease_has_run_out() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let (first, second) = two(&stage, &team).await;
    let (renewals, looks) = (first.proxy.renewals(), second.proxy.looks());
    eventually("the lease is renewed again and again", || async { (first.proxy.renewals() > renewals + 2).then_some(()) }).await;
    assert_eq!(second.proxy.looks(), looks, "who stands by only listens");

    // It dies right after it has renewed, which is when it is missed for longest.
    let killed = Instant::now();
    first.kill().await;
    team.edit(json!({"replicas": 3})).await;
    writes(&second).await;
    let (took, looks) = (killed.elapsed(), second.proxy.looks() - looks);
    println!("take-over: {took:?}, {looks} reads");
    assert!(took < LEASE + Duration::from_secs(2), "{took:?}");
    assert!(u64::try_from(looks).unwrap() <= took.as_secs() / 2, "{looks} reads in {took:?}");
    team.until_settled(3).await;
    second.end().await.unwrap();
}

/// Both act, as when the clock of one stops for longer than the lease: nothing is made or deleted twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_act_at_once_do_no_harm() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    team.create_topology().await;
    let mut both = Vec::new();
    for name in ["first", "second"] {
        let proxy = Proxy::start(stage.client(), &stage.namespace, None).await;
        both.push(Controller::start(proxy, &stage.nats.url(), name, name));
    }
    team.create_pool(3, json!({})).await;
    team.until_settled(3).await;
    team.edit(json!({"replicas": 6})).await;
    team.until_settled(6).await;
    team.use_image("example/coder:2").await;
    team.until_settled(6).await;
    let before = team.uids().await;
    team.edit(json!({"replicas": 2})).await;
    team.until_settled(2).await;
    assert!(team.uids().await.iter().all(|uid| before.contains(uid)), "more was deleted than there was too many");
    for controller in both {
        controller.end().await.unwrap();
    }
}
