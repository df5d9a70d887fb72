//! The rights that the installed controller has are those that it uses. That none is missing, every test here
//! shows: its controllers have these rights at the API server and no others.

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::stage::Stage;
use crate::support::{eventually, rights};

/// A regression here gives whoever breaks into the controller more than it ever needed.
#[tokio::test(flavor = "multi_thread")]
async fn every_right_is_used() {
    let stage = Stage::new().await;
    let (team, _kubelet) = (stage.team(), stage.kubelet());
    let (accounts, budgets) = (stage.api::<ServiceAccount>(), stage.api::<PodDisruptionBudget>());
    // Names that somebody else has: whose they are is read.
    let of = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let pod: Pod = serde_json::from_value(of("coder-1", json!({"containers": [{"name": "c", "image": "example/other:1"}]}))).unwrap();
    let account: ServiceAccount = serde_json::from_value(of("coder-agent", Value::Null)).unwrap();
    let budget: PodDisruptionBudget = serde_json::from_value(of("coder", json!({"maxUnavailable": 7}))).unwrap();
    team.pods.create(&PostParams::default(), &pod).await.unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    budgets.create(&PostParams::default(), &budget).await.unwrap();
    let controller = stage.controller("one").await;
    team.create_topology().await;
    team.create_pool(2, json!({})).await;
    team.until("Degraded=True/NameTaken").await;
    accounts.delete("coder-agent", &DeleteParams::default()).await.unwrap();
    budgets.delete("coder", &DeleteParams::default()).await.unwrap();
    team.pods.delete("coder-1", &DeleteParams::default().grace_period(0)).await.unwrap();
    team.until_settled(2).await;
    team.until("Degraded=False/AsExpected").await;

    // What somebody changes is put right again.
    let changed = Patch::Merge(json!({"automountServiceAccountToken": true}));
    accounts.patch("coder-agent", &PatchParams::default(), &changed).await.unwrap();
    budgets.patch("coder", &PatchParams::default(), &Patch::Merge(json!({"spec": {"maxUnavailable": 9}}))).await.unwrap();
    eventually("both are as they should be", || async {
        let budget = budgets.get("coder").await.unwrap().spec.unwrap().max_unavailable;
        let mounts = accounts.get("coder-agent").await.unwrap().automount_service_account_token;
        (mounts == Some(false) && budget == serde_json::from_value(json!(1)).unwrap()).then_some(())
    })
    .await;
    // What becomes nobody's is adopted.
    team.orphan("coder-0").await;
    eventually("it is adopted", || async {
        let owners = team.pods.get("coder-0").await.unwrap().metadata.owner_references;
        owners.iter().flatten().any(|owner| owner.controller == Some(true)).then_some(())
    })
    .await;
    team.edit(json!({"replicas": 1})).await;
    team.until_settled(1).await;

    // Another one stands by.
    let second = stage.controller("two").await;
    let watch = "watch leases.coordination.k8s.io";
    eventually("the lease is watched", || async { second.proxy.rights().contains(watch).then_some(()) }).await;
    let used = &controller.end_behind_proxy().await.rights() | &second.end_behind_proxy().await.rights();
    assert_eq!(used, rights::granted());
}
