//! The controller of Topologies: makes the journal, the queues and the programs of each team on the bus
//! what the topology says, and tells how the team is.
//!
//! ```text
//!  observe ──► validate ──► build ──► plan ──► apply ──► report
//!     ▲                                           │
//!  poll (every few seconds, the bus only) ◄───────┘ what is in force
//! ```
//!
//! `farewell` takes a topology off the bus that is being deleted, when [`drain`] lets it; [`memory`] is what a look
//! leaves to the next one.
//!
//! `poll` looks at the bus, and asks for a reconcile of a topology when the bus is not what it should
//! be; it also counts queues and trims journals. A reconcile asks the bus afresh. So nothing is written
//! to the API server, and nothing asked of it, while nothing changes.

pub mod apply;
pub mod build;
pub mod drain;
mod farewell;
pub mod memory;
pub mod observe;
pub mod plan;
mod poll;
pub mod report;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::outcome::{Error, Outcome, drive};
use crate::api::{Topology, TopologyStatus, labels};
use crate::bus::Team;
use crate::bus::nats::BusError;
use crate::bus::nats::trim::Progress;
use crate::kubernetes::Class;
use crate::kubernetes::events::News;
use crate::kubernetes::write::{self, Written};
use crate::topology::findings;
use apply::apply;
use build::{Wanted, build};
use memory::Memory;
use observe::{on_bus, team};
use plan::{Step, plan};
use report::{Bus, Facts, report, transitions};
use validate::validate;

/// How soon to look again at a broker that did not answer.
const AWAY: Duration = Duration::from_secs(5);
/// How soon to look again at a broker that refused: somebody must change something there.
const REFUSED: Duration = Duration::from_secs(5);
/// How soon to look again for what could not be done in the same look.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs the controller until told to end, and then until what it has begun is done.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let memory = Arc::new(Memory::default());
    let reconcile = {
        let memory = Arc::clone(&memory);
        move |topology: Arc<Topology>, context: Arc<Context>| reconcile(topology, context, Arc::clone(&memory))
    };
    let forget = |_: &Context, namespace: &str, name: &str| memory.forget(&Team::new(namespace, name));
    tokio::select! {
        () = drive("topology", |context| (&context.stores.topologies, &context.topologies), Arc::clone(&context), shutdown, reconcile, forget) => {}
        () = poll::run(&context, &memory) => {}
    }
}

/// Looks at one topology and acts.
///
/// # Errors
/// When the API server could not be written to. What is wrong with the bus goes into the status.
pub async fn reconcile(topology: Arc<Topology>, context: Arc<Context>, memory: Arc<Memory>) -> Result<Outcome, Error> {
    if topology.metadata.deletion_timestamp.is_some() {
        return farewell::farewell(&topology, &context, &memory).await;
    }
    // The journal lies outside the API server: before it is made, the topology must not be able to go
    // without it.
    let topology = if topology.finalizers().iter().any(|f| f == labels::FINALIZER) {
        topology
    } else {
        Arc::new(write::finalizers(&context.client, labels::FIELD_MANAGER_TOPOLOGY, topology.as_ref(), &[labels::FINALIZER]).await?)
    };
    let team = team(&topology);
    let members = observe::members(&topology, &context.stores);
    let valid = validate(&topology, &members);
    let wanted = match &valid {
        Ok(accepted) => Some(Arc::new(build(&topology, &members, accepted).map_err(|error| Error::new(Class::Refused, error))?)),
        // What was accepted before stays in force, also when the bus has lost it.
        Err(_) => memory.in_force(&team),
    };
    let before = memory.status(&team, &topology);
    let done = match wanted {
        Some(wanted) => program(&topology, &context, &memory, &team, wanted, before.applied_revision.is_some()).await,
        None => Programmed { bus: Bus::NotAccepted, left: BTreeMap::new(), full: None, after: None },
    };
    let (edges, bus, findings) = match &valid {
        Ok(accepted) => (Ok(accepted.edges.len()), done.bus, findings(&topology.spec, &accepted.edges, &accepted.pools)),
        Err(problems) => {
            let bus = if matches!(done.bus, Bus::Away(_)) { done.bus } else { Bus::NotAccepted };
            // What is in force is what was accepted before, and as weak as it was.
            (Err(problems.as_slice()), bus, before.findings.clone())
        }
    };
    let facts = Facts { topology: &topology, members: &members, edges, findings: &findings, bus, left: &done.left, full: done.full };
    tell(&facts, &context, &memory, &team, &before).await?;
    Ok(done.after.map_or(Outcome::Done, Outcome::After))
}

