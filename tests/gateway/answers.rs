//! What a caller learns of a task.

use http::Method;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::stage::{Gateway, Stage};
use crate::support::eventually;
use crate::support::http::{get, post, send};

#[tokio::test]
async fn the_result_comes_back_as_the_agent_gave_it() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let headers = [("content-type", "text/plain"), ("traceparent", trace)];
    let response = send(Method::POST, &gateway.url("?to=worker&wait=30"), &headers, &b"\x00\xff"[..]).await;
    assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"\x00\xff"[..]));
    assert_eq!(response.header("content-type"), "text/plain; by=worker");
    let id = response.header("skein-task-id");
    assert_eq!(response.header("skein-correlation-id"), id);

    let mut state = gateway.get(&format!("/{id}")).await.json();
    for time in ["created", "ended"] {
        let text = state[time].take();
        assert!(text.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{text}");
    }
    let parent = state["traceparent"].take();
    assert!(parent.as_str().unwrap().starts_with(&trace[..36]) && parent.as_str().unwrap().ends_with("-00"), "{parent}");
    assert_eq!(
        state,
        json!({
            "id": id, "correlationId": id, "outcome": "completed", "pool": "worker", "agent": "worker-0",
            "created": null, "ended": null, "traceparent": null,
            "input": {"contentType": "text/plain", "bytes": 2}, "result": {"contentType": "text/plain; by=worker", "bytes": 2},
        })
    );
}

#[tokio::test]
async fn who_does_not_wait_gets_the_id_and_asks_later() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    let accepted = gateway.post("?to=worker&deadline=600", "hold").await;
    assert_eq!(accepted.status, 202);
    let id = accepted.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/namespaces/demo/topologies/research/tasks/{id}");
    assert_eq!((accepted.header("location"), accepted.header("skein-task-id")), (path.as_str(), id.as_str()));

    let state = gateway.get(&format!("/{id}")).await.json();
    assert_eq!(state["outcome"], "pending");
    assert!(state["deadline"].is_string() && state.get("ended").is_none(), "{state}");
    for query in ["", "?wait=0", "?wait=1"] {
        let pending = gateway.get(&format!("/{id}/result{query}")).await;
        assert_eq!((pending.status.as_u16(), pending.json()), (202, json!({"id": id})), "{query}");
    }
    stage.released.send_replace(true);
    let result = gateway.get(&format!("/{id}/result?wait=30")).await;
    assert_eq!((result.status.as_u16(), &result.body[..]), (200, &b"hold"[..]));
}

#[tokio::test]
async fn a_wait_ends_with_the_id() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    let response = gateway.post("?to=worker&wait=1", "hold").await;
    assert_eq!(response.status, 202);
    assert!(response.json()["id"].is_string());
}

#[tokio::test]
async fn another_replica_answers_for_a_task() {
    let stage = Stage::new().await;
    let (one, other) = (stage.gateway("g-0").await, stage.gateway("g-1").await);
    let id = one.submit("hold").await;
    assert_eq!(other.get(&format!("/{id}")).await.json()["outcome"], "pending");
    let path = format!("/{id}/result?wait=30");
    let waiting = async {
        let result = other.get(&path).await;
        assert_eq!((result.status.as_u16(), &result.body[..]), (200, &b"hold"[..]));
    };
    let releasing = async {
        eventually("the other replica waits", || async {
            let metrics = String::from_utf8(other.admin("/metrics").await.body.to_vec()).unwrap();
            metrics.contains("\nskein_gateway_waiting 1\n").then_some(())
        })
        .await;
        stage.released.send_replace(true);
    };
    tokio::join!(waiting, releasing);
    assert_eq!(other.get(&format!("/{id}")).await.json()["outcome"], "completed");
}

