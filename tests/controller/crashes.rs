//! A controller that dies before or after any one of its writes, at each of them: whoever comes after it
//! brings the pool to the same state as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::kubelet::{Kubelet, set_status};
use crate::stage::{Controller, Stage, Team};
use crate::support::eventually;
use crate::support::proxy::{Break, Proxy};

/// How many scenarios run side by side, each in a namespace of its own.
const SIDE_BY_SIDE: usize = 6;

/// What is left at the end of each part of the scenario, without what differs from run to run.
type Snapshots = BTreeMap<&'static str, Value>;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_write_changes_nothing_in_the_end() {
    let stage = Arc::new(Stage::new().await);
    let (undisturbed, writes) = run(&stage, "undisturbed", None).await;
    println!("{} writes: {writes:#?}", writes.len());
    assert!(writes.len() > 20, "the scenario has become too small: {writes:#?}");
    let points = (1..=writes.len()).flat_map(|n| [Break::Before(n), Break::After(n)]);
    let runs = futures::stream::iter(points).map(|point| {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move {
            let name = format!("{point:?}").to_lowercase().replace(['(', ')'], "-");
            (point, run(&stage, name.trim_end_matches('-'), Some(point)).await)
        })
    });
    let mut runs = runs.buffer_unordered(SIDE_BY_SIDE);
    let (mut crashed, mut all) = (0, 0);
    while let Some(run) = runs.next().await {
        let (point, (snapshots, before)) = run.unwrap();
        all += 1;
        crashed += usize::from(before.len() >= number(point));
        let mut differences = Vec::new();
        differ("", &json!(undisturbed), &json!(snapshots), &mut differences);
        assert!(differences.is_empty(), "{point:?} of {:?}: {differences:#?}", writes.get(number(point) - 1));
    }
    println!("{crashed} of {all} runs crashed");
    // Two statuses or two deletions may come in one, so that the last numbers may not be reached.
    assert!(crashed * 10 >= all * 8, "only {crashed} of {all} runs crashed");
}

fn number(point: Break) -> usize {
    match point {
        Break::Before(n) | Break::After(n) => n,
    }
}

/// Runs the scenario in a namespace with controllers of which the first breaks.
async fn run(stage: &Stage, namespace: &str, breaks: Option<Break>) -> (Snapshots, Vec<String>) {
    stage.server.namespace(namespace).await;
    let team = Team::new(stage.client(), namespace);
    let _kubelet = Kubelet::start(stage.client(), namespace);
    let controllers = Controllers::start(stage, namespace, breaks);
    let mut snapshots = Snapshots::new();

    team.create_topology().await;
    team.create_pool(2, json!({})).await;
    team.until_settled(2).await;
    snapshots.insert("1 created", snapshot(stage.client(), namespace).await);
    team.edit(json!({"replicas": 3})).await;
    team.until_settled(3).await;
    snapshots.insert("2 scaled up", snapshot(stage.client(), namespace).await);
    let evicted = team.pods.get("coder-1").await.unwrap().uid();
    set_status(&team.pods, "coder-1", &json!({"phase": "Failed", "reason": "Evicted", "conditions": []})).await;
    eventually("the evicted agent is replaced", || async {
        (team.pods.get_opt("coder-1").await.unwrap()?.uid() != evicted).then_some(())
    })
    .await;
    let pool = team.until_settled(3).await;
    // Counted before it is done: a crash in between counts it again, and never leaves it uncounted.
    let replaced = pool.status.and_then(|status| status.restarts).map_or(0, |restarts| restarts.total);
    assert!((1..=1 + i64::from(breaks.is_some())).contains(&replaced), "{replaced} replacements of one agent");
    snapshots.insert("3 replaced", snapshot(stage.client(), namespace).await);
    team.use_image("example/coder:2").await;
    team.until_settled(3).await;
    snapshots.insert("4 rolled out", snapshot(stage.client(), namespace).await);
    team.edit(json!({"replicas": 1})).await;
    team.until_settled(1).await;
    snapshots.insert("5 scaled down", snapshot(stage.client(), namespace).await);
    team.pools.delete("coder", &DeleteParams::default()).await.unwrap();
    team.topologies.delete("team", &DeleteParams::default()).await.unwrap();
    eventually("pool and topology are gone", || async {
        let gone = team.pools.get_opt("coder").await.unwrap().is_none() && team.topologies.get_opt("team").await.unwrap().is_none();
        gone.then_some(())
    })
    .await;
    snapshots.insert("6 deleted", snapshot(stage.client(), namespace).await);
    let writes = controllers.writes.borrow().clone();
    (snapshots, writes)
}

/// A controller behind a proxy that breaks, and one that comes after it.
struct Controllers {
    writes: watch::Receiver<Vec<String>>,
    _task: AbortOnDropHandle<()>,
}

impl Controllers {
    fn start(stage: &Stage, namespace: &str, breaks: Option<Break>) -> Self {
        let (client, url, namespace) = (stage.client(), stage.nats.url(), namespace.to_owned());
        let (sender, writes) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let proxy = Proxy::start(client.clone(), &namespace, breaks).await;
            // Each has a lease of its own: how a lease runs out is another test's business.
            let first = Controller::with_lease(proxy.client(), &url, &namespace, "first", "first");
            let log = async {
                loop {
                    sender.send_replace(proxy.writes());
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                () = proxy.broken() => first.kill().await,
                () = log => {}
            }
            sender.send_replace(proxy.writes());
            let proxy = Proxy::start(client, &namespace, None).await;
            let _second = Controller::with_lease(proxy.client(), &url, &namespace, "second", "second");
            std::future::pending::<()>().await;
        });
        Self { writes, _task: AbortOnDropHandle::new(task) }
    }
}

/// Everything of a namespace that a controller makes, without identities, times and versions.
async fn snapshot(client: Client, namespace: &str) -> Value {
    let team = Team::new(client.clone(), namespace);
    let all = ListParams::default();
    let pods: Api<Pod> = team.pods.clone();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client, namespace);
    json!({
        "pods": pods.list(&all).await.unwrap().items.iter().map(plain).collect::<Vec<_>>(),
        "accounts": accounts.list(&all).await.unwrap().items.iter().map(plain).collect::<Vec<_>>(),
        "budgets": budgets.list(&all).await.unwrap().items.iter().map(plain).collect::<Vec<_>>(),
        "pools": team.pools.list(&all).await.unwrap().items.iter().map(plain).collect::<Vec<_>>(),
        "topologies": team.topologies.list(&all).await.unwrap().items.iter().map(plain).collect::<Vec<_>>(),
    })
}

fn plain(object: &impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    strip(&mut value);
    value
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let differs = ["uid", "resourceVersion", "creationTimestamp", "managedFields", "lastTransitionTime", "namespace", "generation", "observedGeneration", "restarts"];
            fields.retain(|key, _| !differs.contains(&key.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Every place where two values differ.
fn differ(path: &str, one: &Value, other: &Value, differences: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let of = |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
                differ(&format!("{path}.{key}"), &of(one), &of(other), differences);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (place, (one, other)) in one.iter().zip(other).enumerate() {
                differ(&format!("{path}[{place}]"), one, other, differences);
            }
        }
        _ if one != other => differences.push(format!("{path}: {one} undisturbed, {other} here")),
        _ => {}
    }
}
