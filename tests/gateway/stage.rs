//! A team on a real broker, with agents that do what their tasks say, and gateways in front of it.

use std::time::Duration;

use async_nats::jetstream::{self, Message, consumer::PullConsumer};
use bytes::Bytes;
use futures::StreamExt as _;
use skein::api::topology::JournalSpec;
use skein::bus::envelope::{Payload, Trace};
use skein::bus::nats::{Bus, journal};
use skein::bus::{Health, Heartbeat, Outcome, Task, TaskResult, Team};
use skein::cli::{BusArgs, GatewayArgs};
use skein::gateway::{self, Running};
use skein::topology::{Hearing, Route, TeamProgram};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::eventually;
use crate::support::http::{self, Response};
use crate::support::nats::Nats;

/// A broker with one team: `worker` and `other` work, `asleep` is suspended, `empty` has no agents.
pub struct Stage {
    pub nats: Nats,
    pub team: Team,
    pub bus: Bus,
    /// Tasks whose input is `hold` are answered once this is true.
    pub released: watch::Sender<bool>,
}

impl Stage {
    pub async fn new() -> Self {
        Self::on(Nats::start().await, JournalSpec { max_bytes: 256 << 20, ..JournalSpec::default() }).await
    }

    pub async fn on(nats: Nats, spec: JournalSpec) -> Self {
        let team = Team::new("demo", "research");
        let bus = Bus::connect(&nats.url(), "stage").await.unwrap();
        let _ = bus.state().wait_for(|connected| *connected).await;
        let streams = jetstream::new(bus.client().clone());
        streams.create_stream(journal::bucket(1)).await.unwrap();
        let stream = streams.create_stream(journal::stream(&team, "uid", &spec)).await.unwrap();
        let stage = Self { nats, team, bus, released: watch::Sender::new(false) };
        let routes =
            [("worker", &["echo"][..], false), ("other", &["echo", "paint"], false), ("asleep", &["sleep"], true), ("empty", &[], false)];
        stage.publish_program(&stage.team, &routes).await;
        for pool in ["worker", "other"] {
            let consumer = stream.create_consumer(journal::consumer(&stage.team, pool, None)).await.unwrap();
            stage.work(pool, tasks(stream.get_consumer(&consumer.cached_info().name).await.unwrap()).await);
        }
        stage
    }

    pub async fn publish_program(&self, team: &Team, routes: &[(&str, &[&str], bool)]) {
        let routes = routes
            .iter()
            .map(|(pool, capabilities, suspended)| Route {
                pool: (*pool).to_owned(),
                relation: None,
                capabilities: capabilities.iter().map(|c| (*c).to_owned()).collect(),
                suspended: *suspended,
                hearing: Hearing::default(),
            })
            .collect();
        let program = TeamProgram { revision: "1".to_owned(), routes };
        self.bus.put_program(&team.program_key(), serde_json::to_vec(&program).unwrap().into()).await.unwrap();
    }

    /// Starts a replica of the gateway and waits until it is ready.
    pub async fn gateway(&self, identity: &str) -> Gateway {
        self.gateway_with(identity, |_| {}).await
    }

    pub async fn gateway_with(&self, identity: &str, adjust: impl FnOnce(&mut GatewayArgs)) -> Gateway {
        let gateway = Gateway::start(&self.nats.url(), &self.team, identity, adjust).await;
        gateway.is_ready().await;
        gateway
    }

    /// How many messages the journal holds.
    pub async fn stored(&self) -> u64 {
        self.bus.jetstream().get_stream(self.team.stream()).await.unwrap().cached_info().state.messages
    }

