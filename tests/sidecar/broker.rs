//! The broker goes away, comes back, and forgets.

use futures::{FutureExt as _, StreamExt as _};
use pretty_assertions::assert_eq;
use skein::bus::Outcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::AtWork;
use crate::support::agent::Agent;
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};
use crate::support::team::Team;
use crate::support::within;

#[tokio::test]
async fn a_task_that_ends_while_the_broker_is_dead_is_told_when_it_is_back() {
    let mut nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let AtWork { agent, go, sidecar, task, waiting } = AtWork::start(&nats, &team).await;

    nats.kill().await;
    sidecar.not_ready("bus").await;
    go.add_permits(1);
    // It has nobody to tell, and nothing else to do.
    sidecar.metric_is("skein_sidecar_agent_time_seconds_count", 1.0).await;
    nats.restart().await;
    let result = within("the outcome", waiting).await;
    assert_eq!((result.outcome, &result.payload.body[..]), (Outcome::Completed, &b"done"[..]));
    sidecar.ready().await;
    team.nothing_left("coder").await;
    assert_eq!((agent.got().len(), team.outcomes(&task.id).await), (1, 1));
}

#[tokio::test]
async fn a_task_goes_on_through_a_crash_of_the_broker() {
    let mut nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let AtWork { agent, go, sidecar, task, waiting } = AtWork::start(&nats, &team).await;
    nats.kill().await;
    sidecar.not_ready("bus").await;
    nats.restart().await;
    sidecar.ready().await;
    go.add_permits(1);
    assert_eq!(within("the outcome", waiting).await.outcome, Outcome::Completed);
    team.nothing_left("coder").await;
    assert_eq!((agent.got().len(), team.outcomes(&task.id).await), (1, 1));
}

/// After the broker lost everything, the numbers of its journal begin anew: an acknowledgement of a task
/// from before must not end a task from after.
#[tokio::test]
async fn a_broker_that_lost_its_data_is_served_again_and_old_tasks_do_no_harm() {
    let mut nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let (agent, go) = Agent::held();
    let options = Options { concurrency: 2, ..Options::new("coder", "coder-0", Some(agent.port)) };
    let sidecar = Sidecar::start(&nats, &options).await;
    let old = team.task("old");
    let told = team.results.expect(&team.name, &old.id);
    team.send("coder", &old).await;
    agent.got_number(1).await;

    nats.wipe().await;
    sidecar.not_ready("no queue").await;
    team.set_up().await;
    sidecar.ready().await;
    // The first task of the new journal has the number of the old one.
    let new = team.task("new");
    let waiting = team.results.expect(&team.name, &new.id);
    team.send("coder", &new).await;
    agent.got_number(2).await;
    go.add_permits(1);
    // The old task was asked for first; its outcome finds its sender all the same.
    assert_eq!(within("the outcome of the old task", told).await.outcome, Outcome::Completed);
    assert_eq!(team.in_flight("coder").await, 1, "the new task is still worked on");
    go.add_permits(1);
    assert_eq!(within("the outcome of the new task", waiting).await.outcome, Outcome::Completed);
    team.nothing_left("coder").await;
}

/// Deliveries were seen to stall without an error. A pull that is answered by nothing is given up and
/// made again.
#[tokio::test]
async fn a_pull_whose_answer_never_comes_is_replaced() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let agent = Agent::start(|_| async { "done" });
    // The first pull goes to somebody who never answers.
    let mut mute = team.bus.client().subscribe("XJS.>").await.unwrap();
    let url = diverting(nats.url(), b"$JS.API.CONSUMER.MSG.NEXT", b"XJS.API.CONSUMER.MSG.NEXT").await;
    let options = Options { url: Some(url), ..Options::new("coder", "coder-0", Some(agent.port)) };
    let _sidecar = Sidecar::start(&nats, &options).await;
    within("the first pull", mute.next()).await.unwrap();
    let task = team.task("x");
    assert_eq!(team.ask("coder", &task).await.outcome, Outcome::Completed);
    assert!(mute.next().now_or_never().is_none(), "only the first pull was diverted");
}

/// A proxy before a broker that replaces the first occurrence of one text by another one of its length.
async fn diverting(broker: String, from: &'static [u8], to: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut armed = true;
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(broker.trim_start_matches("nats://")).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                let place = buffer[..length].windows(from.len()).position(|window| window == from);
                if let Some(place) = place.filter(|_| std::mem::take(&mut armed)) {
                    buffer[place..place + to.len()].copy_from_slice(to);
                }
                if to_server.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        }
    });
    url
}
