//! What the tests of this folder have in common: a controller on a real API server and a real broker, with a
//! namespace of its own, and ways to say what there is and to wait for what follows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use skein::api::{AgentPool, Topology, condition};
use skein::bus::nats::{Bus, Puller};
use skein::bus::subjects::pool_program_key;
use skein::bus::{Outcome, Task, TaskResult, Team};
use skein::controller::context::{Config, Context};
use skein::controller::roster::Roster;
use skein::controller::{topology, watch};
use skein::telemetry::metrics;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::apiserver::ApiServer;
use crate::support::nats::Nats;
use crate::support::until;

/// The controller looks at the whole cluster, so that two tests at a time would be two controllers.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A controller of topologies, a team's pools as the test says that they are, and what a user sees of both.
pub struct Stage {
    pub context: Arc<Context>,
    pub client: Client,
    pub namespace: String,
    pub nats: Nats,
    pub bus: Bus,
    _controller: DropGuard,
    _server: Arc<ApiServer>,
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    pub async fn set() -> Self {
        let server = ApiServer::shared();
        let alone = ONE_AT_A_TIME.lock().await;
        let client = server.client().await;
        let namespace = server.namespace(&client).await;
        let nats = Nats::start().await;
        let bus = nats.bus("test").await;
        let registry = metrics::registry("controller").unwrap();
        let measured = metrics::controller::Metrics::new(&registry).unwrap();
        let config = Config {
            sidecar_image: "skein".to_owned(),
            sidecar_image_pull_policy: "Never".to_owned(),
            agent_nats_url: nats.url(),
            identity: "test".to_owned(),
        };
        let (stores, writers) = watch::stores();
        let context = Arc::new(Context::new(client.clone(), nats.bus("controller").await, stores, Roster::default(), measured, config));
        let shutdown = CancellationToken::new();
        tokio::spawn(watch::run(writers, Arc::clone(&context), shutdown.clone()));
        assert!(context.stores.wait_until_ready().await);
        tokio::spawn(topology::run(Arc::clone(&context), shutdown.clone()));
        Self { context, client, namespace, nats, bus, _controller: shutdown.drop_guard(), _server: server, _alone: alone }
    }

    pub fn pools(&self) -> Api<AgentPool> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn topologies(&self) -> Api<Topology> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn team(&self, topology: &str) -> Team {
        Team::new(&self.namespace, topology)
    }

