//! What this process remembers between two looks at a topology. All of it may be forgotten: it saves
//! requests and tells a repair from a first time, and decides nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kube::ResourceExt as _;

use super::build::Wanted;
use crate::api::{Topology, TopologyStatus};
use crate::bus::Team;
use crate::bus::nats::admin::Stream;
use crate::bus::nats::{Bus, BusError};
use crate::lock::lock;

/// Which bucket it was, and its newest message: two that are equal hold the same programs.
type Stamp = (String, u64);

/// All programs of the bucket, by key.
pub type Programs = Arc<BTreeMap<String, Bytes>>;

/// A status that was written, and the version of the object that it was computed from.
struct Written {
    version: Option<String>,
    status: TopologyStatus,
}

/// The memory of the controller.
#[derive(Default)]
pub struct Memory {
    programs: tokio::sync::Mutex<Option<(Stamp, Programs)>>,
    in_force: Mutex<HashMap<Team, Arc<Wanted>>>,
    written: Mutex<HashMap<Team, Written>>,
}

impl Memory {
    /// All programs that the bucket holds. Read again only when the bucket has changed.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn programs(&self, bus: &Bus, bucket: &Stream) -> Result<Programs, BusError> {
        let stamp = (bucket.created.clone(), bucket.held.last);
        let mut held = self.programs.lock().await;
        if let Some((known, programs)) = held.as_ref()
            && *known == stamp
        {
            return Ok(Arc::clone(programs));
        }
        let programs = Arc::new(bus.list_programs("").await?);
        *held = Some((stamp, Arc::clone(&programs)));
        Ok(programs)
    }

    /// What was put into force last.
    #[must_use]
    pub fn in_force(&self, team: &Team) -> Option<Arc<Wanted>> {
        lock(&self.in_force).get(team).cloned()
    }

    /// Notes what is in force.
    pub fn put_into_force(&self, team: &Team, wanted: Arc<Wanted>) {
        lock(&self.in_force).insert(team.clone(), wanted);
    }

    /// The status of a topology: that of the object, unless the store has not heard yet of what was
    /// written last.
    #[must_use]
    pub fn status(&self, team: &Team, topology: &Topology) -> TopologyStatus {
        match lock(&self.written).get(team) {
            Some(written) if written.version == topology.resource_version() => written.status.clone(),
            _ => topology.status.clone().unwrap_or_default(),
        }
    }

    /// Notes what was written, and of which version of the object it was computed.
    pub fn wrote(&self, team: &Team, topology: &Topology, status: TopologyStatus) {
        lock(&self.written).insert(team.clone(), Written { version: topology.resource_version(), status });
    }

    /// Forgets a topology that is gone.
    pub fn forget(&self, team: &Team) {
        lock(&self.in_force).remove(team);
        lock(&self.written).remove(team);
    }
}
