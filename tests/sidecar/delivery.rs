//! What becomes of a task that is pushed to an agent.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use pretty_assertions::assert_eq;
use skein::bus::Outcome;

use crate::support::agent::{Agent, Got};
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};
use crate::support::team::Team;

fn options(agent: &Agent) -> Options {
    Options::new("coder", "coder-0", Some(agent.port))
}

#[tokio::test]
async fn a_task_is_done_and_its_result_comes_back() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let agent = Agent::start(|got: Got| async move { ([("content-type", "text/x-answer")], got.body.to_ascii_uppercase()) });
    let sidecar = Sidecar::start(&nats, &options(&agent)).await;
    let mut task = team.task("hello");
    task.trace.parent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    task.deadline = Some(task.created + 60_000);

    let result = team.ask("coder", &task).await;
    assert_eq!((result.outcome, result.reason), (Outcome::Completed, None));
    assert_eq!((&result.payload.body[..], result.payload.content_type.as_deref()), (&b"HELLO"[..], Some("text/x-answer")));
    assert_eq!((result.from_pool.as_str(), result.from_agent.as_str()), ("coder", "coder-0"));

    let got = &agent.got()[0];
    assert_eq!(got.id(), task.id);
    assert_eq!(got.header("skein-correlation-id"), Some(task.correlation_id.as_str()));
    assert_eq!((got.header("skein-from"), got.attempt(), got.header("content-type")), (Some("_gateway"), 1, Some("text/plain")));
    assert!(got.header("skein-deadline").unwrap().ends_with('Z'), "{got:?}");
    let trace = got.header("traceparent").unwrap();
    assert!(trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && !trace.contains("00f067aa0ba902b7"), "{trace}");

    team.nothing_left("coder").await;
    sidecar.metric_is(r#"skein_sidecar_tasks_total{outcome="completed"}"#, 1.0).await;
}

#[tokio::test]
async fn what_the_agent_refuses_fails_at_once_with_what_it_said() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let agent = Agent::start(|_| async { (StatusCode::UNPROCESSABLE_ENTITY, "there is no such file") });
    let _sidecar = Sidecar::start(&nats, &options(&agent)).await;
    let result = team.ask("coder", &team.task("x")).await;
    assert_eq!(result.outcome, Outcome::Failed);
    assert_eq!(result.reason.as_deref(), Some("the agent answered 422: there is no such file"));
    assert_eq!(agent.got().len(), 1);
}

#[tokio::test]
async fn what_no_agent_can_do_is_dead_after_as_many_deliveries_as_the_pool_allows() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let agent = Agent::start(|_| async { StatusCode::INTERNAL_SERVER_ERROR });
    let sidecar = Sidecar::start(&nats, &options(&agent)).await;
    let task = team.task("x");
    let result = team.ask("coder", &task).await;
    assert_eq!(result.outcome, Outcome::Dead);
    assert_eq!(
        result.reason.as_deref(),
        Some("it was given to agents 3 times, which is all that the pool allows; the last attempt: the agent answered 500")
    );
    assert_eq!(agent.got().iter().map(Got::attempt).collect::<Vec<_>>(), [1, 2, 3]);
    team.nothing_left("coder").await;
    assert_eq!((team.outcomes(&task.id).await, team.dead(&task.id).await), (1, 1));
    team.nothing_left("coder").await;
    sidecar.metric_is(r#"skein_sidecar_retries_total{reason="error"}"#, 2.0).await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_given_up_and_tried_again() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let agent = Agent::start(|got: Got| async move {
        if got.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        "done"
    });
    let sidecar = Sidecar::start(&nats, &Options { timeout_seconds: 1, ..options(&agent) }).await;
    let result = team.ask("coder", &team.task("x")).await;
    assert_eq!(result.outcome, Outcome::Completed);
    assert_eq!(agent.got().len(), 2);
    sidecar.metric_is(r#"skein_sidecar_retries_total{reason="timeout"}"#, 1.0).await;
}

