//! Every watch of the controller, in one place: what is watched, what is thrown away before it is kept,
//! and which object each change asks a look at. Nothing else builds a watcher.
//!
//! Watches run on every replica, so that a new leader acts at once. Reconciles read the stores that the
//! watches fill, and send no list.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::context::{Context, Stores};
use super::pods;
use super::roster::PoolKey;
use crate::api::{AgentPool, Topology, labels};

/// How many pods are listed at a time.
const PODS_IN_A_PAGE: u32 = 100;

/// The ends of the stores that the watches write to.
pub struct Writers {
    pub(super) pools: reflector::store::Writer<AgentPool>,
    pub(super) topologies: reflector::store::Writer<Topology>,
    pub(super) pods: pods::Writer,
    pub(super) budgets: reflector::store::Writer<PodDisruptionBudget>,
    pub(super) accounts: reflector::store::Writer<ServiceAccount>,
}

/// Empty stores and the ends that fill them.
#[must_use]
pub fn stores() -> (Stores, Writers) {
    let (pools, pools_writer) = reflector::store();
    let (topologies, topologies_writer) = reflector::store();
    let (pods, pods_writer) = pods::store();
    let (budgets, budgets_writer) = reflector::store();
    let (accounts, accounts_writer) = reflector::store();
    (
        Stores { pools, topologies, pods, budgets, accounts },
        Writers {
            pools: pools_writer,
            topologies: topologies_writer,
            pods: pods_writer,
            budgets: budgets_writer,
            accounts: accounts_writer,
        },
    )
}

impl Stores {
    /// Waits until every store has been filled once. Fails when a watch has ended before.
    pub async fn wait_until_ready(&self) -> bool {
        let mut pods = self.pods.clone();
        self.pools.wait_until_ready().await.is_ok()
            && self.topologies.wait_until_ready().await.is_ok()
            && self.budgets.wait_until_ready().await.is_ok()
            && self.accounts.wait_until_ready().await.is_ok()
            && pods.wait_until_ready().await
    }
}

/// Follows everything until told to end.
pub async fn run(writers: Writers, context: Arc<Context>, shutdown: CancellationToken) {
    let Writers { pools, topologies, pods, budgets, accounts } = writers;
    let client = context.client.clone();
    let ours = || Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let everything = async {
        tokio::join!(
            follow(guarded(&client), pools, &context, on_pool),
            follow(guarded(&client), topologies, &context, on_topology),
            follow_pods(&client, ours(), pods, &context),
            follow(watch(Api::<PodDisruptionBudget>::all(client.clone()), ours()), budgets, &context, on_owned),
            follow(watch(Api::<ServiceAccount>::all(client.clone()), ours()), accounts, &context, on_owned),
        );
    };
    tokio::select! {
        () = everything => {}
        () = shutdown.cancelled() => {}
    }
}

/// Watches all objects of a kind. One that cannot be read is logged and left out: it must not blind the
/// controller for the rest.
fn guarded<K>(client: &Client) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    watch(api, Config::default()).filter_map(|event| async {
        let read = |guard: DeserializeGuard<K>| match guard.0 {
            Ok(object) => Some(object),
            Err(unreadable) => {
                let (namespace, name) = (unreadable.metadata.namespace.as_deref(), unreadable.metadata.name.as_deref());
                tracing::error!(kind = %K::kind(&()), namespace, name, problem = unreadable.error, "an object cannot be read and is left out");
                None
            }
        };
        match event {
            Ok(Event::Apply(object)) => read(object).map(|object| Ok(Event::Apply(object))),
            Ok(Event::Delete(object)) => read(object).map(|object| Ok(Event::Delete(object))),
            Ok(Event::InitApply(object)) => read(object).map(|object| Ok(Event::InitApply(object))),
            Ok(Event::Init) => Some(Ok(Event::Init)),
            Ok(Event::InitDone) => Some(Ok(Event::InitDone)),
            Err(problem) => Some(Err(problem)),
        }
    })
}

/// Keeps a store equal to what a watch says, and tells `changed` of each object before and after a change.
async fn follow<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    mut writer: reflector::store::Writer<K>,
    context: &Context,
    changed: impl Fn(&Context, &K),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let store: Store<K> = writer.as_reader();
    let mut events = std::pin::pin!(events.default_backoff());
    let mut listed: Vec<K> = Vec::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event.modify(|object| object.managed_fields_mut().clear()),
            Err(problem) => {
                tracing::warn!(kind = %K::kind(&()), %problem, "the watch was interrupted; it goes on");
                continue;
            }
        };
        match &event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => listed.push(object.clone()),
            Event::InitDone => {
                let before = store.state();
                writer.apply_watcher_event(&event);
                before.iter().for_each(|object| changed(context, object));
                listed.drain(..).for_each(|object| changed(context, &object));
                continue;
            }
            Event::Apply(object) | Event::Delete(object) => {
                let before = store.get(&ObjectRef::from_obj(object));
                writer.apply_watcher_event(&event);
                changed(context, object);
                if let Some(before) = before {
                    changed(context, &before);
                }
                continue;
            }
        }
        writer.apply_watcher_event(&event);
    }
}

async fn follow_pods(client: &Client, config: Config, mut writer: pods::Writer, context: &Context) {
    // What a page takes is not given back.
    let config = config.page_size(PODS_IN_A_PAGE);
    let mut events = std::pin::pin!(watch(Api::<pods::Slim>::all(client.clone()), config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                for PoolKey { namespace, pool } in writer.apply(event) {
                    context.pools.ask(&namespace, &pool);
                }
            }
            Err(problem) => tracing::warn!(kind = "Pod", %problem, "the watch was interrupted; it goes on"),
        }
    }
}

/// A pool matters to itself and to the topologies that name it.
fn on_pool(context: &Context, pool: &AgentPool) {
    context.pools.push(ObjectRef::from_obj(pool));
    let name = pool.name_any();
    for topology in context.stores.topologies.state() {
        if topology.namespace() == pool.namespace() && topology.spec.members.iter().any(|member| member.pool == name) {
            context.topologies.push(ObjectRef::from_obj(topology.as_ref()));
        }
    }
}

/// A topology matters to itself, to its members, and to the topologies that name a pool that it has.
fn on_topology(context: &Context, topology: &Topology) {
    context.topologies.push(ObjectRef::from_obj(topology));
    let namespace = topology.namespace().unwrap_or_default();
    let members: HashSet<&str> = topology.spec.members.iter().map(|member| member.pool.as_str()).collect();
    for member in &members {
        context.pools.ask(&namespace, member);
    }
    for other in context.stores.topologies.state() {
        let related = other.namespace() == topology.namespace() && other.name_any() != topology.name_any();
        if related && other.spec.members.iter().any(|member| members.contains(member.pool.as_str())) {
            context.topologies.push(ObjectRef::from_obj(other.as_ref()));
        }
    }
}

/// An account or budget matters to the pool in its label.
fn on_owned<K: Resource>(context: &Context, object: &K) {
    if let Some(pool) = object.labels().get(labels::POOL) {
        context.pools.ask(&object.namespace().unwrap_or_default(), pool);
    }
}
