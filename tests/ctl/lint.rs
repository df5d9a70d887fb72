//! `lint`: files in, remarks and an exit code out, no cluster asked; and that it refuses what a real API
//! server refuses, and nothing else.

use std::collections::BTreeSet;

use kube::Client;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, Ran};
use crate::support::apiserver::ApiServer;

async fn lint(arguments: &[&str], input: Option<&str>) -> Ran {
    let cluster = Cluster::new().await;
    let ran = cluster.skein_with(&[&["lint"], arguments].concat(), input.map(str::as_bytes)).await;
    assert_eq!(cluster.asked(), [], "no cluster is asked");
    ran
}

const TEAM: &str = "\
apiVersion: skein.dev/v1alpha1
kind: Topology
metadata: {name: research}
spec:
  architecture: Hierarchical
  members:
    - {pool: planner}
    - {pool: writer, manager: planner}
    - {pool: archive}
    - {pool: ghost, manager: planner}
---
apiVersion: skein.dev/v1alpha1
kind: AgentPool
metadata: {name: planner}
spec: {replicas: 2, template: {spec: {containers: [{name: agent, image: planner}]}}}
---
apiVersion: skein.dev/v1alpha1
kind: AgentPool
metadata: {name: writer}
spec: {replicas: -1, capabilities: [write], template: {spec: {containers: [{name: agent, image: writer}]}}}
---
apiVersion: skein.dev/v1alpha1
kind: AgentPool
metadata: {name: archive}
spec: {capabilities: [remember], template: {spec: {containers: [{name: agent, image: archive}]}}}
";

#[tokio::test]
async fn every_remark_is_a_line_and_the_program_fails() {
    let ran = lint(&["-f", "-"], Some(TEAM)).await;
    assert_eq!(
        ran.text(),
        "\
-:1: Topology/research: Warning PoolNotFound: pool ghost is not in these files: name its file too, or what is said here is not all of it
-:1: Topology/research: Warning IsolatedMember: no member may send to archive, and archive may send to no member: it only gets what comes from outside; to mend it: spec.members[2].manager: planner
-:1: Topology/research: Warning SinglePointOfFailure: archive has one agent, and no other pool serves remember: while that agent is away, that work waits; to mend it: spec.replicas: 2 # AgentPool archive
-:3: AgentPool/writer: Error Invalid: spec.replicas must be 0 or more, and is -1
"
    );
    assert_eq!((ran.code, ran.notes.as_str()), (1, "skein: 3 AgentPools and 1 Topology: 1 error, 3 warnings\n"));
}

#[tokio::test]
async fn programs_read_json() {
    let ran = lint(&["-f", "-", "-o", "json"], Some(TEAM)).await;
    assert_eq!(ran.code, 1);
    let report = ran.json();
    assert_eq!((&report["pools"], &report["topologies"]), (&json!(3), &json!(1)));
    assert_eq!(
        report["remarks"][1],
        json!({
            "file": "-", "document": 1, "kind": "Topology", "name": "research", "severity": "Warning", "type": "IsolatedMember",
            "message": "no member may send to archive, and archive may send to no member: it only gets what comes from outside",
            "remedy": "spec.members[2].manager: planner",
        })
    );
}

