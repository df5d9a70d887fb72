//! Who no longer wants a task cancels it: it ends at once and once, wherever it is, with all its parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use pretty_assertions::assert_eq;
use skein::bus::nats::{Canceller, StoredTask};
use skein::bus::{Outcome, Task};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::relay::{Manners, Relay};
use crate::support::agent::{Agent, Got};
use crate::support::http::{self, Response};
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};
use crate::support::team::Team;
use crate::support::{until, within};

const CANCELLED: &str = r#"skein_sidecar_tasks_total{outcome="cancelled"}"#;

/// Counts when it is dropped before its agent has answered: the request was given up.
struct GivenUp {
    counter: Arc<AtomicUsize>,
    answered: bool,
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        if !self.answered {
            self.counter.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// An agent that never answers what is `long`, and says how often it has been hung up on.
fn patient() -> (Agent, Arc<AtomicUsize>) {
    let given_up = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&given_up);
    let agent = Agent::start(move |got: Got| {
        let request = GivenUp { counter: Arc::clone(&counter), answered: false };
        async move {
            let mut request = request;
            if got.body == "long" {
                std::future::pending::<()>().await;
            }
            request.answered = true;
            "done"
        }
    });
    (agent, given_up)
}

async fn hung_up(given_up: &AtomicUsize, times: usize) {
    until("the agent is hung up on", || async {
        let seen = given_up.load(Ordering::SeqCst);
        if seen == times { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
}

async fn delete(sidecar: &Sidecar, id: &str) -> Response {
    http::send(Method::DELETE, &format!("{}/v1/tasks/{id}", sidecar.api), &[], "").await
}

async fn send(sidecar: &Sidecar, body: impl Into<bytes::Bytes>) -> String {
    let response = sidecar.post("/v1/tasks?to=coder", &[], body).await;
    assert_eq!(response.status, StatusCode::ACCEPTED, "{}", response.text());
    response.json()["id"].as_str().unwrap().to_owned()
}

async fn stage() -> (Nats, Team, Agent, Sidecar) {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["planner", "coder"], &[("planner", "coder")]).await;
    let agent = Agent::start(|_: Got| async { "done" });
    let planner = Sidecar::start(&nats, &Options::new("planner", "planner-0", Some(agent.port))).await;
    (nats, team, agent, planner)
}

/// Work that nobody wants must not wait for an agent in order to end, nor be done when one comes.
#[tokio::test]
async fn a_task_that_waits_ends_at_once_and_is_never_begun() {
    let (nats, team, _agent, planner) = stage().await;
    let id = send(&planner, "x").await;
    let path = format!("/v1/tasks/{id}/result?wait=30");
    let waiting = planner.get(&path);
    let (response, cancelled) = tokio::join!(waiting, delete(&planner, &id));
    assert_eq!(cancelled.status, StatusCode::NO_CONTENT, "{}", cancelled.text());
    assert_eq!((response.status.as_u16(), response.problem().as_str()), (410, "task-cancelled"));
    assert_eq!(response.json()["detail"], "planner-0 cancelled it");
    assert_eq!(delete(&planner, &id).await.status, StatusCode::NO_CONTENT, "again is no mistake");
    assert_eq!(delete(&planner, &skein::bus::ids::fresh()).await.problem(), "unknown-task");

    let coder = Agent::start(|_: Got| async { "done" });
    let sidecar = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(coder.port))).await;
    sidecar.metric_is(CANCELLED, 1.0).await;
    team.nothing_left("coder").await;
    assert_eq!((coder.got().len(), team.outcomes(&id).await), (0, 1));

    let done = send(&planner, "y").await;
    assert_eq!(planner.get(&format!("/v1/tasks/{done}/result?wait=30")).await.text(), "done");
    let late = delete(&planner, &done).await;
    assert_eq!((late.status.as_u16(), late.problem().as_str()), (409, "task-ended"));
    assert_eq!(late.json()["outcome"], "completed");
}

#[tokio::test]
async fn an_agent_at_work_is_hung_up_on_and_takes_the_next_task() {
    let (nats, team, _agent, planner) = stage().await;
    let (coder, given_up) = patient();
    let sidecar = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(coder.port))).await;
    let id = send(&planner, "long").await;
    coder.got_number(1).await;
    assert_eq!(delete(&planner, &id).await.status, StatusCode::NO_CONTENT);
    hung_up(&given_up, 1).await;
    sidecar.metric_is(CANCELLED, 1.0).await;
    let next = send(&planner, "short").await;
    assert_eq!(planner.get(&format!("/v1/tasks/{next}/result?wait=30")).await.text(), "done");
    team.nothing_left("coder").await;
    assert_eq!(team.outcomes(&id).await, 1);
}

