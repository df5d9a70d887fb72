//! What an agent may send, and how it learns of the outcome.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use pretty_assertions::assert_eq;
use serde_json::json;
use skein::bus::Outcome;

use crate::support::agent::{Agent, Got};
use crate::support::http;
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};
use crate::support::team::Team;
use crate::support::until;

async fn well(_: Got) -> &'static str {
    "done"
}

/// A planner that may send to two coders and a tester, each with an agent that says who it is.
struct Stage {
    nats: Nats,
    _team: Team,
    planner: Sidecar,
    _agents: Vec<(Agent, Sidecar)>,
}

async fn stage() -> Stage {
    let nats = Nats::start().await;
    let mut team = Team::start(
        &nats,
        &["planner", "coder", "painter", "tester"],
        &[("planner", "coder"), ("planner", "painter"), ("planner", "tester")],
    )
    .await;
    for pool in ["coder", "painter"] {
        team.pool(pool).capabilities = vec!["make".to_owned()];
    }
    team.pool("tester").suspended = true;
    team.write_programs().await;
    let mut agents = Vec::new();
    for (pool, agent) in [("coder", "coder-0"), ("painter", "painter-0")] {
        let script = Agent::start(move |got: Got| async move {
            match &got.body[..] {
                b"refuse" => (StatusCode::BAD_REQUEST, "I do not like it").into_response(),
                _ => [pool.as_bytes(), b" did ", &got.body].concat().into_response(),
            }
        });
        let sidecar = Sidecar::start(&nats, &Options::new(pool, agent, Some(script.port))).await;
        agents.push((script, sidecar));
    }
    let agent = Agent::start(well);
    let planner = Sidecar::start(&nats, &Options::new("planner", "planner-0", Some(agent.port))).await;
    agents.push((agent, Sidecar::spawn(&nats, &Options::new("nowhere", "nowhere-0", None))));
    Stage { nats, _team: team, planner, _agents: agents }
}

