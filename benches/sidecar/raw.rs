//! The same exchange by hand: a client and a worker, each with a connection and a thread of its own.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, AckKind, consumer::PullConsumer};
use bytes::Bytes;
use futures::StreamExt as _;
use skein::bus::Team;
use tokio::sync::{Mutex, mpsc};

use super::BODY;
use super::support::nats::Nats;

/// The client; the worker is a thread.
pub(crate) struct Raw {
    jetstream: jetstream::Context,
    subject: String,
    results: Mutex<mpsc::Receiver<Bytes>>,
    body: Bytes,
}

impl Raw {
    pub(crate) async fn start(nats: &Nats, team: &Team) -> Self {
        let (ready, started) = std::sync::mpsc::channel();
        let (url, worker) = (nats.url(), team.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work(&url, &worker, &ready));
        });
        started.recv().unwrap();
        let client = async_nats::connect(nats.url()).await.unwrap();
        let mut live = client.subscribe(team.live_results_for("raw-client", "raw-0")).await.unwrap();
        let (sender, results) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(message) = live.next().await {
                sender.send(message.payload).await.unwrap();
            }
        });
        Self {
            jetstream: jetstream::new(client),
            subject: team.task("raw", "raw-client"),
            results: Mutex::new(results),
            body: vec![b'x'; BODY].into(),
        }
    }

    pub(crate) async fn exchange(&self) -> Duration {
        let began = Instant::now();
        let mut results = self.results.lock().await;
        let id = uuid::Uuid::now_v7().to_string();
        let acknowledgement = self.jetstream.publish_with_headers(self.subject.clone(), headers(&id), self.body.clone()).await.unwrap();
        acknowledgement.await.unwrap();
        let result = results.recv().await.unwrap();
        assert_eq!(result, self.body);
        began.elapsed()
    }
}

async fn work(url: &str, team: &Team, ready: &std::sync::mpsc::Sender<()>) {
    let client = async_nats::connect(url).await.unwrap();
    let jetstream = jetstream::new(client);
    let consumer: PullConsumer = jetstream.get_consumer_from_stream("raw", team.stream()).await.unwrap();
    let mut tasks = consumer.messages().await.unwrap();
    ready.send(()).unwrap();
    let subject = team.result("raw-client", "raw-0", "raw");
    while let Some(task) = tasks.next().await {
        let task = task.unwrap();
        let id = format!("{}:outcome", task.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap().as_str());
        let acknowledgement = jetstream.publish_with_headers(subject.clone(), headers(&id), task.payload.clone()).await.unwrap();
        acknowledgement.await.unwrap();
        task.ack_with(AckKind::Ack).await.unwrap();
    }
}

fn headers(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    headers
}