#[tokio::test]
async fn an_agent_that_pulls_is_told_when_it_reports() {
    let (nats, team, _agent, planner) = stage().await;
    let coder = Sidecar::spawn(&nats, &Options::new("coder", "coder-0", None));
    coder.not_ready("has not asked for a task yet").await;
    let id = send(&planner, "x").await;
    let taken = coder.get("/v1/tasks/next?wait=30").await;
    assert_eq!(taken.header("skein-task-id"), id);
    assert_eq!(coder.post(&format!("/v1/tasks/{id}/progress"), &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(delete(&planner, &id).await.status, StatusCode::NO_CONTENT);
    coder.metric_is(CANCELLED, 1.0).await;
    for report in ["progress", "complete", "fail?retryable=true"] {
        let told = coder.post(&format!("/v1/tasks/{id}/{report}"), &[], "").await;
        assert_eq!((told.status.as_u16(), told.problem().as_str()), (410, "task-cancelled"), "{report}");
    }
    team.nothing_left("coder").await;
    assert_eq!(team.outcomes(&id).await, 1);
}

fn stored(task: &Task, pool: &str, sequence: u64) -> StoredTask {
    StoredTask { task: task.clone(), pool: pool.to_owned(), sequence, bytes: 0 }
}

/// A regression here goes on paying for the parts of a task that nobody wants.
#[tokio::test]
async fn with_a_task_go_all_that_were_sent_on_its_behalf() {
    let nats = Nats::start().await;
    let pools = ["planner", "writer", "coder"];
    let team = Team::start(&nats, &pools, &[("planner", "writer"), ("writer", "coder")]).await;
    let planner = Relay::start(&nats, "planner", "planner-0", "writer", Manners::Good, 1).await;
    let writer = Relay::start(&nats, "writer", "writer-0", "coder", Manners::Good, 1).await;
    let (coder, given_up) = patient();
    let sidecar = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(coder.port))).await;
    let task = team.task("long");
    let waiting = team.results.expect(&team.name, &task.id);
    let sequence = team.bus.publish_task(&team.name, "planner", &task).await.unwrap().sequence;
    coder.got_number(1).await;

    let by = Canceller { agent: "test", reason: "enough" };
    let outcome = team.bus.cancel(&team.name, &stored(&task, "planner", sequence), by).await.unwrap();
    assert_eq!(outcome, Outcome::Cancelled);
    let result = within("the outcome", waiting).await;
    assert_eq!((result.outcome, result.reason.as_deref()), (Outcome::Cancelled, Some("enough")));
    hung_up(&given_up, 1).await;
    for sidecar in [&planner.sidecar, &writer.sidecar, &sidecar] {
        sidecar.metric_is(CANCELLED, 1.0).await;
    }
    for (pool, id) in [("planner", task.id.as_str()), ("writer", writer.agent.got()[0].id()), ("coder", coder.got()[0].id())] {
        team.nothing_left(pool).await;
        assert_eq!(team.outcomes(id).await, 1, "{pool}");
    }
    let part = planner.sidecar.get(&format!("/v1/tasks/{}/result", writer.agent.got()[0].id())).await;
    assert_eq!(
        (part.problem().as_str(), part.json()["detail"].as_str()),
        ("task-cancelled", Some("the task that it was part of was cancelled"))
    );
}