/// A regression here tells everybody who tries Skein that its own samples are wrong, or that they are fine.
#[tokio::test]
async fn the_samples_are_as_good_as_they_are() {
    let ran = lint(&["-f", "deploy/samples/hello.yaml"], None).await;
    assert_eq!((ran.code, ran.text(), ran.notes.as_str()), (0, "", "skein: 1 AgentPool and 1 Topology: nothing is wrong or weak\n"));

    let ran = lint(&["-f", "deploy/samples/research-team"], None).await;
    assert_eq!(
        ran.text(),
        "deploy/samples/research-team/topology.yaml:1: Topology/research: Warning SinglePointOfFailure: planner has one agent, and no other pool serves research.answer, and all other members stand below it: while that agent is away, that work waits; to mend it: spec.replicas: 2 # AgentPool planner\n"
    );
    assert_eq!(ran.code, 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_told_beside_what_can() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("a.yaml"), "kind: AgentPool\nspec:\n\treplicas: 1\n").unwrap();
    std::fs::write(path("b.yml"), TEAM).unwrap();
    std::fs::write(path("notes.txt"), "{").unwrap();
    let ran = lint(&["-f", folder.path().to_str().unwrap(), "-f", &path("missing.yaml")], None).await;
    assert_eq!(ran.code, 2);
    assert_eq!(ran.text().lines().count(), 4);
    let notes: Vec<_> = ran.notes.lines().collect();
    assert_eq!(
        notes[0],
        format!(
            "skein: {}, line 3, column 1: this is no YAML: found character that cannot start any token, while scanning for the next token",
            path("a.yaml")
        )
    );
    assert_eq!(notes[1], format!("skein: {}: the file cannot be read: No such file or directory (os error 2)", path("missing.yaml")));

    // A folder or a file with nothing of ours is the wrong one.
    let empty = TempDir::new().unwrap();
    let ran = lint(&["-f", empty.path().to_str().unwrap()], None).await;
    assert_eq!(ran.code, 2);
    assert!(ran.notes.contains("the folder has no file that ends in .yaml, .yml or .json"), "{}", ran.notes);
    let ran = lint(&["-f", "-"], Some("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")).await;
    assert_eq!((ran.code, ran.notes.as_str()), (2, "skein: there is no AgentPool and no Topology to judge\n"));
    assert_eq!(lint(&[], None).await.code, 2);
}

// --- The same as the API server

fn pool(change: impl FnOnce(&mut Value)) -> Value {
    changed(
        json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "metadata": {},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "agent", "image": "i"}]}}},
        }),
        change,
    )
}

fn topology(change: impl FnOnce(&mut Value)) -> Value {
    changed(
        json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "Topology", "metadata": {},
            "spec": {"architecture": "Hierarchical", "members": [{"pool": "a"}, {"pool": "b", "manager": "a"}]},
        }),
        change,
    )
}

fn changed(mut object: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut object);
    object
}