/// A regression here loses deliveries to an agent that only asks for patience.
#[tokio::test]
async fn an_overloaded_agent_is_asked_again_without_using_up_a_delivery() {
    let nats = Nats::start().await;
    let mut team = Team::start(&nats, &["coder"], &[]).await;
    team.pool("coder").max_deliveries = 1;
    team.write_programs().await;
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let agent = Agent::start(move |_| {
        let asked = std::sync::Arc::clone(&asked);
        async move {
            match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0..3 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "busy").into_response(),
                _ => "done".into_response(),
            }
        }
    });
    let sidecar = Sidecar::start(&nats, &options(&agent)).await;
    let result = team.ask("coder", &team.task("x")).await;
    assert_eq!(result.outcome, Outcome::Completed, "{result:?}");
    assert_eq!(agent.got().iter().map(Got::attempt).collect::<Vec<_>>(), [1, 1, 1, 1]);
    sidecar.metric_is("skein_sidecar_overloads_total", 3.0).await;
}

#[tokio::test]
async fn what_comes_too_late_expires_without_the_agent() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let agent = Agent::start(|_| async { "done" });
    let _sidecar = Sidecar::start(&nats, &options(&agent)).await;
    let mut task = team.task("x");
    task.deadline = Some(task.created - 1);
    let result = team.ask("coder", &task).await;
    assert_eq!(result.outcome, Outcome::Expired);
    assert!(result.reason.unwrap().contains("deadline"));
    assert_eq!(agent.got().len(), 0);
}

#[tokio::test]
async fn a_sender_without_an_edge_is_turned_away_by_the_receiver_too() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder", "tester"], &[]).await;
    let agent = Agent::start(|_| async { "done" });
    let sidecar = Sidecar::start(&nats, &options(&agent)).await;
    let mut task = team.task("x");
    task.from_pool = "tester".to_owned();
    task.from_agent = "tester-0".to_owned();
    let results = skein::bus::nats::Results::start(&team.bus, "tester", "tester-0");
    let waiting = results.expect(&team.name, &task.id);
    team.send("coder", &task).await;
    let result = crate::support::within("the refusal", waiting).await;
    assert_eq!(result.outcome, Outcome::Failed);
    assert_eq!(result.reason.as_deref(), Some(r#"pool "tester" may not send to pool "coder": the topology has no such edge"#));
    assert_eq!(agent.got().len(), 0);
    sidecar.metric_is("skein_sidecar_refused_senders_total", 1.0).await;
}

#[tokio::test]
async fn a_task_that_is_sent_twice_is_done_once() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let agent = Agent::start(|_| async { "done" });
    let _sidecar = Sidecar::start(&nats, &options(&agent)).await;
    let task = team.task("x");
    team.send("coder", &task).await;
    assert!(team.bus.publish_task(&team.name, "coder", &task).await.unwrap().duplicate);
    team.ask("coder", &team.task("another")).await;
    assert_eq!(agent.got().iter().filter(|got| got.id() == task.id).count(), 1);
    assert_eq!(team.outcomes(&task.id).await, 1);
}

/// After an outcome was stored and its acknowledgement lost, the task is delivered again: the agent must
/// not do it a second time.
#[tokio::test]
async fn a_task_that_is_delivered_again_after_its_end_is_not_done_again() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let task = team.task("x");
    team.send("coder", &task).await;
    // Another sidecar takes the task, publishes its outcome, and dies before it acknowledges.
    let mut puller = skein::bus::nats::Puller::new(&team.bus, &team.name, "coder").await.unwrap();
    let delivery = puller.next(Duration::from_secs(10)).await.unwrap().unwrap();
    let result = skein::bus::TaskResult {
        task_id: task.id.clone(),
        correlation_id: task.correlation_id.clone(),
        from_pool: "coder".to_owned(),
        from_agent: "coder-9".to_owned(),
        created: task.created,
        outcome: Outcome::Completed,
        reason: None,
        trace: task.trace.clone(),
        payload: task.payload.clone(),
    };
    team.bus.publish_result(&team.name, &task.from_pool, &task.from_agent, &result).await.unwrap();
    delivery.receipt.nak(None).await.unwrap();

    let agent = Agent::start(|_| async { "done" });
    let sidecar = Sidecar::start(&nats, &options(&agent)).await;
    sidecar.metric_is("skein_sidecar_already_ended_total", 1.0).await;
    team.nothing_left("coder").await;
    assert_eq!(agent.got().len(), 0);
}