#[tokio::test]
async fn a_task_goes_where_an_edge_leads_and_its_result_comes_back_raw() {
    let stage = stage().await;
    let response = stage.planner.post("/v1/tasks?to=coder&wait=30", &[("content-type", "text/plain")], "it").await;
    assert_eq!((response.status, response.text().as_str()), (StatusCode::OK, "coder did it"));
    assert_eq!(response.header("skein-from"), "coder");

    let response = stage.planner.post("/v1/tasks?to=coder&wait=30", &[], "refuse").await;
    assert_eq!((response.status.as_u16(), response.problem().as_str()), (422, "task-failed"));
    assert_eq!(response.json()["detail"], "the agent answered 400: I do not like it");
    stage.planner.metric_is(r#"skein_sidecar_sends_total{result="accepted"}"#, 2.0).await;
}

#[tokio::test]
async fn what_is_not_waited_for_can_be_asked_for_later() {
    let stage = stage().await;
    let response = stage.planner.post("/v1/tasks?to=coder", &[], "it").await;
    assert_eq!(response.status, StatusCode::ACCEPTED);
    let id = response.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(response.header("location"), format!("/v1/tasks/{id}"));
    let response = stage.planner.get(&format!("/v1/tasks/{id}/result?wait=30")).await;
    assert_eq!((response.status, response.text().as_str()), (StatusCode::OK, "coder did it"));
    let response = stage.planner.get(&format!("/v1/tasks/{id}")).await;
    let said = response.json();
    assert_eq!((&said["state"], &said["pool"], &said["agent"]), (&json!("completed"), &json!("coder"), &json!("coder-0")));

    for id in [skein::bus::ids::fresh().as_str(), "what"] {
        for path in [format!("/v1/tasks/{id}"), format!("/v1/tasks/{id}/result")] {
            let response = stage.planner.get(&path).await;
            assert_eq!((response.status.as_u16(), response.problem().as_str()), (404, "unknown-task"), "{path}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_with_what_would_be_right() {
    let stage = stage().await;
    let planner = &stage.planner;
    let no_route = planner.post("/v1/tasks?to=mallory", &[], "it").await;
    assert_eq!((no_route.status.as_u16(), no_route.problem().as_str()), (403, "no-route"));
    assert_eq!(no_route.json()["pools"], json!(["coder", "painter", "tester"]));
    let unknown = planner.post("/v1/tasks?capability=sing", &[], "it").await;
    assert_eq!((unknown.status.as_u16(), unknown.problem().as_str()), (404, "unknown-capability"));
    assert_eq!(unknown.json()["capabilities"], json!(["make"]));
    let suspended = planner.post("/v1/tasks?to=tester", &[], "it").await;
    assert_eq!((suspended.status.as_u16(), suspended.problem().as_str()), (409, "pool-suspended"));

    let large = planner.post("/v1/tasks?to=coder", &[], vec![b'x'; 20 << 20]).await;
    assert_eq!((large.status.as_u16(), large.problem().as_str()), (413, "too-large"));
    assert_eq!(large.json()["limitBytes"], (1 << 20) - (16 << 10));

    for (path, word) in [
        ("/v1/tasks", "?to="),
        ("/v1/tasks?to=coder&capability=make", "?to="),
        ("/v1/tasks?to=coder&wait=long", "wait"),
        ("/v1/tasks?to=coder&wait=99999", "3600"),
        ("/v1/tasks?to=coder&weight=1", "weight"),
    ] {
        let response = planner.post(path, &[], "it").await;
        assert_eq!((response.status.as_u16(), response.problem().as_str()), (400, "bad-request"), "{path}");
        assert!(response.json()["detail"].as_str().unwrap().contains(word), "{path}: {}", response.text());
    }
    let stray = planner.post("/v1/tasks?to=coder", &[("Skein-Task-Id", "not-mine")], "it").await;
    assert_eq!(stray.status, StatusCode::BAD_REQUEST);
    let nothing = planner.get("/v2").await;
    assert_eq!((nothing.status.as_u16(), nothing.problem().as_str()), (404, "no-such-path"));
    let method = planner.get("/v1/tasks").await;
    assert_eq!((method.status.as_u16(), method.problem().as_str()), (405, "no-such-method"));
    assert_eq!(planner.get("/v1/tasks/next").await.problem(), "tasks-are-pushed");
}

#[tokio::test]
async fn pools_with_one_capability_take_turns() {
    let stage = stage().await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(stage.planner.post("/v1/tasks?capability=make&wait=30", &[], "it").await.text());
    }
    answers.sort();
    assert_eq!(answers, ["coder did it", "coder did it", "painter did it", "painter did it"]);
    let peers = stage.planner.get("/v1/peers").await.json();
    assert_eq!(peers["capabilities"], json!({"make": ["coder", "painter"]}));
    let context = stage.planner.get("/v1/context").await.json();
    assert_eq!((&context["agent"], &context["topology"], &context["ready"]), (&json!("planner-0"), &json!("team"), &json!(true)));
}

/// A hang of five seconds here would stop every agent that sends while the broker restarts.
#[tokio::test]
async fn while_the_bus_is_away_sending_fails_at_once_and_works_again_afterwards() {
    let mut stage = stage().await;
    stage.nats.kill().await;
    stage.planner.not_ready("bus").await;
    let began = Instant::now();
    let response = stage.planner.post("/v1/tasks?to=coder&wait=30", &[], "it").await;
    assert_eq!((response.status.as_u16(), response.problem().as_str()), (503, "bus-unavailable"));
    assert_eq!(response.header("retry-after"), "1");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    stage.nats.restart().await;
    stage.planner.ready().await;
    until("a task is sent again", || async {
        let response = stage.planner.post("/v1/tasks?to=coder&wait=30", &[], "it").await;
        if response.status == StatusCode::OK { Ok(()) } else { Err(response.text()) }
    })
    .await;
    stage.planner.metric_is("skein_sidecar_bus_reconnects_total", 1.0).await;
}

/// A chain of three agents: what the outside said of its task reaches the last of them.
#[tokio::test]
async fn correlation_deadline_and_trace_go_with_every_task_that_a_task_brings_about() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["planner", "coder"], &[("planner", "coder")]).await;
    let coder = Agent::start(well);
    let _coder = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(coder.port))).await;
    let api: Arc<OnceLock<String>> = Arc::default();
    let known = Arc::clone(&api);
    let planner = Agent::start(move |got: Got| {
        let url = format!("{}/v1/tasks?to=coder&wait=30&deadline=3000", known.get().unwrap());
        async move { relay(&url, &got).await }
    });
    let sidecar = Sidecar::start(&nats, &Options::new("planner", "planner-0", Some(planner.port))).await;
    api.set(sidecar.api.clone()).unwrap();

    let mut task = team.task("x");
    task.deadline = Some(task.created + 60_000);
    task.trace.parent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let result = team.ask("planner", &task).await;
    assert_eq!(result.outcome, Outcome::Completed, "{result:?}");

    let (first, second) = (&planner.got()[0], &coder.got()[0]);
    assert_eq!(second.header("skein-correlation-id"), Some(task.id.as_str()));
    assert!(second.header("skein-deadline") < first.header("skein-deadline"), "a child ends before its parent");
    assert_ne!(second.id(), first.id());
    let spans: Vec<&str> = [first, second].iter().map(|got| got.header("traceparent").unwrap()).collect();
    assert!(spans.iter().all(|span| span.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")), "{spans:?}");
    assert_ne!(spans[0], spans[1]);
}

async fn relay(url: &str, got: &Got) -> Response {
    let response = http::send(axum::http::Method::POST, url, &[("Skein-Task-Id", got.id())], got.body.clone()).await;
    (response.status, response.body).into_response()
}

/// An agent that is given a task again, here or elsewhere, sends its subtasks again: they must not be
/// done again, and their results must reach it.
#[tokio::test]
async fn with_an_idempotency_key_sending_twice_sends_once() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["planner", "coder"], &[("planner", "coder")]).await;
    let coder = Agent::start(well);
    let _coder = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(coder.port))).await;
    let agent = Agent::start(well);
    let one = Sidecar::start(&nats, &Options::new("planner", "planner-0", Some(agent.port))).await;
    let other = Sidecar::start(&nats, &Options::new("planner", "planner-1", Some(agent.port))).await;
    let key = [("Idempotency-Key", "step-1")];
    let first = one.post("/v1/tasks?to=coder&wait=30", &key, "x").await;
    assert_eq!((first.status, first.text().as_str()), (StatusCode::OK, "done"));
    let second = other.post("/v1/tasks?to=coder&wait=30", &key, "x").await;
    assert_eq!((second.status, second.text().as_str()), (StatusCode::OK, "done"));
    assert_eq!(first.header("skein-task-id"), second.header("skein-task-id"));
    other.metric_is(r#"skein_sidecar_sends_total{result="duplicate"}"#, 1.0).await;
    assert_eq!(coder.got().len(), 1);
    drop(team);
}