/// Whoever cancels may be lost in between. A notice of somebody else than the sender means nothing.
#[tokio::test]
async fn a_notice_without_an_outcome_ends_the_task_and_a_forged_one_does_not() {
    let (nats, team, _agent, _planner) = stage().await;
    let (cancelled, wanted) = (team.task("cancelled"), team.task("wanted"));
    for (task, by) in [(&cancelled, "_gateway"), (&wanted, "planner")] {
        team.send("coder", task).await;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Skein-Task-Id", task.id.as_str());
        let stored = team.bus.jetstream().publish_with_headers(team.name.cancellation("coder", by), headers, "".into()).await.unwrap();
        stored.await.unwrap();
    }
    let outcomes = [&cancelled, &wanted].map(|task| team.results.expect(&team.name, &task.id));
    let coder = Agent::start(|_: Got| async { "done" });
    let _sidecar = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(coder.port))).await;
    let mut seen = Vec::new();
    for outcome in outcomes {
        seen.push(within("the outcome", outcome).await.outcome);
    }
    assert_eq!(seen, [Outcome::Cancelled, Outcome::Completed]);
    assert_eq!(coder.got().len(), 1);
    assert_eq!(team.outcomes(&cancelled.id).await, 1);
}

/// The end of a task and its cancellation meet: one of them is the outcome, and everybody hears of that one.
#[tokio::test]
async fn a_task_that_is_cancelled_while_it_ends_has_one_outcome() {
    let (nats, team, _agent, planner) = stage().await;
    let coder = Agent::start(|got: Got| async move {
        let milliseconds = String::from_utf8(got.body.to_vec()).unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        "done"
    });
    let _sidecar = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(coder.port))).await;
    let mut ended = [0, 0];
    for turn in 0..24 {
        let id = send(&planner, (turn * 4).to_string()).await;
        let said = delete(&planner, &id).await.status.as_u16();
        let state = planner.get(&format!("/v1/tasks/{id}")).await.json()["state"].as_str().unwrap().to_owned();
        let expected = if said == 204 { "cancelled" } else { "completed" };
        assert_eq!((state.as_str(), team.outcomes(&id).await), (expected, 1), "turn {turn}: {said}");
        ended[usize::from(said == 204)] += 1;
    }
    team.nothing_left("coder").await;
    assert!(ended[1] > 0, "{ended:?}");
}

/// A way to the broker that can be cut: connections break, and no new one is made.
async fn severable(broker: String) -> (String, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let whole = watch::Sender::new(true);
    let mut seen = whole.subscribe();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut cut = seen.clone();
            if !*seen.borrow_and_update() {
                continue;
            }
            let mut server = TcpStream::connect(broker.trim_start_matches("nats://")).await.unwrap();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = cut.wait_for(|whole| !whole) => {}
                }
            });
        }
    });
    (url, whole)
}

/// The call to a cancellation is not repeated: whoever was away must find the notice, and whatever its agent
/// has answered meanwhile must not become a second outcome.
#[tokio::test]
async fn a_sidecar_that_was_cut_off_learns_of_a_cancellation_afterwards() {
    let (nats, team, _agent, planner) = stage().await;
    let (url, whole) = severable(nats.url()).await;
    let (coder, given_up) = patient();
    let options = Options { url: Some(url.clone()), ..Options::new("coder", "coder-0", Some(coder.port)) };
    let sidecar = Sidecar::start(&nats, &options).await;
    let (at_work, go) = Agent::held();
    let options = Options { url: Some(url), ..Options::new("coder", "coder-1", Some(at_work.port)) };
    let other = Sidecar::start(&nats, &options).await;

    // Each has one place, so each has one of the two.
    let ids = [send(&planner, "long").await, send(&planner, "long").await];
    coder.got_number(1).await;
    at_work.got_number(1).await;
    whole.send_replace(false);
    sidecar.not_ready("bus").await;
    other.not_ready("bus").await;
    for id in &ids {
        assert_eq!(delete(&planner, id).await.status, StatusCode::NO_CONTENT);
    }
    go.add_permits(1);
    assert_eq!(given_up.load(Ordering::SeqCst), 0, "it cannot know");
    whole.send_replace(true);
    hung_up(&given_up, 1).await;
    team.nothing_left("coder").await;
    for id in &ids {
        assert_eq!(team.outcomes(id).await, 1);
        assert_eq!(planner.get(&format!("/v1/tasks/{id}")).await.json()["state"], "cancelled");
    }
    assert_eq!((coder.got().len(), at_work.got().len()), (1, 1), "neither was given out again");
}
