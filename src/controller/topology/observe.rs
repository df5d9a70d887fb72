//! What there is: of the topology's members in the stores, of its journal, queues and programs on the bus.
//!
//! Reads only. The members cost no request; the bus is asked afresh in every reconcile, because it is
//! no store of ours and may have lost everything a moment ago.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::memory::{Memory, Programs};
use crate::api::{AgentPool, Topology};
use crate::bus::Team;
use crate::bus::nats::admin::{Queue, Stream};
use crate::bus::nats::{Bus, BusError};
use crate::controller::context::Stores;
use crate::topology::membership;

/// What became of the name of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Member {
    /// The pool exists and belongs to this topology.
    Here(Arc<AgentPool>),
    /// There is no such pool.
    Missing,
    /// The pool belongs to an older topology, which is named.
    Elsewhere(String),
}

impl Member {
    /// The pool, when it is there and ours.
    #[must_use]
    pub fn pool(&self) -> Option<&AgentPool> {
        match self {
            Self::Here(pool) => Some(pool),
            Self::Missing | Self::Elsewhere(_) => None,
        }
    }
}

/// The members of a topology, by the name of the pool.
pub type Members = BTreeMap<String, Member>;

/// What the bus holds of one team.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnBus {
    /// The bucket of the programs, which all teams share.
    pub bucket: Option<Stream>,
    /// The journal.
    pub journal: Option<Stream>,
    /// The consumers of the journal that acknowledge, by name.
    pub queues: BTreeMap<String, Queue>,
    /// All programs of the bucket, by key.
    pub programs: Programs,
}

/// The name of a topology on the bus.
#[must_use]
pub fn team(topology: &Topology) -> Team {
    Team::new(topology.namespace().unwrap_or_default(), topology.name_any())
}

/// Looks the members up in the stores.
#[must_use]
pub fn members(topology: &Topology, stores: &Stores) -> Members {
    let namespace = topology.namespace().unwrap_or_default();
    let topologies = stores.topologies.state();
    let look = |name: &str| {
        let owner = membership::owner(&namespace, name, topologies.iter().map(AsRef::as_ref)).map(|owner| owner.name_any());
        match (owner, stores.pools.get(&ObjectRef::new(name).within(&namespace))) {
            // The stores may know less of this topology than whoever calls: then nobody owns the pool yet.
            (Some(owner), Some(_)) if owner != topology.name_any() => Member::Elsewhere(owner),
            (_, Some(pool)) => Member::Here(pool),
            (_, None) => Member::Missing,
        }
    };
    topology.spec.members.iter().map(|member| (member.pool.clone(), look(&member.pool))).collect()
}

/// Asks the bus.
///
/// # Errors
/// When the broker cannot be reached or does not answer.
pub async fn on_bus(bus: &Bus, memory: &Memory, team: &Team) -> Result<OnBus, BusError> {
    let bucket = bus.bucket().await?;
    // The journal before its queues: see `trim::Progress`.
    let journal = bus.journal(team).await?;
    let queues = if journal.is_some() { bus.queues(team).await? } else { BTreeMap::new() };
    let programs = match &bucket {
        Some(bucket) => memory.programs(bus, bucket).await?,
        None => Arc::default(),
    };
    Ok(OnBus { bucket, journal, queues, programs })
}
