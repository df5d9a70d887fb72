//! A controller that dies before or after any one of its writes, at each of them: whoever comes after it
//! brings the pool to the same state as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::kubelet::{Kubelet, set_status};
use crate::stage::{Controller, Stage, Team};
use crate::support::proxy::{Break, Proxy};
use crate::support::{PATIENCE, eventually};

/// How many scenarios run side by side, each in a namespace of its own.
const SIDE_BY_SIDE: usize = 8;

/// How long nothing must change for the undisturbed run to go on.
const CALM: Duration = Duration::from_secs(3);

/// What is left at the end of each part of the scenario, without what differs from run to run.
type Snapshots = BTreeMap<&'static str, Value>;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_write_changes_nothing_in_the_end() {
    let stage = Arc::new(Stage::new().await);
    let (undisturbed, writes) = run(&stage, None, None).await;
    println!("{} writes: {writes:#?}", writes.len());
    assert!(writes.len() > 20, "the scenario has become too small: {writes:#?}");
    let points = (1..=writes.len()).flat_map(|n| [Break::Before(n), Break::After(n)]);
    let undisturbed = Arc::new(undisturbed);
    let runs = futures::stream::iter(points).map(|point| {
        let (stage, undisturbed) = (Arc::clone(&stage), Arc::clone(&undisturbed));
        tokio::spawn(async move { (point, run(&stage, Some(point), Some(&undisturbed)).await) })
    });
    let mut runs = runs.buffer_unordered(SIDE_BY_SIDE);
    let (mut crashed, mut all) = (0, 0);
    while let Some(run) = runs.next().await {
        let (point, (snapshots, before)) = run.unwrap_or_else(|error| panic!("{error}"));
        all += 1;
        crashed += usize::from(before.len() >= number(point));
        let mut differences = Vec::new();
        differ("", &json!(*undisturbed), &json!(snapshots), &mut differences);
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
async fn run(stage: &Stage, breaks: Option<Break>, expected: Option<&Snapshots>) -> (Snapshots, Vec<String>) {
    let namespace = stage.another().await;
    let namespace = namespace.as_str();
    let team = Team::new(stage.client(), namespace);
    let _kubelet = Kubelet::start(stage.client(), namespace);
    let controllers = Controllers::start(stage, namespace, breaks);
    let mut parts = Parts { stage, namespace, expected, snapshots: Snapshots::new() };

    team.create_topology().await;
    team.create_pool(2, json!({})).await;
    team.until_settled(2).await;
    parts.end("1 created").await;
    team.edit(json!({"replicas": 3})).await;
    team.until_settled(3).await;
    parts.end("2 scaled up").await;
    let evicted = team.pods.get("coder-1").await.unwrap().uid();
    set_status(&team.pods, "coder-1", &json!({"phase": "Failed", "reason": "Evicted", "conditions": []})).await;
    eventually("the evicted agent is replaced", || async { (team.pods.get_opt("coder-1").await.unwrap()?.uid() != evicted).then_some(()) })
        .await;
    let pool = team.until_settled(3).await;
    // Counted before it is done: a crash in between counts it again, and never leaves it uncounted.
    let replaced = pool.status.and_then(|status| status.restarts).map_or(0, |restarts| restarts.total);
    assert!((1..=1 + i64::from(breaks.is_some())).contains(&replaced), "{replaced} replacements of one agent");
    parts.end("3 replaced").await;
    team.use_image("example/coder:2").await;
    team.until_settled(3).await;
    parts.end("4 rolled out").await;
    team.edit(json!({"replicas": 1})).await;
    team.until_settled(1).await;
    parts.end("5 scaled down").await;
    team.pools.delete("coder", &DeleteParams::default()).await.unwrap();
    team.topologies.delete("team", &DeleteParams::default()).await.unwrap();
    eventually("pool and topology are gone", || async {
        let gone = team.pools.get_opt("coder").await.unwrap().is_none() && team.topologies.get_opt("team").await.unwrap().is_none();
        gone.then_some(())
    })
    .await;
    parts.end("6 deleted").await;
    let writes = controllers.writes.borrow().clone();
    (parts.snapshots, writes)
}

/// The parts of a scenario that have ended.
struct Parts<'a> {
    stage: &'a Stage,
    namespace: &'a str,
    expected: Option<&'a Snapshots>,
    snapshots: Snapshots,
}

impl Parts<'_> {
    /// Waits until everything is as it was at the end of this part without a disturbance, or, in the run
    /// that is not disturbed, until it has been the same for a while.
    async fn end(&mut self, part: &'static str) {
        let until = Instant::now() + PATIENCE;
        let (mut last, mut since) = (Value::Null, Instant::now());
        loop {
            let now = snapshot(self.stage, self.namespace).await;
            if now != last {
                (last, since) = (now.clone(), Instant::now());
            }
            let done = match self.expected {
                Some(expected) => expected[part] == now || Instant::now() > until,
                None => since.elapsed() > CALM,
            };
            if done {
                self.snapshots.insert(part, now);
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
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
            let first = Controller::start(proxy, &url, "first", "first");
            let log = async {
                loop {
                    sender.send_replace(first.proxy.writes());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                () = first.proxy.broken() => {}
                () = log => {}
            }
            sender.send_replace(first.proxy.writes());
            first.kill().await;
            let proxy = Proxy::start(client, &namespace, None).await;
            let _second = Controller::start(proxy, &url, "second", "second");
            std::future::pending::<()>().await;
        });
        Self { writes, _task: AbortOnDropHandle::new(task) }
    }
}

/// Everything that controllers make for a namespace, on the API server and on the broker, without identities, times and versions.
async fn snapshot(stage: &Stage, namespace: &str) -> Value {
    let client = stage.client();
    let team = Team::new(client.clone(), namespace);
    let all = ListParams::default();
    let pods: Api<Pod> = team.pods.clone();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client, namespace);
    let streams = async_nats::jetstream::new(stage.bus.client().clone());
    let streams = streams.stream_names().try_collect::<Vec<_>>().await.unwrap();
    json!({
        "journals": streams.into_iter().filter_map(|name| Some(name.strip_prefix(&format!("skein_{namespace}_"))?.to_owned())).collect::<Vec<_>>(),
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
            let differs = [
                "uid",
                "resourceVersion",
                "creationTimestamp",
                "managedFields",
                "lastTransitionTime",
                "namespace",
                "generation",
                "observedGeneration",
                "restarts",
                "queue",
            ];
            fields.retain(|key, _| !differs.contains(&key.as_str()));
            if fields.get("name").is_some_and(|name| name == "SKEIN_HOOK_KEY") {
                fields.remove("value");
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::String(text) => {
            if let Some(key) = text.find("?key=") {
                text.truncate(key);
            }
        }
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
