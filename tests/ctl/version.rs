//! `version` and `crds`.

use pretty_assertions::assert_eq;
use serde_json::json;

use crate::cluster::Cluster;

const PODS: &str = "/api/v1/pods";

fn pod(component: &str, image: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "x", "namespace": "skein-system", "labels": {"app.kubernetes.io/name": "skein", "app.kubernetes.io/component": component}},
        "spec": {"containers": [{"name": "skein", "image": image}]},
    })
}

#[tokio::test]
async fn the_versions_of_program_and_cluster_are_shown() {
    let cluster = Cluster::new().await;
    cluster.lists(PODS, &json!([pod("gateway", "localhost/skein:0.0.9"), pod("controller", "localhost/skein:0.1.0")]));
    let ran = cluster.skein(&["version", "-o", "json"]).await;
    assert_eq!(ran.code, 0);
    let versions = ran.json();
    assert_eq!(versions["client"], env!("CARGO_PKG_VERSION"));
    assert_eq!(versions["cluster"][0]["component"], "controller");
    assert_eq!(versions["cluster"][1]["version"], "0.0.9");
    assert_eq!(cluster.asked()[0].line, "GET /api/v1/pods?&labelSelector=app.kubernetes.io%2Fname%3Dskein");
}

#[tokio::test]
async fn a_cluster_without_skein_is_no_error_but_one_that_is_away_is() {
    let cluster = Cluster::new().await;
    cluster.lists(PODS, &json!([]));
    let ran = cluster.skein(&["version"]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.notes.contains("no controller and no gateway run in the cluster"), "{}", ran.notes);

    cluster.write_kubeconfig("http://127.0.0.1:1");
    let ran = cluster.skein(&["version"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.text().contains(concat!("client     ", env!("CARGO_PKG_VERSION"))), "{}", ran.text());
    assert_eq!(cluster.skein(&["version", "--client"]).await.code, 0);
}

#[tokio::test]
async fn who_may_not_look_everywhere_looks_into_the_namespace() {
    let cluster = Cluster::new().await;
    cluster.refuses(PODS, 403, "no");
    cluster.lists("/api/v1/namespaces/demo/pods", &json!([pod("controller", "skein:1")]));
    let ran = cluster.skein(&["version"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.text().contains("controller"));
}

#[tokio::test]
async fn the_definitions_need_no_cluster() {
    let cluster = Cluster::new().await;
    let ran = cluster.skein(&["crds"]).await;
    assert_eq!((ran.code, ran.text().matches("kind: CustomResourceDefinition").count()), (0, 2));
    assert_eq!(cluster.asked(), []);
    assert_eq!(cluster.skein(&["status", "--nonsense"]).await.code, 2);
}
