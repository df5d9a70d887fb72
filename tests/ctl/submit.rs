//! `submit`, through the API server and to a gateway's own address.

use pretty_assertions::assert_eq;
use serde_json::json;

use crate::cluster::Cluster;

const SERVICES: &str = "/api/v1/services";
const TASKS: &str = "/api/v1/namespaces/skein-system/services/http:skein-gateway:80/proxy/v1/namespaces/demo/topologies/research/tasks";
const TASK: &str = "/api/v1/namespaces/skein-system/services/http:skein-gateway:80/proxy/v1/namespaces/demo/topologies/research/tasks/t-1";
const RESULT: [(&str, &str); 2] = [("content-type", "application/octet-stream"), ("skein-task-id", "t-1")];
const PROBLEM: [(&str, &str); 1] = [("content-type", "application/problem+json")];

async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    cluster.lists(
        SERVICES,
        &json!([{
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "skein-gateway", "namespace": "skein-system"},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }]),
    );
    cluster
}

fn problem(kind: &str, more: &str) -> String {
    format!(r#"{{"type":"https://skein.dev/problems/{kind}","title":"Title","status":1,"detail":"what is wrong"{more}}}"#)
}

#[tokio::test]
async fn a_result_goes_to_standard_output_byte_by_byte() {
    let cluster = cluster().await;
    cluster.says(TASKS, 200, &RESULT, vec![0_u8, 255, b'\n']);
    let arguments = ["submit", "research", "--to", "worker", "--wait=20", "--deadline", "90", "--content-type", "image/png", "-f", "-"];
    let ran = cluster.skein_with(&arguments, Some(&[1, 0, 254])).await;
    assert_eq!((ran.code, ran.out.as_slice(), ran.notes.as_str()), (0, &[0, 255, b'\n'][..], ""));
    let asked = cluster.asked();
    assert_eq!(
        asked[0].line,
        format!("GET {SERVICES}?&labelSelector=app.kubernetes.io%2Fname%3Dskein%2Capp.kubernetes.io%2Fcomponent%3Dgateway")
    );
    assert_eq!(asked[1].line, format!("POST {TASKS}?to=worker&wait=20&deadline=90"));
    assert_eq!((&asked[1].body[..], asked[1].content_type.as_str()), (&[1, 0, 254][..], "image/png"));
    assert_ne!(asked[1].key, "");
}

#[tokio::test]
async fn without_waiting_the_id_is_printed() {
    let cluster = cluster().await;
    cluster.says_json(TASKS, 202, &json!({"id": "t-1"}));
    let ran = cluster.skein(&["submit", "research", "--capability", "a b", "-d", "x"]).await;
    assert_eq!((ran.code, ran.text()), (0, "t-1\n"));
    assert_eq!(ran.notes, format!("skein: the task is stored; ask for its result: kubectl get --raw '{TASKS}/t-1/result?wait=60'\n"));
    assert_eq!(cluster.asked()[1].line, format!("POST {TASKS}?capability=a%20b"));
}

#[tokio::test]
async fn a_task_that_takes_longer_than_one_request_is_asked_for_again() {
    let cluster = cluster().await;
    cluster.says_json(TASKS, 202, &json!({"id": "t-1"}));
    cluster.refuses(TASKS, 503, "no endpoints available for service \"skein-gateway\"");
    cluster.says_json(TASKS, 202, &json!({"id": "t-1"}));
    cluster.says(TASKS, 200, &RESULT, "done");
    let ran = cluster.skein(&["submit", "research", "--to", "worker", "--wait=40", "-d", "x", "-o", "json"]).await;
    assert_eq!((ran.code, ran.notes.as_str()), (0, ""));
    assert_eq!(ran.json(), json!({"id": "t-1", "outcome": "completed", "contentType": "application/octet-stream", "result": "done"}));
    let asked = cluster.asked();
    assert_eq!(asked[1].line, format!("POST {TASKS}?to=worker&wait=30"));
    assert!(asked[2].line.starts_with(&format!("GET {TASKS}/t-1/result?wait=")), "{}", asked[2].line);
    assert_eq!(asked.len(), 5);
}

#[tokio::test]
async fn a_task_that_does_not_end_in_time_has_its_own_exit_code() {
    let cluster = cluster().await;
    for _ in 0..3 {
        cluster.says_json(TASKS, 202, &json!({"id": "t-1"}));
    }
    for _ in 0..50 {
        cluster.refuses(TASKS, 503, "away");
    }
    let ran = cluster.skein(&["submit", "research", "--to", "worker", "--wait=1", "-d", "x"]).await;
    assert_eq!((ran.code, ran.text()), (5, "t-1\n"));
    assert!(ran.notes.starts_with("skein: the task has not ended within 1 s; ask again: kubectl get --raw"), "{}", ran.notes);
}

#[tokio::test]
async fn a_submission_whose_answer_was_lost_is_sent_again_as_the_same_task() {
    let cluster = cluster().await;
    cluster.refuses(TASKS, 502, "error trying to reach service: EOF");
    cluster.says(TASKS, 503, &PROBLEM, problem("perhaps-stored", r#","id":"t-0""#));
    cluster.says(TASKS, 200, &RESULT, "done");
    let ran = cluster.skein(&["submit", "research", "--to", "worker", "--wait", "-d", "x"]).await;
    assert_eq!((ran.code, ran.text()), (0, "done"));
    let asked = cluster.asked();
    assert_eq!(asked.len(), 4);
    assert_eq!((&asked[1], &asked[1]), (&asked[2], &asked[3]), "the same key, the same body");
}

#[tokio::test]
async fn a_task_that_failed_is_told_apart_from_one_that_was_not_taken() {
    let submit = ["submit", "research", "--to", "worker", "--wait", "-d", "x"];
    for (status, kind, more, code) in [
        (502, "task-failed", r#","outcome":"failed","id":"t-1""#, 4),
        (504, "task-expired", r#","outcome":"expired""#, 4),
        (404, "unknown-pool", "", 1),
        (503, "no-ready-agent", "", 1),
    ] {
        let cluster = cluster().await;
        cluster.says(TASKS, status, &PROBLEM, problem(kind, more));
        let ran = cluster.skein(&submit).await;
        assert_eq!((ran.code, ran.text(), ran.notes.as_str()), (code, "", "skein: Title: what is wrong\n"), "{kind}");
        assert_eq!(cluster.asked().len(), 2, "{kind}");
    }
}

#[tokio::test]
async fn a_gateway_of_ones_own_needs_no_cluster() {
    let cluster = Cluster::new().await;
    let tasks = "/base/v1/namespaces/demo/topologies/research/tasks";
    cluster.says(tasks, 200, &[("content-type", "text/html")], "<a href=/>");
    std::fs::remove_file(cluster.kubeconfig()).unwrap();
    let gateway = format!("{}/base", cluster.address);
    let submit = ["submit", "research", "-n", "demo", "--to", "worker", "--wait", "--gateway", &gateway];
    let ran = cluster.skein_with(&submit, Some(b"typed")).await;
    assert_eq!((ran.code, ran.text(), ran.notes.as_str()), (0, "<a href=/>", ""));
    assert_eq!(&cluster.asked()[0].body[..], b"typed");

    for (gateway, sentence) in [
        ("gateway:80", "--gateway \"gateway:80\" is not an address like http://gateway.example:8080"),
        ("http://127.0.0.1:1", "the gateway at http://127.0.0.1:1 cannot be reached: Connection refused (os error 111)"),
    ] {
        let ran = cluster.skein(&["submit", "research", "--to", "w", "-d", "x", "--gateway", gateway]).await;
        assert_eq!((ran.code, ran.notes), (1, format!("skein: {sentence}\n")));
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_one_sentence() {
    let cluster = Cluster::new().await;
    let submit = ["submit", "research", "--to", "worker", "-d", "x"];
    cluster.lists(SERVICES, &json!([]));
    let ran = cluster.skein(&submit).await;
    assert_eq!(ran.code, 1);
    assert!(ran.notes.starts_with("skein: there is no gateway in the cluster"), "{}", ran.notes);

    cluster.refuses(SERVICES, 403, "you may not list services");
    let ran = cluster.skein(&submit).await;
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.notes,
        "skein: find the gateway: you may not list services; give the gateway's namespace with --gateway-namespace, or its address with --gateway or SKEIN_GATEWAY_URL\n"
    );

    let ran = cluster.skein(&["submit", "research", "--to", "worker", "-f", "/nowhere"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.notes.starts_with("skein: the input /nowhere cannot be read: "), "{}", ran.notes);
    assert_eq!(cluster.skein(&["submit", "research", "-d", "x"]).await.code, 2, "no target");
}

/// Whoever cancels must not be told that it worked when it did not.
#[tokio::test]
async fn a_task_is_cancelled_by_its_id() {
    let cluster = cluster().await;
    cluster.says(TASK, 204, &[], Vec::new());
    let ran = cluster.skein(&["cancel", "research", "t-1"]).await;
    assert_eq!((ran.code, ran.text(), ran.notes.as_str()), (0, "task t-1 is cancelled\n", ""));
    assert_eq!(cluster.asked()[1].line, format!("DELETE {TASK}"));

    let cluster = self::cluster().await;
    cluster.says(TASK, 409, &PROBLEM, problem("task-ended", r#","outcome":"completed""#));
    let ran = cluster.skein(&["cancel", "research", "t-1"]).await;
    assert_eq!((ran.code, ran.text(), ran.notes.as_str()), (1, "", "skein: Title: what is wrong\n"));
}