/// What became of the bus.
struct Programmed {
    bus: Bus,
    left: BTreeMap<String, Progress>,
    full: Option<u64>,
    after: Option<Duration>,
}

/// Makes the bus what is wanted.
async fn program(topology: &Topology, context: &Context, memory: &Memory, team: &Team, wanted: Arc<Wanted>, known: bool) -> Programmed {
    let found = match on_bus(&context.bus, memory, team).await {
        Ok(found) => found,
        Err(error) => return Programmed::failed("look at the bus", &error),
    };
    let plan = plan(team, &wanted, &found);
    let full = found.journal.as_ref().and_then(poll::worrying);
    let applied = apply(&context.bus, team, plan.steps).await;
    repaired(&applied.done, topology, context, memory.in_force(team).as_deref(), known).await;
    if let Some((step, error)) = &applied.failed {
        return Programmed { left: plan.left, full, ..Programmed::failed(step, error) };
    }
    let revision = wanted.revision.clone();
    memory.put_into_force(team, wanted);
    let bus = if plan.conflicts.is_empty() { Bus::InForce { revision } } else { Bus::Conflict(plan.conflicts) };
    let after = if matches!(bus, Bus::Conflict(_)) { Some(REFUSED) } else { plan.again.then_some(AGAIN) };
    Programmed { bus, left: plan.left, full, after }
}

impl Programmed {
    fn failed(doing: &str, error: &BusError) -> Self {
        let (bus, after) = match error {
            BusError::Disconnected | BusError::Timeout => (Bus::Away(error.to_string()), AWAY),
            other => (Bus::Refused(format!("{doing}: {other}")), REFUSED),
        };
        Self { bus, left: BTreeMap::new(), full: None, after: Some(after) }
    }
}

/// Tells people of what was made again that had been there before.
async fn repaired(done: &[Step], topology: &Topology, context: &Context, in_force: Option<&Wanted>, known: bool) {
    let about = topology.object_ref(&());
    let mut repairs = Vec::new();
    for step in done {
        let kind = match step {
            Step::CreateStream(config) if known && Team::of_stream(&config.name).is_some() => {
                let note = format!("the bus had lost journal {}: it is made anew, and the work that was in it is gone", config.name);
                context.events.tell(&about, News::warning("Program", "JournalLost", note)).await;
                "journal"
            }
            Step::CreateStream(_) if in_force.is_some() => "bucket",
            Step::MakeQueue(pool) if in_force.is_some_and(|before| before.queues.contains_key(pool)) => "queue",
            Step::PutProgram(key, program) if in_force.is_some_and(|before| before.programs.get(key) == Some(program)) => "program",
            Step::UpdateStream(_) | Step::UpdateQueue(_) if in_force.is_some() => "configuration",
            _ => continue,
        };
        context.metrics.bus_repairs.with_label_values(&[kind]).inc();
        repairs.push(step.to_string());
    }
    if !repairs.is_empty() {
        let note = format!("the bus was not what the topology says, and has been mended: {}", repairs.join("; "));
        context.events.tell(&about, News::normal("Program", "Repaired", note)).await;
    }
}

/// Writes the status when it has changed, and tells people of the transitions.
async fn tell(facts: &Facts<'_>, context: &Context, memory: &Memory, team: &Team, before: &TopologyStatus) -> Result<(), Error> {
    let status = report(facts, before, context.now());
    if status == *before {
        return Ok(());
    }
    if write::apply_status(&context.client, labels::FIELD_MANAGER_TOPOLOGY_STATUS, facts.topology, &status).await? == Written::Gone {
        return Ok(());
    }
    let told = transitions(before, &status);
    memory.wrote(team, facts.topology, status);
    let about = facts.topology.object_ref(&());
    for news in told {
        context.events.tell(&about, news).await;
    }
    Ok(())
}
