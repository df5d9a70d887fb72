//! Everything that the controllers work with: one value, made at the start, shared by all reconciles.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::reflector::Store;

use super::agent_pool::memory::Memory;
use super::pods::Pods;
use super::requests::Requests;
use super::roster::{PoolKey, Roster};
use crate::api::agent_pool::QueueStatus;
use crate::api::{AgentPool, Topology};
use crate::bus::nats::Bus;
use crate::cli::ControllerArgs;
use crate::kubernetes::Events;
use crate::lock::lock;
use crate::telemetry::metrics::controller::Metrics;

/// What every reconcile may use.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The broker.
    pub bus: Bus,
    /// What the API server holds, as the watches saw it last.
    pub stores: Stores,
    /// Who has been heard on the bus.
    pub roster: Roster,
    /// What is measured.
    pub metrics: Metrics,
    /// What people read under `kubectl describe`.
    pub events: Events,
    /// What the controller was told at its start.
    pub config: Config,
    /// The wall clock.
    pub clock: Clock,
    /// Pools that have to be looked at.
    pub pools: Requests<AgentPool>,
    /// Topologies that have to be looked at.
    pub topologies: Requests<Topology>,
    /// What this process remembers of each pool.
    pub(super) memory: Memory,
    queues: Mutex<HashMap<PoolKey, QueueStatus>>,
}

/// The stores that the watches fill. Reading them costs no request.
#[derive(Clone)]
pub struct Stores {
    /// All pools.
    pub pools: Store<AgentPool>,
    /// All topologies.
    pub topologies: Store<Topology>,
    /// All pods that carry our labels, by pool; only what the controller must know of each.
    pub pods: Pods,
    /// All disruption budgets that carry our labels.
    pub budgets: Store<PodDisruptionBudget>,
    /// All service accounts that carry our labels.
    pub accounts: Store<ServiceAccount>,
}

/// What the controller was told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The image of the sidecar.
    pub sidecar_image: String,
    /// The pull policy of the sidecar's image.
    pub sidecar_image_pull_policy: String,
    /// Where agents find the bus.
    pub agent_nats_url: String,
    /// The name of this replica.
    pub identity: String,
}

impl From<&ControllerArgs> for Config {
    fn from(args: &ControllerArgs) -> Self {
        Self {
            sidecar_image: args.sidecar_image.clone(),
            sidecar_image_pull_policy: args.sidecar_image_pull_policy.clone(),
            agent_nats_url: args.agent_nats_url.as_ref().unwrap_or(&args.bus.nats_url).clone(),
            identity: args.identity.clone(),
        }
    }
}

/// The wall clock, or one of a test.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl Context {
    /// Puts a context together; nothing has been looked at yet.
    #[must_use]
    pub fn new(client: Client, bus: Bus, stores: Stores, roster: Roster, metrics: Metrics, config: Config) -> Self {
        Self {
            events: Events::new(client.clone(), "skein.dev/controller", &config.identity),
            client,
            bus,
            stores,
            roster,
            metrics,
            config,
            clock: Arc::new(Timestamp::now),
            pools: Requests::default(),
            topologies: Requests::default(),
            memory: Memory::default(),
            queues: Mutex::default(),
        }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// What waits for a pool, as the bus says; `None` while it is in no topology.
    #[must_use]
    pub fn queue(&self, key: &PoolKey) -> Option<QueueStatus> {
        self.queues().get(key).cloned()
    }

    /// Notes what waits for a pool, and has the pool looked at when that is news.
    pub fn set_queue(&self, key: &PoolKey, queue: Option<QueueStatus>) {
        let news = {
            let mut queues = self.queues();
            let news = queues.get(key) != queue.as_ref();
            match queue {
                Some(queue) => queues.insert(key.clone(), queue),
                None => queues.remove(key),
            };
            news
        };
        if news {
            self.pools.ask(&key.namespace, &key.pool);
        }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<PoolKey, QueueStatus>> {
        lock(&self.queues)
    }
}
