//! Agents that are lost, hang, or never were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::http::StatusCode;
use futures::StreamExt as _;
use pretty_assertions::assert_eq;
use skein::bus::{Health, Heartbeat, Outcome, subjects};

use crate::support::agent::{Agent, Got};
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};
use crate::support::team::Team;
use crate::support::{free_port, until, within};

/// The process of an agent is killed in the middle of a task: another agent ends it, once, and soon.
#[tokio::test]
async fn a_task_whose_agent_is_killed_is_done_by_another() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let mut doomed = Agent::start(|_| std::future::pending::<&str>());
    let one = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(doomed.port))).await;
    let task = team.task("x");
    let waiting = team.results.expect(&team.name, &task.id);
    team.send("coder", &task).await;
    doomed.got_number(1).await;
    let agent = Agent::start(|_| async { "done" });
    let _other = Sidecar::start(&nats, &Options::new("coder", "coder-1", Some(agent.port))).await;

    let killed = Instant::now();
    doomed.kill();
    let result = within("the outcome", waiting).await;
    eprintln!("done elsewhere after {:?}", killed.elapsed());
    assert_eq!((result.outcome, result.from_agent.as_str()), (Outcome::Completed, "coder-1"));
    assert_eq!(agent.got().iter().map(Got::attempt).collect::<Vec<_>>(), [2]);
    team.nothing_left("coder").await;
    assert_eq!(team.outcomes(&task.id).await, 1);
    one.not_ready("any more").await;
    one.metric_is(r#"skein_sidecar_retries_total{reason="lost"}"#, 1.0).await;
}

/// The same with the whole pod: nobody is left to give the task back, so its lease has to run out.
#[tokio::test]
async fn a_task_whose_sidecar_is_killed_is_done_by_another() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let doomed = Agent::start(|_| std::future::pending::<&str>());
    let mut one = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(doomed.port))).await;
    let task = team.task("x");
    let waiting = team.results.expect(&team.name, &task.id);
    team.send("coder", &task).await;
    doomed.got_number(1).await;
    one.kill();
    let agent = Agent::start(|_| async { "done" });
    let _other = Sidecar::start(&nats, &Options::new("coder", "coder-1", Some(agent.port))).await;
    let result = within("the outcome", waiting).await;
    assert_eq!((result.outcome, result.from_agent.as_str()), (Outcome::Completed, "coder-1"));
    assert_eq!(team.outcomes(&task.id).await, 1);
}

#[tokio::test]
async fn an_agent_that_lets_go_of_its_connection_but_lives_gets_time_before_the_next_attempt() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    // What a handler that panics does to its connection.
    let agent = Agent::start(|got: Got| async move {
        assert!(got.attempt() > 1, "the first attempt breaks");
        "done"
    });
    let sidecar = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(agent.port))).await;
    let result = team.ask("coder", &team.task("x")).await;
    assert_eq!(result.outcome, Outcome::Completed);
    sidecar.metric_is(r#"skein_sidecar_retries_total{reason="connection"}"#, 1.0).await;
}

#[tokio::test]
async fn an_agent_on_another_port_is_missed_in_words() {
    let nats = Nats::start().await;
    let _team = Team::start(&nats, &["coder"], &[]).await;
    let port = free_port();
    let sidecar = Sidecar::spawn(&nats, &Options::new("coder", "coder-0", Some(port)));
    sidecar.not_ready(&format!("nothing answers on port {port}: does the agent listen there?")).await;
    assert_eq!(sidecar.admin("/livez").await.unwrap().status, StatusCode::OK);
    assert_eq!(sidecar.admin("/agent/livez").await.unwrap().status, StatusCode::OK, "it has a minute to begin");
    let _agent = Agent::start_on(port, |_| async { "done" });
    sidecar.ready().await;
}

/// An agent that hangs for good is restarted by the kubelet; the liveness probe has to say so, but not
/// while a task has time left.
#[tokio::test]
async fn an_agent_that_hangs_fails_its_liveness_probe_once_its_task_is_out_of_time() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let hangs = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&hangs);
    let agent = Agent::start_with_health(
        free_port(),
        |_| std::future::pending::<&str>(),
        move || {
            let hangs = asked.load(Ordering::Relaxed);
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                "ok"
            }
        },
    );
    let sidecar = Sidecar::start(&nats, &Options { timeout_seconds: 8, ..Options::new("coder", "coder-0", Some(agent.port)) }).await;
    team.send("coder", &team.task("x")).await;
    agent.got_number(1).await;
    hangs.store(true, Ordering::Relaxed);
    let began = Instant::now();
    while began.elapsed().as_secs() < 6 {
        assert_eq!(sidecar.admin("/agent/livez").await.unwrap().status, StatusCode::OK, "after {:?}", began.elapsed());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    until("the liveness probe of the agent fails", || async {
        let response = sidecar.admin("/agent/livez").await?;
        if response.status == StatusCode::SERVICE_UNAVAILABLE { Ok(()) } else { Err(response.text()) }
    })
    .await;
    assert_eq!(sidecar.admin("/livez").await.unwrap().status, StatusCode::OK, "the sidecar itself is well");
}

#[tokio::test]
async fn heartbeats_tell_what_changes_at_once() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let heartbeats = team.bus.client().subscribe(subjects::ALL_HEARTBEATS).await.unwrap();
    let mut heartbeats = heartbeats.map(|message| serde_json::from_slice::<Heartbeat>(&message.payload).unwrap());
    let mut agent = Agent::start(|_| std::future::pending::<&str>());
    let sidecar = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(agent.port))).await;
    let ready = within("a heartbeat that says ready", async {
        loop {
            let heartbeat = heartbeats.next().await.unwrap();
            if heartbeat.ready {
                return heartbeat;
            }
        }
    })
    .await;
    assert_eq!((ready.namespace.as_str(), ready.agent.as_str(), ready.pod_uid.as_str()), ("test", "coder-0", "uid"));
    assert_eq!((ready.topology.as_deref(), ready.health, ready.concurrency), (Some("team"), Health::Healthy, 1));
    team.send("coder", &team.task("x")).await;
    within("a heartbeat that says busy", async { while heartbeats.next().await.unwrap().busy != 1 {} }).await;
    agent.kill();
    let lost = within("a heartbeat that says unhealthy", async {
        loop {
            let heartbeat = heartbeats.next().await.unwrap();
            if heartbeat.health == Health::Unhealthy {
                return heartbeat;
            }
        }
    })
    .await;
    assert!(!lost.ready && lost.reason.as_ref().is_some_and(|reason| reason.contains("gone")), "{lost:?}");
    drop(sidecar);
}
