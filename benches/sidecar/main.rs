//! What two sidecars cost on the way of a task: 1 kB from a client to an agent and back, through two
//! sidecar processes, beside the same exchange done by hand with async-nats on the same broker.
//!
//! `cargo bench --bench sidecar [-- <rounds> <tasks a round>]`
//!
//! Beside that, what HTTP alone costs: the same body straight to the agent and back. A task through two sidecars has two
//! such exchanges more than one by hand, whatever the sidecars do.
//!
//! Both sides publish the task and await its acknowledgement, take it from a pull consumer, publish the
//! result and await its acknowledgement, acknowledge the task, and hear of the result by republishing.
//! Rounds alternate, so that whatever else the machine does meets both. Figures are of this machine; the
//! ratios are what counts.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails ends")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod raw;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, Request};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use raw::Raw;
use support::nats::Nats;
use support::sidecar::{Options, Sidecar};
use support::team::Team;

const BODY: usize = 1024;
const WINDOW: usize = 16;

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let rounds = arguments.next().unwrap_or(7);
    let tasks = arguments.next().unwrap_or(1000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(bench(rounds, tasks));
}

async fn bench(rounds: usize, tasks: usize) {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["client", "worker", "raw"], &[("client", "worker")]).await;
    let agent = agent();

    let (started, resting) = rest(&nats, agent).await;
    println!(
        "start to ready, {} starts: {} (median), {} (worst)",
        started.len(),
        ms(percentile(&started, 50)),
        ms(percentile(&started, 100))
    );
    println!("resident at rest: {resting} KiB");

    let options = |pool, agent_name| Options { concurrency: 16, log: Some("warn"), ..Options::new(pool, agent_name, Some(agent)) };
    let client = Sidecar::start(&nats, &options("client", "client-0")).await;
    let worker = Sidecar::start(&nats, &options("worker", "worker-0")).await;
    let raw = Raw::start(&nats, &team.name).await;
    let through = Through::new(format!("{}/v1/tasks?to=worker&wait=60", client.api));
    let straight = Through::new(format!("http://127.0.0.1:{agent}/"));
    for _ in 0..200 {
        through.exchange().await;
        raw.exchange().await;
        straight.exchange().await;
    }

    let mut lines = Vec::new();
    for _ in 0..rounds {
        let mut by_hand = Vec::with_capacity(tasks);
        let mut by_sidecars = Vec::with_capacity(tasks);
        for _ in 0..tasks {
            by_hand.push(raw.exchange().await);
        }
        for _ in 0..tasks {
            by_sidecars.push(through.exchange().await);
        }
        let mut floor = Vec::with_capacity(tasks);
        for by_hand in &by_hand {
            floor.push(*by_hand + straight.exchange().await + straight.exchange().await);
        }
        lines.push([by_hand, by_sidecars, floor]);
    }
    println!("\n1 kB task -> result, one at a time, {rounds} rounds of {tasks} each, medians of the rounds");
    println!("{:>6} {:>12} {:>12} {:>8} {:>10} {:>14} {:>8}", "", "raw", "2 sidecars", "ratio", "more", "raw + 2 HTTP", "ratio");
    for percent in [50, 90, 99] {
        let typical = |way: usize| median(lines.iter().map(|round: &[Vec<Duration>; 3]| percentile(&round[way], percent)));
        let ratio = |to: usize| {
            let ratios =
                lines.iter().map(|round| percentile(&round[1], percent).as_secs_f64() / percentile(&round[to], percent).as_secs_f64());
            median_of(ratios.collect())
        };
        let [raw, two, floor] = [0, 1, 2].map(typical);
        let more = ms(two.saturating_sub(raw));
        println!(
            "{:>6} {:>12} {:>12} {:>8.2} {more:>10} {:>14} {:>8.2}",
            format!("p{percent}"),
            ms(raw),
            ms(two),
            ratio(0),
            ms(floor),
            ratio(2)
        );
    }

    let before = (cpu(client.pid()), cpu(worker.pid()));
    let number = rounds * tasks;
    let began = Instant::now();
    join_all((0..WINDOW).map(|_| async {
        for _ in 0..number / WINDOW {
            through.exchange().await;
        }
    }))
    .await;
    let took = began.elapsed();
    let rate = number as f64 / took.as_secs_f64();
    println!("\n{number} tasks, {WINDOW} at a time: {rate:.0} tasks/s");
    for (name, sidecar, before) in [("client", &client, before.0), ("worker", &worker, before.1)] {
        let used = cpu(sidecar.pid()).saturating_sub(before);
        println!(
            "{name}'s sidecar: {:.2} s of CPU, {:.3} vCPU per 1,000 tasks/s; {} KiB peak",
            used.as_secs_f64(),
            used.as_secs_f64() / number as f64 * 1000.0,
            memory(sidecar.pid(), "VmHWM:"),
        );
    }
}

/// How long a sidecar takes to be ready, and what it holds when it has nothing to do.
async fn rest(nats: &Nats, agent: u16) -> (Vec<Duration>, u64) {
    let mut started = Vec::new();
    let mut resting = 0;
    for number in 0..10 {
        let options = Options { log: Some("warn"), ..Options::new("worker", "worker-9", Some(agent)) };
        let began = Instant::now();
        let sidecar = Sidecar::spawn(nats, &options);
        while !matches!(sidecar.admin("/readyz").await, Ok(response) if response.status == 200) {
            assert!(began.elapsed() < Duration::from_secs(30), "the sidecar does not become ready");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        started.push(began.elapsed());
        if number == 9 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            resting = memory(sidecar.pid(), "VmRSS:");
        }
    }
    (started, resting)
}

/// An agent on a thread of its own, that answers with what it was asked.
fn agent() -> u16 {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let router = Router::new().route("/", post(|body: Bytes| async { body })).route("/healthz", get(|| async { "ok" }));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap().port()).unwrap();
            let listener = listener.tap_io(|connection| connection.set_nodelay(true).unwrap());
            axum::serve(listener, router).await.unwrap();
        });
    });
    receiver.recv().unwrap()
}

/// A body sent by HTTP and answered with itself: by way of two sidecars, or straight by the agent.
struct Through {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    body: Bytes,
}

impl Through {
    fn new(url: String) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, url, body: vec![b'x'; BODY].into() }
    }

    async fn exchange(&self) -> Duration {
        let began = Instant::now();
        let request = Request::builder().method(Method::POST).uri(&self.url).body(Full::new(self.body.clone())).unwrap();
        let response = self.client.request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(status == 200 && body == self.body, "{status} {body:?}");
        began.elapsed()
    }
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[(times.len() * percent).div_ceil(100).clamp(1, times.len()) - 1]
}

fn median(times: impl IntoIterator<Item = Duration>) -> Duration {
    percentile(&times.into_iter().collect::<Vec<_>>(), 50)
}

fn median_of(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0)
}

/// The time that all threads of a process have run.
fn cpu(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(nanoseconds)
}

/// A line of `/proc/<pid>/status`, in KiB.
fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