#[tokio::test]
async fn a_task_without_a_result_is_a_problem_that_says_why() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    for (word, status, kind, outcome) in
        [("fail", 502, "task-failed", "failed"), ("die", 502, "task-dead", "dead"), ("expire", 504, "task-expired", "expired")]
    {
        let response = gateway.post("?to=worker&wait=30", word).await;
        assert_eq!((response.status.as_u16(), response.problem().as_str()), (status, kind));
        let problem = response.json();
        assert_eq!(problem["outcome"], outcome);
        assert_eq!(problem["reason"], problem["detail"]);
        assert_eq!(problem["agent"], "worker-0");
        let id = problem["id"].as_str().unwrap();
        assert_eq!(response.header("skein-task-id"), id);
        let later = gateway.get(&format!("/{id}/result")).await;
        assert_eq!((later.status.as_u16(), later.problem().as_str()), (status, kind));
        assert_eq!(gateway.get(&format!("/{id}")).await.json()["reason"], problem["reason"]);
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_served_is_told_why() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    let never = "019ac0de-0000-7000-8000-000000000000";
    for (query, status, kind, detail) in [
        ("?to=ghost", 404, "unknown-pool", "its pools are worker, other, asleep, empty"),
        ("?capability=fly", 404, "unknown-capability", "its pools can do echo, paint, sleep"),
        ("?to=asleep", 409, "pool-suspended", "set spec.operatingMode to Running"),
        ("?capability=sleep", 409, "pool-suspended", "asleep"),
        ("", 400, "bad-request", "to=<pool>"),
        ("?to=worker&wait=301", 400, "bad-request", "from 0 to 300"),
        ("?to=worker&deadline=0", 400, "bad-request", "from 1 to 604800"),
        ("?to=worker&retries=1", 400, "bad-request", "no parameter \"retries\""),
    ] {
        let response = gateway.post(query, "x").await;
        assert_eq!((response.status.as_u16(), response.problem().as_str()), (status, kind), "{query}");
        let said = response.json()["detail"].as_str().unwrap().to_owned();
        assert!(said.contains(detail), "{query}: {said}");
    }
    for (path, status, kind) in [
        ("/nonsense".to_owned(), 400, "bad-request"),
        ("/67e55044-10b1-426f-9247-bb680e5fe0c8/result".to_owned(), 400, "bad-request"),
        (format!("/{never}"), 404, "unknown-task"),
        (format!("/{never}/result?wait=5"), 404, "unknown-task"),
        (format!("/{never}/result?wait=x"), 400, "bad-request"),
        (format!("/{never}?verbose=1"), 400, "bad-request"),
        (format!("/{never}/result/more"), 404, "no-such-path"),
        (String::new(), 405, "no-such-method"),
    ] {
        let response = gateway.get(&path).await;
        assert_eq!((response.status.as_u16(), response.problem().as_str()), (status, kind), "{path}");
    }
    let address = gateway.running.address;
    for path in ["demo/topologies/ghost", "ghost/topologies/research", "a.%3E/topologies/*", "%20/topologies/%3E"] {
        let url = format!("http://{address}/v1/namespaces/{path}/tasks");
        assert_eq!(post(&format!("{url}?to=worker"), "x").await.problem(), "unknown-topology", "{path}");
        assert_eq!(get(&format!("{url}/{never}")).await.problem(), "unknown-topology", "{path}");
    }
    assert_eq!(get(&format!("http://{address}/v1/namespaces/%ff/topologies/t/tasks/{never}")).await.problem(), "bad-request");
    assert_eq!(stage.stored().await, 0, "nothing of this may be stored");
}

#[tokio::test]
async fn a_capability_finds_a_pool_that_has_it() {
    let stage = Stage::new().await;
    let gateway = stage.gateway("g-0").await;
    let response = send(Method::POST, &gateway.url("?capability=paint&wait=30"), &[("content-type", "a/b")], "x").await;
    assert_eq!((response.status.as_u16(), response.header("content-type")), (200, "a/b; by=other"));
}

/// A caller that lost its connection and sends again must not have the task done twice.
#[tokio::test]
async fn the_same_key_is_the_same_task() {
    let stage = Stage::new().await;
    let (one, other) = (stage.gateway("g-0").await, stage.gateway("g-1").await);
    let keyed = async |url: String, body: &'static str| send(Method::POST, &url, &[("idempotency-key", "k 1")], body).await;
    let first = keyed(one.url("?to=worker"), "question").await;
    assert_eq!(first.status, 202);
    let id = first.json()["id"].clone();
    assert_eq!(keyed(one.url("?to=worker"), "question").await.json()["id"], id);
    let again = keyed(other.url("?to=worker&wait=30"), "question").await;
    assert_eq!((again.status.as_u16(), &again.body[..], again.header("skein-task-id")), (200, &b"question"[..], id.as_str().unwrap()));
    let otherwise = keyed(other.url("?to=worker"), "another").await;
    assert_eq!((otherwise.status.as_u16(), otherwise.problem().as_str()), (422, "key-reused"));
    assert_eq!(otherwise.json()["id"], id);
    assert_eq!(keyed(one.url("?to=other"), "question").await.problem(), "key-reused");
    assert_eq!(stage.stored().await, 2, "one task and one outcome");
}

/// A task that nobody wants must end at whichever replica is asked, and whoever waits for it must hear of it.
#[tokio::test]
async fn any_replica_cancels_a_task() {
    let stage = Stage::new().await;
    let (one, other) = (stage.gateway("g-0").await, stage.gateway("g-1").await);
    let id = one.submit("never").await;
    let delete = async |gateway: &Gateway, path: &str| send(Method::DELETE, &gateway.url(path), &[], "").await;
    let (path, result) = (format!("/{id}"), format!("/{id}/result?wait=30"));
    let (ended, cancelled) = tokio::join!(one.get(&result), delete(&other, &path));
    assert_eq!((cancelled.status.as_u16(), cancelled.body.len()), (204, 0));
    assert_eq!((ended.status.as_u16(), ended.problem().as_str()), (410, "task-cancelled"));
    assert_eq!(ended.json()["reason"], "it was cancelled through the gateway");
    assert_eq!(one.get(&path).await.json()["outcome"], "cancelled");
    assert_eq!(delete(&one, &path).await.status, 204, "again is no mistake");

    let done = one.submit("x").await;
    assert_eq!(one.get(&format!("/{done}/result?wait=30")).await.status, 200);
    let late = delete(&one, &format!("/{done}")).await;
    assert_eq!((late.status.as_u16(), late.problem().as_str(), &late.json()["outcome"]), (409, "task-ended", &json!("completed")));
    for (path, status, kind) in [
        ("/what".to_owned(), 400, "bad-request"),
        (format!("/{}", skein::bus::ids::fresh()), 404, "unknown-task"),
        (format!("{path}?now=1"), 400, "bad-request"),
    ] {
        let refused = delete(&one, &path).await;
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (status, kind), "{path}");
    }
}
