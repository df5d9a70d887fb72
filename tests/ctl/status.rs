//! `status`, from the resources to the exit code.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const TOPOLOGIES: &str = "/apis/skein.dev/v1alpha1/namespaces/demo/topologies";
const POOLS: &str = "/apis/skein.dev/v1alpha1/namespaces/demo/agentpools";

fn conditions(ready: bool, reason: &str, message: &str) -> Value {
    let status = if ready { "True" } else { "False" };
    json!([{"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

fn topology(ready: bool) -> Value {
    json!([{
        "apiVersion": "skein.dev/v1alpha1", "kind": "Topology", "metadata": {"name": "research", "namespace": "demo"},
        "spec": {"architecture": "Flat", "members": [{"pool": "a"}, {"pool": "b"}]},
        "status": {"conditions": conditions(ready, if ready { "Ready" } else { "PoolNotReady" }, "pool b has no ready agent")},
    }])
}

fn pool(name: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": name, "namespace": "demo"},
        "spec": {"template": {"spec": {"containers": []}}},
        "status": {
            "topology": "research", "desiredReplicas": 1, "readyReplicas": i32::from(ready), "busyReplicas": 0, "queue": {"pending": 3, "inFlight": 1},
            "conditions": conditions(ready, if ready { "Ready" } else { "CrashLoop" }, "b-0: the container exits with code 3"),
        },
    })
}

#[tokio::test]
async fn a_team_that_is_ready_is_shown_and_the_program_succeeds() {
    let cluster = Cluster::new().await;
    cluster.lists(TOPOLOGIES, &topology(true));
    cluster.lists(POOLS, &json!([pool("a", true), pool("b", true)]));
    let ran = cluster.skein(&["status", "research"]).await;
    assert_eq!(
        ran.text(),
        "\
topology demo/research (Flat): Ready
POOL  READY  DESIRED  BUSY  QUEUE  STATUS
a     1      1        0     3      Ready
b     1      1        0     3      Ready
  a coordinates with b
  b coordinates with a
"
    );
    assert_eq!((ran.code, ran.notes.as_str()), (0, ""));
    let mut asked: Vec<String> = cluster.asked().into_iter().map(|asked| asked.line).collect();
    asked.sort();
    assert_eq!(asked, [format!("GET {POOLS}?"), format!("GET {TOPOLOGIES}?&fieldSelector=metadata.name%3Dresearch")]);
}

#[tokio::test]
async fn what_is_not_ready_has_its_own_exit_code() {
    let cluster = Cluster::new().await;
    cluster.lists(TOPOLOGIES, &topology(false));
    cluster.lists(POOLS, &json!([pool("a", true), pool("b", false)]));
    let ran = cluster.skein(&["status", "-o", "json"]).await;
    assert_eq!(ran.code, 3);
    let report = ran.json();
    assert_eq!(report["ready"], false);
    assert_eq!(report["topologies"][0]["why"], json!(["pool b has no ready agent"]));
    assert_eq!(
        report["topologies"][0]["pools"][1],
        json!({
            "name": "b", "ready": false, "status": "CrashLoop", "why": ["b-0: the container exits with code 3"],
            "readyAgents": 0, "desiredAgents": 1, "busyAgents": 0, "queue": {"pending": 3, "inFlight": 1},
        })
    );
    assert_eq!(report["topologies"][0]["edges"][0], json!({"from": "a", "to": "b", "relation": "coordinate"}));
}

#[tokio::test]
async fn what_cannot_be_read_is_one_sentence() {
    let cluster = Cluster::new().await;
    cluster.lists(TOPOLOGIES, &json!([]));
    cluster.lists(POOLS, &json!([]));
    let ran = cluster.skein(&["status", "ghost"]).await;
    assert_eq!((ran.code, ran.text()), (1, ""));
    assert_eq!(
        ran.notes,
        "skein: there is no topology \"ghost\" in namespace \"demo\": `kubectl get topologies -A` lists those that exist\n"
    );

    cluster.says(TOPOLOGIES, 404, &[], "404 page not found\n");
    cluster.says(POOLS, 404, &[], "404 page not found\n");
    let ran = cluster.skein(&["status"]).await;
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.notes,
        "skein: list topologies: the cluster does not know Skein's resources: install them with `skein crds | kubectl apply -f -`\n"
    );

    cluster.refuses("/apis/skein.dev/v1alpha1/namespaces/elsewhere/topologies", 403, "you may not list topologies");
    cluster.lists("/apis/skein.dev/v1alpha1/namespaces/elsewhere/agentpools", &json!([]));
    let ran = cluster.skein(&["status", "--context", "other"]).await;
    assert_eq!((ran.code, ran.notes.as_str()), (1, "skein: list topologies: you may not list topologies\n"));

    let ran = cluster.skein(&["status", "--context", "ghost"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.notes.starts_with("skein: the kubeconfig has no context \"ghost\""), "{}", ran.notes);

    cluster.write_kubeconfig("http://127.0.0.1:1");
    let ran = cluster.skein(&["status"]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.notes.starts_with("skein: list topologies: the API server at http://127.0.0.1:1/ cannot be reached: Connection refused"),
        "{}",
        ran.notes
    );

    let ran = cluster.skein(&["status", "--kubeconfig", "/nowhere"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.notes.starts_with("skein: there is no kubeconfig at /nowhere: "), "{}", ran.notes);
}

#[tokio::test]
async fn an_empty_namespace_is_no_error() {
    let cluster = Cluster::new().await;
    cluster.lists("/apis/skein.dev/v1alpha1/namespaces/bare/topologies", &json!([]));
    cluster.lists("/apis/skein.dev/v1alpha1/namespaces/bare/agentpools", &json!([]));
    let ran = cluster.skein(&["status", "-n", "bare"]).await;
    assert_eq!((ran.code, ran.text()), (0, ""));
    assert_eq!(ran.notes, "skein: there are no topologies and no pools in namespace \"bare\"\n");
}