    /// The agents of a pool, all in one.
    fn work(&self, pool: &'static str, mut tasks: jetstream::consumer::pull::Stream) {
        let (bus, team, released) = (self.bus.clone(), self.team.clone(), self.released.subscribe());
        let beating = bus.clone();
        tokio::spawn(async move {
            loop {
                let _ = beating.publish_heartbeat(&heartbeat(pool)).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        tokio::spawn(async move {
            while let Some(message) = tasks.next().await {
                // The stream of a consumer tells of a lost connection and goes on.
                let Ok(message) = message else { continue };
                tokio::spawn(answer(bus.clone(), team.clone(), pool, message, released.clone()));
            }
        });
    }
}

async fn tasks(consumer: PullConsumer) -> jetstream::consumer::pull::Stream {
    consumer
        .stream()
        .max_messages_per_batch(64)
        .expires(Duration::from_secs(2))
        .heartbeat(Duration::from_millis(500))
        .messages()
        .await
        .unwrap()
}

/// What the agent does is what the task says.
async fn answer(bus: Bus, team: Team, pool: &'static str, message: Message, mut released: watch::Receiver<bool>) {
    let get = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str());
    let task = Task::parse(get, message.payload.clone()).unwrap();
    let word = String::from_utf8_lossy(&task.payload.body).into_owned();
    let (outcome, reason) = match word.as_str() {
        "fail" => (Outcome::Failed, Some("422 from the agent: not a question")),
        "die" => (Outcome::Dead, Some("3 attempts: connection refused")),
        "expire" => (Outcome::Expired, Some("the deadline passed before an agent was free")),
        "never" => return,
        _ => (Outcome::Completed, None),
    };
    if word == "hold" {
        let _ = released.wait_for(|released| *released).await;
    }
    let result = TaskResult {
        task_id: task.id.clone(),
        correlation_id: task.correlation_id.clone(),
        from_pool: pool.to_owned(),
        from_agent: format!("{pool}-0"),
        created: task.created + 1,
        outcome,
        reason: reason.map(str::to_owned),
        trace: Trace::default(),
        payload: Payload { body: task.payload.body, content_type: task.payload.content_type.map(|kind| format!("{kind}; by={pool}")) },
    };
    eventually("the outcome is stored", || async { bus.publish_result(&team, &task.from_pool, &task.from_agent, &result).await.ok() })
        .await;
    let _ = message.ack().await;
}

fn heartbeat(pool: &str) -> Heartbeat {
    Heartbeat {
        namespace: "demo".to_owned(),
        pool: pool.to_owned(),
        agent: format!("{pool}-0"),
        pod_uid: "uid".to_owned(),
        topology: Some("research".to_owned()),
        health: Health::Healthy,
        ready: true,
        reason: None,
        draining: false,
        busy: 0,
        concurrency: 64,
    }
}

/// A replica of the gateway.
pub struct Gateway {
    pub running: Running,
    pub shutdown: CancellationToken,
    team: Team,
}

impl Gateway {
    /// Starts a replica.
    pub async fn start(nats_url: &str, team: &Team, identity: &str, adjust: impl FnOnce(&mut GatewayArgs)) -> Self {
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let mut args = GatewayArgs {
            bus: BusArgs { nats_url: nats_url.to_owned() },
            identity: identity.to_owned(),
            max_waiting: 100,
            drain_seconds: 1,
            max_receiving_mebibytes: 64,
            address: anywhere,
            admin_address: anywhere,
        };
        adjust(&mut args);
        let shutdown = CancellationToken::new();
        let running = gateway::start(&args, shutdown.clone()).await.unwrap();
        Self { running, shutdown, team: team.clone() }
    }

    /// Waits until it is ready and knows the team.
    pub async fn is_ready(&self) {
        eventually("the gateway is ready", || async { (self.admin("/readyz").await.status == 200).then_some(()) }).await;
        eventually("the team is known", || async { (self.post("?to=ghost", "").await.problem() == "unknown-pool").then_some(()) }).await;
    }

    /// The address of `path` below the tasks of the team.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/v1/namespaces/{}/topologies/{}/tasks{path}", self.running.address, self.team.namespace, self.team.topology)
    }

    pub async fn post(&self, query: &str, body: impl Into<Bytes>) -> Response {
        http::post(&self.url(query), body).await
    }

    pub async fn get(&self, path: &str) -> Response {
        http::get(&self.url(path)).await
    }

    pub async fn admin(&self, path: &str) -> Response {
        http::get(&format!("http://{}{path}", self.running.admin_address)).await
    }

    /// Sends a task without waiting and gives its id.
    pub async fn submit(&self, body: &'static str) -> String {
        let response = self.post("?to=worker", body).await;
        assert_eq!(response.status, 202, "{response:?}");
        response.json()["id"].as_str().unwrap().to_owned()
    }
}
