//! `graph` and `explain`, of a cluster and of files, to the exit code.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const TOPOLOGIES: &str = "/apis/skein.dev/v1alpha1/namespaces/demo/topologies";
const POOLS: &str = "/apis/skein.dev/v1alpha1/namespaces/demo/agentpools";

const SAMPLE: &str = "deploy/samples/research-team";

fn topology(name: &str, time: &str, members: &Value) -> Value {
    json!({
        "apiVersion": "skein.dev/v1alpha1", "kind": "Topology", "metadata": {"name": name, "namespace": "demo", "creationTimestamp": time},
        "spec": {"architecture": "Hierarchical", "members": members},
    })
}

fn pool(name: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": name, "namespace": "demo"},
        "spec": {"replicas": 2, "operatingMode": mode, "template": {"spec": {"containers": []}}},
    })
}

/// A team of which one pool is suspended, one is another team's, and one does not exist.
async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    let member = |pool: &str| json!({"pool": pool, "manager": "planner"});
    let members = json!([{"pool": "planner"}, member("writer"), member("lent"), member("ghost")]);
    let older = topology("older", "2026-01-01T00:00:00Z", &json!([{"pool": "lent"}]));
    cluster.lists(TOPOLOGIES, &json!([topology("research", "2026-02-01T00:00:00Z", &members), older]));
    cluster.lists(POOLS, &json!([pool("planner", "Running"), pool("writer", "Suspended"), pool("lent", "Running")]));
    cluster
}

#[tokio::test]
async fn a_team_of_the_cluster_is_drawn() {
    let cluster = cluster().await;
    let ran = cluster.skein(&["graph", "research"]).await;
    assert_eq!(
        ran.text(),
        "\
topology demo/research (Hierarchical): 4 pools, 4 agents, 6 edges
POOL       AGENTS                     CAPABILITIES
planner    2 agents
├─ writer  2 agents, suspended
├─ lent    belongs to topology older
└─ ghost   does not exist
  planner delegates down to writer, lent, ghost
  writer reports up to planner
  lent reports up to planner
  ghost reports up to planner
"
    );
    assert_eq!((ran.code, ran.notes.as_str()), (0, ""));
}

#[tokio::test]
async fn programs_read_json_and_graphviz_reads_dot() {
    let cluster = Cluster::new().await;
    let ran = cluster.skein(&["graph", "-f", SAMPLE, "-o", "json"]).await;
    let graph = ran.json();
    assert_eq!(
        graph["pools"][1],
        json!({"name": "searcher", "manager": "planner", "agents": 3, "capabilities": ["corpus.search"], "suspended": false})
    );
    assert_eq!(graph["edges"][0], json!({"from": "planner", "to": "searcher", "relation": "delegate"}));
    assert_eq!(graph["edges"].as_array().unwrap().len(), 8);
    let ran = cluster.skein(&["graph", "research", "-f", SAMPLE, "-o", "dot"]).await;
    assert!(ran.text().contains("\n  \"writer\" -> \"reviewer\" [label=\"coordinates\", dir=both"), "{}", ran.text());
    assert_eq!((ran.code, cluster.asked()), (0, vec![]));
}

/// A regression here has a script believe that an edge is there, or that it is not, when nobody knows.
#[tokio::test]
async fn an_edge_its_absence_and_ignorance_have_three_exit_codes() {
    let explain = async |cluster: Cluster, arguments: &[&str]| {
        let ran = cluster.skein(&[&["explain", "research"], arguments].concat()).await;
        (ran.code, ran.text().to_owned(), ran.notes)
    };
    let said = |code: i32, text: &str| (code, text.to_owned(), String::new());
    assert_eq!(
        explain(cluster().await, &["planner", "writer"]).await,
        said(
            0,
            "planner may send to writer, and delegates down to it: spec.members[1].manager is planner; but writer is suspended, and takes nothing until its spec.operatingMode is Running\nto forbid it: remove spec.members[1].manager\n"
        )
    );
    assert_eq!(
        explain(cluster().await, &["writer", "lent"]).await,
        said(
            1,
            "writer may not send to lent: neither is the manager of the other, and neither names the other as its peer; it reaches lent by way of planner\nto allow it: spec.members[1].peers: [lent]\n"
        )
    );
    assert_eq!(
        explain(cluster().await, &["planner", "lent"]).await,
        said(
            1,
            "planner may send to lent, and delegates down to it: spec.members[2].manager is planner; but pool lent belongs to topology older, so nothing can be sent\n"
        )
    );
    assert_eq!(explain(cluster().await, &["ghost", "planner"]).await.0, 1);

    let away = cluster().await;
    away.write_kubeconfig("http://127.0.0.1:1");
    let (code, text, notes) = explain(away, &["planner", "writer"]).await;
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(notes.contains("cannot be reached"), "{notes}");

    let ran = Cluster::new().await.skein(&["explain", "research", "writer", "reviewer", "-f", SAMPLE, "-o", "json"]).await;
    assert_eq!(
        (ran.code, ran.json()),
        (
            0,
            json!({
                "from": "writer", "to": "reviewer", "allowed": true, "relation": "coordinate",
                "message": "writer may send to reviewer, and coordinates sideways with it: spec.members[2].peers has reviewer",
                "change": "remove reviewer from spec.members[2].peers",
            })
        )
    );
}

#[tokio::test]
async fn a_topology_that_is_not_there_or_makes_no_sense_is_told() {
    let cluster = cluster().await;
    let ran = cluster.skein(&["graph", "nobody"]).await;
    assert_eq!(
        ran.notes,
        "skein: there is no topology \"nobody\" in namespace \"demo\": `kubectl get topologies -A` lists those that exist\n"
    );
    assert_eq!(ran.code, 1);
    cluster.lists(TOPOLOGIES, &json!([topology("t", "2026-01-01T00:00:00Z", &json!([{"pool": "a", "manager": "a"}]))]));
    cluster.lists(POOLS, &json!([]));
    let ran = cluster.skein(&["graph", "t"]).await;
    assert_eq!(
        ran.notes,
        "skein: topology t is not accepted, and what was accepted before is in force: manager of \"a\" names the pool itself: name another member or remove it\n"
    );

    let of = async |text: &str, arguments: &[&str]| {
        let ran = cluster.skein_with(&[&["graph", "-f", "-"], arguments].concat(), Some(text.as_bytes())).await;
        (ran.code, ran.notes)
    };
    let team = |name: &str| format!("---\n{}\n", topology(name, "2026-01-01T00:00:00Z", &json!([{"pool": "a"}])));
    let two = team("one") + &team("two");
    assert_eq!(of(&two, &[]).await, (1, "skein: there are several topologies in these files: name one of one, two\n".to_owned()));
    assert_eq!(of(&two, &["three"]).await, (1, "skein: there is no topology \"three\" in these files: they have one, two\n".to_owned()));
    assert_eq!(of(&two, &["two"]).await, (0, String::new()));
    let wrong = two.replace("\"Hierarchical\"", "\"Hierarchy\"");
    assert_eq!(
        of(&wrong, &["two"]).await,
        (
            1,
            "skein: -:2: Topology/two: Error Invalid: spec.architecture must be Hierarchical, Flat or Hybrid, and is \"Hierarchy\"\n"
                .to_owned()
        )
    );
    assert_eq!(of("a: b: c\n", &[]).await.0, 1);
    assert_eq!(of(&two, &["two", "--context", "test"]).await.0, 2);
    assert_eq!(cluster.skein(&["graph"]).await.code, 2);
}
