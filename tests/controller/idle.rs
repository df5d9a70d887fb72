//! A controller that has nothing to do does nothing.

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
    // What is still under way when the status has settled, such as an event.
    let renewals = proxy.renewals();
    eventually("two renewals of the lease", || async { (proxy.renewals() > renewals + 1).then_some(()) }).await;
    let (writes, reads, renewals) = (proxy.writes(), proxy.reads(), proxy.renewals());
    eventually("eight renewals of the lease", || async { (proxy.renewals() > renewals + 7).then_some(()) }).await;
    assert_eq!((proxy.writes(), proxy.reads()), (writes.clone(), reads));
    // Five pods, one account, one budget; the rest are statuses, events and the topology's finalizer.
    assert!(writes.len() <= 20, "{writes:#?}");
    controller.end().await.unwrap();
}
