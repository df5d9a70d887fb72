//! The whole way: the command line, the gateway, the journal, a sidecar, an agent, and back.

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use http::Method;
use pretty_assertions::assert_eq;
use skein::topology::{Hearing, Route, TeamProgram};
use tokio::process::Command;

use crate::stage::Gateway;
use crate::support::agent::{Agent, Got};
use crate::support::http::send;
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};
use crate::support::team::Team;

async fn act(got: Got) -> axum::response::Response {
    match &got.body[..] {
        b"refuse" => (StatusCode::BAD_REQUEST, "I do not do that").into_response(),
        _ => ([("content-type", "text/x-loud")], got.body.to_ascii_uppercase()).into_response(),
    }
}

#[tokio::test]
async fn a_task_goes_all_the_way_and_its_result_comes_all_the_way_back() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["worker"], &[]).await;
    let route = Route { pool: "worker".to_owned(), relation: None, capabilities: vec![], suspended: false, hearing: Hearing::default() };
    let program = TeamProgram { revision: "1".to_owned(), routes: vec![route] };
    team.bus.put_program(&team.name.program_key(), serde_json::to_vec(&program).unwrap().into()).await.unwrap();
    let agent = Agent::start(act);
    let sidecar = Sidecar::start(&nats, &Options::new("worker", "worker-0", Some(agent.port))).await;
    let gateway = Gateway::start(&nats.url(), &team.name, "g-0", |_| {}).await;
    gateway.is_ready().await;

    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("content-type", "text/plain"), ("traceparent", trace)];
    let response = send(Method::POST, &gateway.url("?to=worker&wait=30&deadline=60"), &headers, "hello").await;
    assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"HELLO"[..]));
    assert_eq!(response.header("content-type"), "text/x-loud");
    let got = &agent.got()[0];
    assert_eq!(got.header("content-type"), Some("text/plain"));
    assert_eq!(got.id(), response.header("skein-task-id"));
    assert_eq!(got.header("skein-from"), Some("_gateway"));
    assert!(got.header("skein-deadline").is_some());
    let parent = got.header("traceparent").unwrap();
    assert!(parent.starts_with(&trace[..36]) && parent != trace, "{parent}");

    let refused = gateway.post("?to=worker&wait=30", "refuse").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (502, "task-failed"));
    assert!(refused.json()["reason"].as_str().unwrap().contains("I do not do that"), "{}", refused.json());

    let submitted = Command::new(env!("CARGO_BIN_EXE_skein"))
        .args(["submit", "team", "-n", "test", "--to", "worker", "--wait", "-d", "from the shell", "--gateway"])
        .arg(format!("http://{}", gateway.running.address))
        .output()
        .await
        .unwrap();
    assert_eq!((submitted.status.code(), submitted.stdout.as_slice()), (Some(0), &b"FROM THE SHELL"[..]));
    drop(sidecar);
}
