//! An API server, a broker, and controllers before them.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::{Value, json};
use skein::api::{AgentPool, Topology, condition};
use skein::bus::nats::Bus;
use skein::cli::{BusArgs, ControllerArgs};
use skein::controller::{self, End};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::kubelet::Kubelet;
use crate::support::apiserver::ApiServer;
use crate::support::eventually;
use crate::support::nats::Nats;
use crate::support::proxy::Proxy;
use crate::support::rights;

/// The names of leases of controllers that shall not wait for each other.
const LEASES: &[&str] = &["first", "second"];

/// A namespace of the API server that tests share, and a broker.
pub struct Stage {
    server: Arc<ApiServer>,
    client: Client,
    pub namespace: String,
    pub nats: Nats,
    pub bus: Bus,
}

impl Stage {
    pub async fn new() -> Self {
        let server = ApiServer::shared();
        let client = server.client().await;
        let namespace = server.namespace(&client).await;
        rights::grant(&client, &namespace, LEASES).await;
        let nats = Nats::start().await;
        let bus = Bus::connect(&nats.url(), "stage").await.unwrap();
        let _ = bus.state().wait_for(|connected| *connected).await;
        Self { server, client, namespace, nats, bus }
    }

    /// Another namespace, with the same broker.
    pub async fn another(&self) -> String {
        let namespace = self.server.namespace(&self.client).await;
        rights::grant(&self.client, &namespace, LEASES).await;
        namespace
    }

    /// A client that sees the whole cluster. Controllers see the namespace only, through a proxy.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn team(&self) -> Team {
        Team::new(self.client(), &self.namespace)
    }

    pub fn kubelet(&self) -> Kubelet {
        Kubelet::start(self.client(), &self.namespace)
    }

    /// The objects of one kind in the namespace.
    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client(), &self.namespace)
    }

    /// Starts a controller that elects itself by the lease that all share.
    pub async fn controller(&self, identity: &str) -> Controller {
        let proxy = Proxy::start(self.client(), &self.namespace, None).await;
        Controller::start(proxy, &self.nats.url(), identity, "skein-controller")
    }
}

/// A controller inside this process, before the API server through a proxy. It ends with this value.
pub struct Controller {
    pub proxy: Proxy,
    shutdown: CancellationToken,
    task: AbortOnDropHandle<Result<End, String>>,
}

impl Controller {
    /// Starts a controller that elects itself by a lease of the namespace that its proxy shows.
    pub fn start(proxy: Proxy, nats_url: &str, identity: &str, lease: &str) -> Self {
        let shutdown = CancellationToken::new();
        let args = args(nats_url, proxy.namespace(), identity, lease);
        let task = AbortOnDropHandle::new(tokio::spawn(controller::run(args, proxy.client(), shutdown.clone())));
        Self { proxy, shutdown, task }
    }

    /// Tells it to end, as SIGTERM does, and waits until it has.
    pub async fn end(self) -> Result<End, String> {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }

    /// The same, and leaves the proxy, which knows all that was asked.
    pub async fn end_behind_proxy(self) -> Proxy {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.proxy
    }

    /// Ends it at once, as SIGKILL does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn args(nats_url: &str, namespace: &str, identity: &str, lease: &str) -> ControllerArgs {
    ControllerArgs {
        bus: BusArgs { nats_url: nats_url.to_owned() },
        agent_nats_url: None,
        sidecar_image: "example/skein:test".to_owned(),
        sidecar_image_pull_policy: "Never".to_owned(),
        lease_namespace: namespace.to_owned(),
        lease_name: lease.to_owned(),
        identity: identity.to_owned(),
        admin_address: ([127, 0, 0, 1], 0).into(),
    }
}

/// The pool `coder` of a namespace and what belongs to it.
#[derive(Clone)]
pub struct Team {
    pub pools: Api<AgentPool>,
    pub topologies: Api<Topology>,
    pub pods: Api<Pod>,
}

