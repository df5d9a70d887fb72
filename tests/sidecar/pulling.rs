//! An agent that pulls its tasks.

use std::time::Duration;

use axum::http::StatusCode;
use pretty_assertions::assert_eq;
use skein::bus::Outcome;

use crate::support::http::Response;
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};
use crate::support::team::Team;
use crate::support::within;

async fn stage(timeout_seconds: u32) -> (Nats, Team, Sidecar) {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let sidecar = Sidecar::spawn(&nats, &Options { timeout_seconds, ..Options::new("coder", "coder-0", None) });
    sidecar.not_ready("has not asked for a task yet").await;
    (nats, team, sidecar)
}

async fn next(sidecar: &Sidecar) -> Response {
    let response = sidecar.get("/v1/tasks/next?wait=30").await;
    assert_eq!(response.status, StatusCode::OK, "{}", response.text());
    response
}

#[tokio::test]
async fn a_task_is_taken_and_completed() {
    let (_nats, team, sidecar) = stage(60).await;
    let nothing = sidecar.get("/v1/tasks/next").await;
    assert_eq!((nothing.status, nothing.body.len()), (StatusCode::NO_CONTENT, 0));
    sidecar.ready().await;

    let task = team.task("hello");
    let waiting = team.results.expect(&team.name, &task.id);
    team.send("coder", &task).await;
    let taken = next(&sidecar).await;
    assert_eq!((taken.text().as_str(), taken.header("content-type")), ("hello", "text/plain"));
    assert_eq!((taken.header("skein-task-id"), taken.header("skein-attempt")), (task.id.as_str(), "1"));
    assert_eq!(taken.header("skein-from"), "_gateway");
    assert!(!taken.header("traceparent").is_empty());
    let context = sidecar.get("/v1/context").await.json();
    assert_eq!(context["tasks"][0]["id"], task.id);

    let path = format!("/v1/tasks/{}/complete", task.id);
    let completed = sidecar.post(&path, &[("content-type", "text/x-answer")], "HELLO").await;
    assert_eq!(completed.status, StatusCode::NO_CONTENT);
    let result = within("the outcome", waiting).await;
    assert_eq!((result.outcome, &result.payload.body[..]), (Outcome::Completed, &b"HELLO"[..]));
    assert_eq!(result.payload.content_type.as_deref(), Some("text/x-answer"));
    team.nothing_left("coder").await;

    let again = sidecar.post(&path, &[], "HELLO").await;
    assert_eq!((again.status.as_u16(), again.problem().as_str()), (404, "unknown-lease"));
}

#[tokio::test]
async fn a_failure_is_for_good_or_for_another_attempt() {
    let (_nats, team, sidecar) = stage(60).await;
    let task = team.task("x");
    let waiting = team.results.expect(&team.name, &task.id);
    team.send("coder", &task).await;
    assert_eq!(next(&sidecar).await.header("skein-attempt"), "1");
    let path = format!("/v1/tasks/{}/fail", task.id);
    let unclear = sidecar.post(&path, &[], "why").await;
    assert_eq!((unclear.status.as_u16(), unclear.problem().as_str()), (400, "bad-request"));
    assert_eq!(sidecar.post(&format!("{path}?retryable=true"), &[], "try again").await.status, StatusCode::NO_CONTENT);
    assert_eq!(next(&sidecar).await.header("skein-attempt"), "2");
    assert_eq!(sidecar.post(&format!("{path}?retryable=false"), &[], "no use").await.status, StatusCode::NO_CONTENT);
    let result = within("the outcome", waiting).await;
    assert_eq!((result.outcome, result.reason.as_deref()), (Outcome::Failed, Some("no use")));
    sidecar.metric_is(r#"skein_sidecar_retries_total{reason="error"}"#, 1.0).await;
}

#[tokio::test]
async fn a_task_goes_back_when_its_time_runs_out_and_progress_gives_more() {
    let (_nats, team, sidecar) = stage(2).await;
    let task = team.task("x");
    let waiting = team.results.expect(&team.name, &task.id);
    team.send("coder", &task).await;
    assert_eq!(next(&sidecar).await.header("skein-attempt"), "1");
    sidecar.metric_is(r#"skein_sidecar_retries_total{reason="lease"}"#, 1.0).await;
    assert_eq!(next(&sidecar).await.header("skein-attempt"), "2");
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let progress = sidecar.post(&format!("/v1/tasks/{}/progress", task.id), &[], "").await;
        assert_eq!(progress.status, StatusCode::NO_CONTENT);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(sidecar.post(&format!("/v1/tasks/{}/complete", task.id), &[], "done").await.status, StatusCode::NO_CONTENT);
    assert_eq!(within("the outcome", waiting).await.outcome, Outcome::Completed);
    assert_eq!(team.outcomes(&task.id).await, 1);
}

/// An agent whose request breaks off must not take a task with it.
#[tokio::test]
async fn who_stops_waiting_takes_no_task() {
    let (_nats, team, sidecar) = stage(60).await;
    for _ in 0..5 {
        let asked = tokio::time::timeout(Duration::from_millis(200), sidecar.get("/v1/tasks/next?wait=30")).await;
        assert!(asked.is_err(), "there is no task yet");
    }
    let task = team.task("x");
    team.send("coder", &task).await;
    // Where a request broke off at this very moment, its task went back at once.
    let taken = tokio::time::timeout(Duration::from_secs(8), next(&sidecar)).await.unwrap();
    assert_eq!(taken.header("skein-task-id"), task.id);
}

#[tokio::test]
async fn an_agent_has_no_more_tasks_than_its_concurrency() {
    let (_nats, team, sidecar) = stage(60).await;
    let (one, other) = (team.task("1"), team.task("2"));
    team.send("coder", &one).await;
    team.send("coder", &other).await;
    let first = next(&sidecar).await;
    assert_eq!(sidecar.get("/v1/tasks/next?wait=1").await.status, StatusCode::NO_CONTENT);
    sidecar.post(&format!("/v1/tasks/{}/complete", first.header("skein-task-id")), &[], "").await;
    assert_eq!(next(&sidecar).await.header("skein-task-id"), other.id);
}
