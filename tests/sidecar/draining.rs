//! Ending and restarting without losing a task.

use std::time::Duration;

use axum::http::StatusCode;
use futures::StreamExt as _;
use pretty_assertions::assert_eq;
use skein::bus::{Heartbeat, Outcome, subjects};

use crate::AtWork;
use crate::support::agent::Agent;
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};
use crate::support::team::Team;
use crate::support::within;

#[tokio::test]
async fn a_drain_ends_with_the_task_in_hand_and_leaves_the_others_to_other_agents() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let (mut agent, go) = Agent::held();
    let one = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(agent.port))).await;
    let tasks: Vec<_> = (0..5).map(|number| team.task(&number.to_string())).collect();
    let waiting: Vec<_> = tasks.iter().map(|task| team.results.expect(&team.name, &task.id)).collect();
    for task in &tasks {
        team.send("coder", task).await;
    }
    agent.got_number(1).await;

    let drained = one.admin("/agent/drain?key=pool-uid");
    tokio::pin!(drained);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut drained).await;
    assert!(early.is_err(), "a task is in hand");
    one.not_ready("told to end").await;
    go.add_permits(10);
    let drained = within("the drain", drained).await.unwrap();
    assert_eq!((drained.status, drained.text().as_str()), (StatusCode::OK, "drained\n"));
    let other = Agent::start(|_| async { "done elsewhere" });
    let _two = Sidecar::start(&nats, &Options::new("coder", "coder-1", Some(other.port))).await;
    for waiting in waiting {
        assert_eq!(within("an outcome", waiting).await.outcome, Outcome::Completed);
    }
    assert_eq!((agent.got().len(), other.got().len()), (1, 4));
    assert!(other.got().iter().all(|got| got.attempt() == 1), "no delivery was used up");

    // The kubelet drains too before it restarts the container alone. Then the agent takes tasks again.
    let port = agent.port;
    agent.kill();
    one.metric_is(r#"skein_sidecar_agent_health{health="unhealthy"}"#, 1.0).await;
    one.not_ready("told to end").await;
    let agent = Agent::start_on(port, |_| async { "done" });
    one.ready().await;
    drop(agent);
}

/// The kubelet asks for both at once when a pod ends. A task that such an agent is given is lost with it.
#[tokio::test]
async fn an_agent_whose_pod_ends_finishes_its_task_and_gets_no_other_even_when_it_stays() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let AtWork { mut agent, go, sidecar, waiting, .. } = AtWork::start(&nats, &team).await;
    let ended = sidecar.admin("/pod/end?key=pool-uid").await.unwrap();
    assert_eq!((ended.status, ended.text().as_str()), (StatusCode::OK, "no task is taken any more\n"));
    sidecar.not_ready("told to end").await;
    let drained = sidecar.admin("/agent/drain?key=pool-uid");
    go.add_permits(1);
    assert_eq!(within("the drain", drained).await.unwrap().status, StatusCode::OK);
    assert_eq!(within("the outcome", waiting).await.outcome, Outcome::Completed);

    let port = agent.port;
    agent.kill();
    sidecar.metric_is(r#"skein_sidecar_agent_health{health="unhealthy"}"#, 1.0).await;
    let _agent = Agent::start_on(port, |_| async { "done" });
    sidecar.metric_is(r#"skein_sidecar_agent_health{health="healthy"}"#, 1.0).await;
    sidecar.not_ready("told to end").await;
}

/// Whoever reaches the port of the probes could end the work of every agent otherwise.
#[tokio::test]
async fn without_the_key_of_the_hooks_nobody_ends_an_agents_work() {
    let nats = Nats::start().await;
    let _team = Team::start(&nats, &["coder"], &[]).await;
    let agent = Agent::start(|_| async { "done" });
    let sidecar = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(agent.port))).await;
    for path in ["/agent/drain", "/agent/drain?key=", "/agent/drain?key=pool", "/agent/drain?pool-uid", "/pod/end", "/pod/end?key=uid"] {
        let refused = sidecar.admin(path).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (403, "wrong-key"), "{path}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("?key= is missing or is not the one"), "{path}");
        sidecar.ready().await;
    }
}

#[tokio::test]
async fn on_sigterm_the_task_in_hand_is_finished_and_the_process_ends_well() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let heartbeats = team.bus.client().subscribe(subjects::ALL_HEARTBEATS).await.unwrap();
    let AtWork { agent: _agent, go, mut sidecar, waiting, .. } = AtWork::start(&nats, &team).await;
    sidecar.term();
    sidecar.not_ready("told to end").await;
    assert_eq!(sidecar.ended(), None);
    go.add_permits(1);
    assert_eq!(within("the outcome", waiting).await.outcome, Outcome::Completed);
    assert_eq!(sidecar.end().await.code(), Some(0));
    team.nothing_left("coder").await;
    team.bus.client().flush().await.unwrap();
    let said: Vec<Heartbeat> = heartbeats
        .map(|message| serde_json::from_slice(&message.payload).unwrap())
        .take_until(tokio::time::sleep(Duration::from_millis(500)))
        .collect()
        .await;
    let last = said.last().unwrap();
    assert!(last.draining && !last.ready && last.busy == 0, "{last:?}");
}

/// The agent has gone before its sidecar is told to end: what is left goes back at once.
#[tokio::test]
async fn what_cannot_be_finished_goes_back_at_once() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let AtWork { agent: _agent, go: _go, mut sidecar, waiting, .. } = AtWork::start(&nats, &team).await;
    sidecar.term();
    sidecar.not_ready("told to end").await;
    sidecar.term();
    assert_eq!(sidecar.end().await.code(), Some(0));
    let other = Agent::start(|_| async { "done" });
    let _two = Sidecar::start(&nats, &Options::new("coder", "coder-1", Some(other.port))).await;
    // Long before the ten seconds after which the broker would have missed the first one.
    let result = tokio::time::timeout(Duration::from_secs(8), waiting).await.unwrap();
    assert_eq!((result.outcome, other.got()[0].attempt()), (Outcome::Completed, 2));
}

#[tokio::test]
async fn an_agent_that_pulls_leaves_its_task_behind_when_its_pod_ends() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let mut sidecar = Sidecar::spawn(&nats, &Options::new("coder", "coder-0", None));
    let task = team.task("x");
    team.send("coder", &task).await;
    sidecar.not_ready("not asked").await;
    assert_eq!(sidecar.get("/v1/tasks/next?wait=30").await.status, StatusCode::OK);
    sidecar.term();
    assert_eq!(sidecar.end().await.code(), Some(0));
    let other = Agent::start(|_| async { "done" });
    let _two = Sidecar::start(&nats, &Options::new("coder", "coder-1", Some(other.port))).await;
    assert_eq!(other.got_number(1).await[0].attempt(), 2);
}