impl Team {
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            pools: Api::namespaced(client.clone(), namespace),
            topologies: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client, namespace),
        }
    }

    /// Makes the topology `team` with the pool `coder` as its member.
    pub async fn create_topology(&self) {
        let topology = json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "Topology", "metadata": {"name": "team"},
            "spec": {"architecture": "Flat", "members": [{"pool": "coder"}]},
        });
        let _ = self.topologies.create(&PostParams::default(), &serde_json::from_value(topology).unwrap()).await.unwrap();
    }

    /// Makes the pool `coder`; `more` is merged into its spec.
    pub async fn create_pool(&self, replicas: u32, more: Value) {
        let mut pool = json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": "coder"},
            "spec": {
                "replicas": replicas, "agent": {"port": 8080},
                "template": {"spec": {"containers": [{"name": "agent", "image": "example/coder:1"}]}},
            },
        });
        json_patch(&mut pool["spec"], &more);
        self.pools.create(&PostParams::default(), &serde_json::from_value(pool).unwrap()).await.unwrap();
    }

    /// Merges something into the pool's spec.
    pub async fn edit(&self, spec: Value) {
        self.pools.patch("coder", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    }

    pub async fn use_image(&self, image: &str) {
        self.edit(json!({"template": {"spec": {"containers": [{"name": "agent", "image": image}]}}})).await;
    }

    pub async fn pool(&self) -> AgentPool {
        self.pools.get("coder").await.unwrap()
    }

    /// The pods of the pool that are not ending, by name, with their image.
    pub async fn agents(&self) -> Vec<(String, String)> {
        let pods = self.pods.list(&ListParams::default().labels("skein.dev/pool=coder")).await.unwrap().items;
        let here = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let mut all: Vec<_> = here.map(|pod| (pod.name_any(), pod.spec.unwrap().containers[0].image.clone().unwrap())).collect();
        all.sort();
        all
    }

    /// The UIDs of the pods of the pool.
    pub async fn uids(&self) -> Vec<String> {
        let pods = self.pods.list(&ListParams::default().labels("skein.dev/pool=coder")).await.unwrap().items;
        pods.iter().filter_map(|pod| pod.uid()).collect()
    }

    /// Takes a pod from whoever controls it, as Kubernetes does when the owner is deleted without it.
    pub async fn orphan(&self, pod: &str) {
        orphan(&self.pods, pod).await;
    }

    /// Waits until a condition of the pool, as it is now, is so: `Ready=True/Ready`.
    pub async fn until(&self, wanted: &str) -> AgentPool {
        let (type_, rest) = wanted.split_once('=').unwrap();
        let (status, reason) = rest.split_once('/').unwrap();
        eventually(wanted, || async {
            let pool = self.pools.get_opt("coder").await.unwrap()?;
            let conditions = &pool.status.as_ref()?.conditions;
            let found = condition::find(conditions, type_)?;
            let fits = found.status == status && found.reason == reason && found.observed_generation == pool.metadata.generation;
            fits.then(|| pool.clone())
        })
        .await
    }

    /// Waits until exactly so many agents are there, all ready and of the newest revision, and the status says so.
    pub async fn until_settled(&self, count: u32) -> AgentPool {
        eventually(&format!("{count} agents and nothing under way"), || async {
            let pool = self.pools.get_opt("coder").await.unwrap()?;
            let status = pool.status.clone()?;
            let count = i32::try_from(count).unwrap();
            let counts = [status.replicas, status.ready_replicas, status.updated_replicas, status.desired_replicas];
            let settled = condition::find(&status.conditions, condition::PROGRESSING)?;
            let settled = settled.status == "False" && settled.observed_generation == pool.metadata.generation;
            (settled && counts == [count; 4] && self.uids().await.len() == usize::try_from(count).unwrap()).then_some(pool)
        })
        .await
    }
}

fn json_patch(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                json_patch(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// Takes an object from whoever controls it.
pub async fn orphan<K: Clone + std::fmt::Debug + serde::de::DeserializeOwned>(api: &Api<K>, name: &str) {
    let nobodys = json!({"metadata": {"ownerReferences": null}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(nobodys)).await.unwrap();
}

/// The sentence of a condition.
pub fn message(pool: &AgentPool, type_: &str) -> String {
    condition::find(&pool.status.as_ref().unwrap().conditions, type_).unwrap().message.clone()
}