/// Objects of which some are right and some are wrong, in every way that a schema can tell.
fn cases() -> Vec<Value> {
    let mut cases = Vec::new();
    for (field, values) in [
        ("replicas", json!([0, 10000, 10001, -1, "2", 2.5, true, null])),
        (
            "capabilities",
            json!([[], ["a", "b"], ["a", "a"], [null], ["A"], ["a."], "a", [1], [""], null, ["x".repeat(63)], ["x".repeat(64)]]),
        ),
        (
            "agent",
            json!([{}, null, {"port": 1}, {"port": 0}, {"port": 65536}, {"port": null}, {"path": null}, {"path": "x"}, {"path": "/x"}, {"nonsense": 1}, []]),
        ),
        (
            "health",
            json!([{"heartbeatSeconds": 16}, {"heartbeatSeconds": 15}, {"staleSeconds": 4}, {"heartbeatSeconds": 15, "staleSeconds": null}]),
        ),
        ("operatingMode", json!(["Suspended", "suspended", "", null, 1])),
        ("drainTimeoutSeconds", json!([86400, 86401])),
        ("repilcas", json!([1])),
        (
            "template",
            json!([null, {}, {"spec": {}}, {"spec": null}, {"metadata": {"labels": {"a": 1}}}, {"metadata": {"labels": {"a": "1"}}}, {"metadata": {"labels": {"a": null}}}]),
        ),
    ] {
        cases.extend(values.as_array().unwrap().iter().map(|value| pool(|pool| pool["spec"][field] = value.clone())));
    }
    for (field, values) in [
        ("image", json!([1, null, "i", ""])),
        ("imagee", json!(["i"])),
        ("tty", json!([true, "true", null])),
        (
            "resources",
            json!([{"limits": {"cpu": 1}}, {"limits": {"cpu": "1"}}, {"limits": {"cpu": true}}, {"limits": {"cpu": 0.5}}, {"limits": []}, {"limit": {}}]),
        ),
        (
            "livenessProbe",
            json!([{"httpGet": {"port": "http"}}, {"httpGet": {"port": 80}}, {"httpGet": {}}, {"periodSeconds": 3_000_000_000_u64}]),
        ),
        ("env", json!([[{"name": "A", "value": "1"}], [{"name": "A", "value": 1}], [{"value": "1"}], {"A": "1"}])),
    ] {
        let container = |value: &Value| pool(|pool| pool["spec"]["template"]["spec"]["containers"][0][field] = value.clone());
        cases.extend(values.as_array().unwrap().iter().map(container));
    }
    for (field, values) in [
        ("architecture", json!(["Flat", "Hybrid", "hybrid", null])),
        (
            "members",
            json!([[], null, [{}], [null], [{"pool": null}], [{"pool": "a"}], [{"pool": "a"}, {"pool": "a"}], [{"pool": ""}], [{"pool": "a", "manager": null}], [{"pool": "a", "peers": []}], [{"pool": "a", "boss": "b"}], "a"]),
        ),
        (
            "journal",
            json!([{}, null, {"storage": "Disk"}, {"replicas": 6}, {"maxBytes": 1}, {"maxBytes": 1_099_511_627_776_u64}, {"maxBytes": 1.5}]),
        ),
    ] {
        cases.extend(values.as_array().unwrap().iter().map(|value| topology(|topology| topology["spec"][field] = value.clone())));
    }
    cases.push(topology(|topology| topology["spec"] = json!({"architecture": "Flat", "members": [{"pool": "a", "peers": []}]})));
    cases.push(pool(|pool| drop(pool.as_object_mut().unwrap().remove("spec"))));
    cases.push(pool(|pool| pool["extra"] = json!({})));
    cases.push(pool(|pool| pool["spec"] = Value::Null));
    for (number, case) in cases.iter_mut().enumerate() {
        case["metadata"]["name"] = format!("case-{number}").into();
    }
    for name in ["Upper", "under_score", "1st", "end-", "a.b"] {
        cases
            .extend([pool(|pool| pool["metadata"]["name"] = name.into()), topology(|topology| topology["metadata"]["name"] = name.into())]);
    }
    for length in [50, 51, 63, 64] {
        let name = "n".repeat(length);
        cases.extend([
            pool(|pool| pool["metadata"]["name"] = name.clone().into()),
            topology(|topology| topology["metadata"]["name"] = name.into()),
        ]);
    }
    cases
}

/// What the API server says of an object that is to be made, as kubectl asks it.
async fn server_says(client: &Client, namespace: &str, object: &Value) -> Result<(), String> {
    let plural = if object["kind"] == "AgentPool" { "agentpools" } else { "topologies" };
    let address = format!("/apis/skein.dev/v1alpha1/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict");
    let request = http::Request::post(address).header("content-type", "application/json").body(object.to_string().into_bytes()).unwrap();
    client.request::<Value>(request).await.map(drop).map_err(|error| error.to_string())
}

/// A regression here passes in review what is refused when it is applied, or the reverse.
#[tokio::test]
async fn lint_refuses_what_the_api_server_refuses() {
    let server = ApiServer::shared();
    let client = server.client().await;
    let namespace = server.namespace(&client).await;
    let cases = cases();
    let text: String = cases.iter().map(|case| format!("---\n{case}\n")).collect();
    let report = lint(&["-f", "-", "-o", "json"], Some(&text)).await.json();
    let remarks = report["remarks"].as_array().unwrap();
    // What only the controller refuses is not looked at here.
    let controllers = BTreeSet::from(["NoContainer", "PoolInAnotherTopology"]);
    let mut wrong = Vec::new();
    for (place, case) in cases.iter().enumerate() {
        let of_case = remarks.iter().filter(|remark| remark["document"] == place + 1 && remark["severity"] == "Error");
        let said: Vec<_> =
            of_case.filter(|remark| !controllers.contains(remark["type"].as_str().unwrap())).map(|remark| &remark["message"]).collect();
        let server = server_says(&client, &namespace, case).await;
        if server.is_err() == said.is_empty() {
            wrong.push(format!("{case}\n  server: {server:?}\n  lint: {said:?}"));
        }
    }
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}
