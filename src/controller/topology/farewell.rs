//! The end of a topology: the way in is closed, the team ends what it has, then its programs, its
//! journal and at last its finalizer go. Each step may be done twice; a crash between any two is made
//! good by the next look.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Resource as _;
use kube::ResourceExt as _;

use super::drain::{Drain, drain};
use super::memory::Memory;
use super::observe::{self, Members, OnBus, on_bus, team};
use super::plan::programs_of;
use super::report::{Bus, Facts};
use super::{AWAY, tell};
use crate::api::{Topology, labels};
use crate::bus::Team;
use crate::bus::nats::BusError;
use crate::controller::context::Context;
use crate::controller::outcome::{Error, Outcome};
use crate::kubernetes::events::News;
use crate::kubernetes::{Class, write};
use crate::topology::{check, edges};

/// How soon to look again whether the team has ended its work.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at a topology that is being deleted, and goes as far as it can.
///
/// # Errors
/// When the API server could not be written to. That the bus is away is no error: it is said and
/// waited for, and whoever cannot wait removes the finalizer.
pub(super) async fn farewell(topology: &Topology, context: &Context, memory: &Memory) -> Result<Outcome, Error> {
    let team = team(topology);
    if !topology.finalizers().iter().any(|f| f == labels::FINALIZER) {
        memory.forget(&team);
        return Ok(Outcome::Done);
    }
    let members = observe::members(topology, &context.stores);
    let (bus, after) = match leave(topology, context, memory, &team, &members).await {
        Ok(None) => {
            release(topology, context).await?;
            memory.forget(&team);
            return Ok(Outcome::Done);
        }
        Ok(Some((message, left))) => (Bus::Leaving(message), left.min(LOOK)),
        Err(error) => {
            let message = format!(
                "the journal cannot be deleted yet: {error}. This is tried again for as long as it takes; if the broker is gone for good, remove the finalizer {} by hand",
                labels::FINALIZER
            );
            (Bus::Leaving(message), AWAY)
        }
    };
    let problems = check(&topology.spec);
    let before = memory.status(&team, topology);
    let facts = Facts {
        topology,
        members: &members,
        edges: if problems.is_empty() { Ok(edges(&topology.spec).len()) } else { Err(&problems) },
        findings: &before.findings,
        bus,
        left: &BTreeMap::new(),
        full: None,
    };
    tell(&facts, context, memory, &team, &before).await?;
    Ok(Outcome::After(after))
}

/// Takes the team off the bus. Says what is waited for, and for how long at most, when it cannot yet.
async fn leave(
    topology: &Topology,
    context: &Context,
    memory: &Memory,
    team: &Team,
    members: &Members,
) -> Result<Option<(String, Duration)>, BusError> {
    let OnBus { journal, queues, programs, .. } = &on_bus(&context.bus, memory, team).await?;
    if programs.contains_key(&team.program_key()) {
        context.bus.delete_program(&team.program_key()).await?;
    }
    let now = context.now();
    let deleted = topology.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    let lost = match drain(deleted, now, members, queues) {
        Drain::Wait { message, left } => return Ok(Some((message, left))),
        Drain::Go { lost } => lost,
    };
    let found = OnBus { programs: programs.clone(), ..OnBus::default() };
    for key in programs_of(team, &found) {
        context.bus.withdraw_program(key, &team.topology).await?;
    }
    if journal.is_some() {
        context.bus.delete_journal(team).await?;
        tracing::info!(namespace = team.namespace, topology = team.topology, lost, "the journal is deleted");
    }
    if let Some(lost) = lost {
        context.events.tell(&topology.object_ref(&()), News::warning("Delete", "TasksLost", lost)).await;
    }
    Ok(None)
}

/// Lets the topology go. That it is gone already is as good.
async fn release(topology: &Topology, context: &Context) -> Result<(), Error> {
    match write::finalizers(&context.client, labels::FIELD_MANAGER_TOPOLOGY, topology, &[]).await {
        Ok(_) => Ok(()),
        // The object may have gone, or another one may have taken its name: its uid guards it.
        Err(error) if error.code() == Some(404) || error.class() == Class::Conflict => Ok(()),
        Err(error) => Err(error.into()),
    }
}