    pub async fn pool(&self, name: &str, ready: i32) {
        let pool: AgentPool = serde_json::from_value(json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": name},
            "spec": {"template": {"spec": {"containers": [{"name": "agent", "image": "agent"}]}}, "drainTimeoutSeconds": 30},
        }))
        .unwrap();
        self.pools().create(&PostParams::default(), &pool).await.unwrap();
        self.ready(name, ready).await;
    }

    /// Says how many agents of a pool are ready, as the controller of pools would.
    pub async fn ready(&self, name: &str, ready: i32) {
        let status = if ready > 0 { "True" } else { "False" };
        let status = json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool",
            "status": {"readyReplicas": ready, "replicas": ready, "desiredReplicas": 1, "updatedReplicas": ready, "busyReplicas": 0, "conditions": [
                {"type": "Ready", "status": status, "reason": "Told", "message": format!("{name} has {ready} agents"), "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        });
        self.pools().patch_status(name, &PatchParams::apply("test").force(), &Patch::Apply(status)).await.unwrap();
    }

    pub async fn topology(&self, name: &str, members: &[&str]) {
        let members: Vec<_> = members.iter().map(|pool| json!({"pool": pool})).collect();
        let topology: Topology = serde_json::from_value(json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "Topology", "metadata": {"name": name},
            "spec": {"architecture": "Flat", "members": members},
        }))
        .unwrap();
        self.topologies().create(&PostParams::default(), &topology).await.unwrap();
    }

    pub async fn change(&self, name: &str, spec: serde_json::Value) {
        self.topologies().patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.topologies().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits for a condition, and says how long that took.
    pub async fn says(&self, topology: &str, type_: &str, status: &str, reason: &str, message: &str) -> Duration {
        let begun = Instant::now();
        until(&format!("{type_}={status} {reason} {message:?}"), async || {
            let found = self.topologies().get(topology).await.map_err(|e| e.to_string())?;
            let status_found = found.status.clone().unwrap_or_default();
            let said = condition::find(&status_found.conditions, type_).cloned().ok_or("no such condition")?;
            let right = said.status == status
                && said.reason == reason
                && said.message.contains(message)
                && said.observed_generation == found.metadata.generation;
            right.then_some(()).ok_or_else(|| format!("{said:?}"))
        })
        .await;
        begun.elapsed()
    }

    pub async fn is_ready(&self, topology: &str) {
        self.says(topology, "Ready", "True", "Ready", "").await;
    }

    pub async fn gone(&self, topology: &str) {
        until("the topology to go", async || {
            let found = self.topologies().get_opt(topology).await.map_err(|e| e.to_string())?;
            found.map_or(Ok(()), |found| Err(format!("{:?}", found.status)))
        })
        .await;
    }

    pub async fn programs(&self) -> Vec<String> {
        self.bus.list_programs("").await.unwrap_or_default().into_keys().collect()
    }

    /// Waits until the bus holds these queues and programs, and says how long that took.
    pub async fn on_bus(&self, topology: &str, queues: &[&str], programs: &[String]) -> Duration {
        let begun = Instant::now();
        until("the bus to be what the topology says", async || {
            let found: Vec<_> = self.bus.queues(&self.team(topology)).await.map_err(|e| e.to_string())?.into_keys().collect();
            let keys = self.programs().await;
            if found == queues && keys == programs { Ok(()) } else { Err(format!("{found:?} {keys:?}")) }
        })
        .await;
        begun.elapsed()
    }

    pub fn keys(&self, topology: &str, pools: &[&str]) -> Vec<String> {
        pools.iter().map(|pool| pool_program_key(&self.namespace, pool)).chain([self.team(topology).program_key()]).collect()
    }

    pub async fn send(&self, topology: &str, pool: &str, id: &str) {
        let task = Task {
            id: id.to_owned(),
            correlation_id: id.to_owned(),
            parent_id: None,
            ancestry: vec![],
            from_pool: "_gateway".to_owned(),
            from_agent: "gateway-0".to_owned(),
            created: 1,
            deadline: None,
            trace: Default::default(),
            payload: Default::default(),
        };
        self.bus.publish_task(&self.team(topology), pool, &task).await.unwrap();
    }

    /// Does one task, as a sidecar would.
    pub async fn end(&self, topology: &str, pool: &str) {
        let mut puller = Puller::new(&self.bus, &self.team(topology), pool).await.unwrap();
        let delivery = puller.next(Duration::from_secs(10)).await.unwrap().expect("a task");
        let task = delivery.task.unwrap();
        let result = TaskResult {
            task_id: task.id,
            correlation_id: task.correlation_id,
            from_pool: pool.to_owned(),
            from_agent: format!("{pool}-0"),
            created: 2,
            outcome: Outcome::Completed,
            reason: None,
            trace: Default::default(),
            payload: Default::default(),
        };
        self.bus.publish_result(&self.team(topology), "_gateway", "gateway-0", &result).await.unwrap();
        delivery.receipt.ack().await.unwrap();
    }

    /// Waits until exactly these findings are told, in this order, as `Type member`.
    pub async fn finds(&self, topology: &str, findings: &[&str]) {
        until(&format!("{findings:?}"), async || {
            let found = self.topologies().get(topology).await.map_err(|e| e.to_string())?.status.unwrap_or_default().findings;
            let said: Vec<_> = found.iter().map(|finding| format!("{} {}", finding.type_, finding.member)).collect();
            if said == findings { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    }

    pub async fn change_pool(&self, name: &str, spec: serde_json::Value) {
        self.pools().patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    }

    pub async fn events(&self) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        api.list(&ListParams::default()).await.unwrap().items.into_iter().filter_map(|event| event.reason).collect()
    }

    /// Lets everything of this test go, so that the next one's controller does not find it.
    pub async fn leave(self, topologies: &[&str]) {
        for name in topologies {
            let _ = self.topologies().delete(name, &DeleteParams::default()).await;
        }
        for name in topologies {
            self.gone(name).await;
        }
    }
}