#[tokio::test]
async fn who_stops_waiting_for_a_result_is_no_longer_counted() {
    let nats = Nats::start().await;
    let _team = Team::start(&nats, &["planner", "coder"], &[("planner", "coder")]).await;
    let agent = Agent::start(well);
    let planner = Sidecar::start(&nats, &Options::new("planner", "planner-0", Some(agent.port))).await;
    // There is no coder.
    let asked = planner.post("/v1/tasks?to=coder&wait=30", &[], "x");
    tokio::select! {
        response = asked => panic!("{response:?}"),
        () = planner.metric_is("skein_sidecar_results_waiting", 1.0) => {}
    }
    planner.metric_is("skein_sidecar_results_waiting", 0.0).await;
}

#[tokio::test]
async fn without_a_topology_nothing_is_sent_and_the_sidecar_says_so() {
    let nats = Nats::start().await;
    let agent = Agent::start(well);
    let sidecar = Sidecar::spawn(&nats, &Options::new("coder", "coder-0", Some(agent.port)));
    sidecar.not_ready("no topology").await;
    let response = sidecar.post("/v1/tasks?to=x", &[], "it").await;
    assert_eq!((response.status.as_u16(), response.problem().as_str()), (503, "no-topology"));
    // It needs no restart when the team comes later.
    let _team = Team::start(&nats, &["coder"], &[]).await;
    sidecar.ready().await;
}
