//! Looks at the bus every few seconds: what the topologies put there may be changed or lost without
//! anybody telling, queues fill, journals grow.
//!
//! One list of all journals costs the broker a millisecond; the queues of a team are asked for only when
//! its journal has changed, when something was in them, or now and then. A team whose bus is not what
//! it should be gets a reconcile; this file itself changes nothing but what it trims.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use tokio::time::MissedTickBehavior;

use super::build::Wanted;
use super::memory::{Memory, Programs};
use super::observe::{OnBus, team};
use super::plan::plan;
use super::report::WORRYING;
use crate::api::agent_pool::QueueStatus;
use crate::api::{Topology, condition};
use crate::bus::Team;
use crate::bus::nats::BusError;
use crate::bus::nats::admin::{Queue, Stream};
use crate::bus::nats::trim::{Limits, Progress, Trim, decide};
use crate::controller::context::Context;
use crate::controller::roster::PoolKey;

/// The time between two looks.
const PERIOD: Duration = Duration::from_secs(3);
/// After how many looks the queues of a team are asked for even though nothing seems to have changed.
const PATIENCE: u32 = 10;

/// What was seen of one team in the last look.
#[derive(Default)]
struct Seen {
    journal: Option<Stream>,
    queues: BTreeMap<String, Queue>,
    skipped: u32,
    left: BTreeMap<String, Progress>,
    full: bool,
    /// What was compared when all was as it should be.
    right: Option<(Arc<Wanted>, Programs)>,
}

/// What was seen in the last look.
#[derive(Default)]
struct Last {
    answered: bool,
    teams: BTreeMap<Team, Seen>,
    pools: BTreeSet<PoolKey>,
    journals: BTreeSet<Team>,
    orphans: BTreeSet<Team>,
}

/// Looks for ever.
pub(super) async fn run(context: &Arc<Context>, memory: &Memory) {
    let mut state = context.bus.state();
    let mut last = Last { answered: true, ..Last::default() };
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = state.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
                // The status of every topology says whether the bus is there.
                everybody(context);
            }
        }
        count_conditions(context);
        let answered = look(context, memory, &mut last).await;
        if let Err(error) = &answered {
            tracing::debug!(%error, "the bus cannot be looked at");
        }
        if answered.is_ok() != last.answered {
            last.answered = answered.is_ok();
            everybody(context);
        }
    }
}

fn everybody(context: &Context) {
    for topology in context.stores.topologies.state() {
        context.topologies.push(ObjectRef::from_obj(topology.as_ref()));
    }
}

/// One look at everything.
async fn look(context: &Context, memory: &Memory, last: &mut Last) -> Result<(), BusError> {
    let journals = context.bus.journals().await?;
    let bucket = context.bus.bucket().await?;
    let programs = match &bucket {
        Some(bucket) => memory.programs(&context.bus, bucket).await?,
        None => Arc::default(),
    };
    let topologies = context.stores.topologies.state();
    let mut numbers = BTreeMap::new();
    for topology in &topologies {
        let team = team(topology);
        let Some(wanted) = memory.in_force(&team) else { continue };
        let seen = last.teams.entry(team.clone()).or_default();
        let journal = journals.get(&team);
        let changed = !same(journal, seen.journal.as_ref());
        let fresh = journal.is_some() && (changed || busy(&seen.queues) || seen.skipped >= PATIENCE);
        if fresh {
            seen.queues = context.bus.queues(&team).await?;
            seen.skipped = 0;
        } else {
            seen.skipped += 1;
        }
        for (pool, queue) in seen.queues.iter().filter(|(pool, _)| wanted.queues.contains_key(*pool)) {
            numbers.insert(PoolKey::new(&team.namespace, pool), status(queue.progress));
        }
        // What was right and has not changed is right.
        let right = Some((Arc::clone(&wanted), Arc::clone(&programs)));
        let known = seen.right.as_ref().is_some_and(|(w, p)| Arc::ptr_eq(w, &wanted) && Arc::ptr_eq(p, &programs));
        if known && !fresh && !changed {
            continue;
        }
        seen.journal = journal.cloned();
        if differs(&team, &wanted, seen, bucket.as_ref(), &programs) {
            seen.right = None;
            context.topologies.push(ObjectRef::from_obj(topology.as_ref()));
            continue;
        }
        seen.right = right;
        if let Some(journal) = journal {
            trim(context, topology, &team, journal, &seen.queues).await?;
        }
    }
    publish(context, last, &numbers, &journals);
    orphans(context, last, &topologies, &journals);
    Ok(())
}

/// Whether a journal is the same one as before and holds the same.
fn same(now: Option<&Stream>, before: Option<&Stream>) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => {
            let count = |stream: &Stream| (stream.held.first, stream.held.last, stream.consumers);
            count(now) == count(before) && now.created == before.created && now.config == before.config
        }
        (None, None) => true,
        _ => false,
    }
}

fn busy(queues: &BTreeMap<String, Queue>) -> bool {
    queues.values().any(|queue| queue.progress.pending > 0 || queue.progress.in_flight > 0)
}

/// Whether the bus is not what it should be, or something that the status tells of has changed.
fn differs(team: &Team, wanted: &Wanted, seen: &mut Seen, bucket: Option<&Stream>, programs: &Programs) -> bool {
    let found =
        OnBus { bucket: bucket.cloned(), journal: seen.journal.clone(), queues: seen.queues.clone(), programs: Arc::clone(programs) };
    let plan = plan(team, wanted, &found);
    let full = seen.journal.as_ref().and_then(worrying).is_some();
    let told = seen.full != full || seen.left != plan.left;
    seen.full = full;
    let again = plan.again || !plan.steps.is_empty();
    seen.left = plan.left;
    told || again
}

/// How full a journal is, in percent, when that is a worry.
pub(super) fn worrying(journal: &Stream) -> Option<u64> {
    let limit = u64::try_from(journal.config.max_bytes).ok().filter(|limit| *limit > 0)?;
    let percent = journal.held.bytes.saturating_mul(100) / limit;
    (percent >= WORRYING).then_some(percent)
}

/// Drops from a journal what may go. All its queues are known to be there.
async fn trim(
    context: &Context,
    topology: &Topology,
    team: &Team,
    journal: &Stream,
    queues: &BTreeMap<String, Queue>,
) -> Result<(), BusError> {
    let spec = &topology.spec.journal;
    let limits = Limits {
        max_age: Duration::from_secs(u64::try_from(spec.max_age_seconds).unwrap_or(u64::MAX)),
        max_bytes: u64::try_from(spec.max_bytes).unwrap_or(u64::MAX),
    };
    let progress: Vec<_> = queues.values().map(|queue| queue.progress).collect();
    let Trim::OlderThan { age, before } = decide(&journal.held, &limits, &progress) else { return Ok(()) };
    let young = context.bus.first_younger_than(team, journal, age).await?.unwrap_or(before);
    let before = before.min(young);
    if before <= journal.held.first {
        return Ok(());
    }
    let dropped = context.bus.purge(team, before).await?;
    context.metrics.trimmed.inc_by(dropped);
    tracing::info!(namespace = team.namespace, topology = team.topology, dropped, before, "the journal is trimmed");
    Ok(())
}

fn status(progress: Progress) -> QueueStatus {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    QueueStatus { pending: number(progress.pending), in_flight: number(progress.in_flight) }
}

/// Tells the pools how long their queues are, and Prometheus too.
fn publish(context: &Context, last: &mut Last, numbers: &BTreeMap<PoolKey, QueueStatus>, journals: &BTreeMap<Team, Stream>) {
    let metrics = &context.metrics;
    for gone in last.pools.iter().filter(|key| !numbers.contains_key(key)) {
        context.set_queue(gone, None);
        for state in ["pending", "in_flight"] {
            let _ = metrics.queue_tasks.remove_label_values(&[&gone.namespace, &gone.pool, state]);
        }
    }
    for (key, queue) in numbers {
        context.set_queue(key, Some(queue.clone()));
        metrics.queue_tasks.with_label_values(&[&key.namespace, &key.pool, "pending"]).set(queue.pending);
        metrics.queue_tasks.with_label_values(&[&key.namespace, &key.pool, "in_flight"]).set(queue.in_flight);
    }
    last.pools = numbers.keys().cloned().collect();
    for gone in last.journals.iter().filter(|team| !journals.contains_key(team)) {
        let _ = metrics.journal_bytes.remove_label_values(&[&gone.namespace, &gone.topology]);
        let _ = metrics.journal_messages.remove_label_values(&[&gone.namespace, &gone.topology]);
    }
    for (team, journal) in journals {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.journal_bytes.with_label_values(&[&team.namespace, &team.topology]).set(number(journal.held.bytes));
        metrics.journal_messages.with_label_values(&[&team.namespace, &team.topology]).set(number(journal.held.messages));
    }
    last.journals = journals.keys().cloned().collect();
}

/// Tells of journals whose topology does not exist. They are not deleted: there is work in them, and
/// the topology may belong to another cluster that shares this broker.
fn orphans(context: &Context, last: &mut Last, topologies: &[Arc<Topology>], journals: &BTreeMap<Team, Stream>) {
    let known: BTreeSet<Team> = topologies.iter().map(|topology| team(topology)).collect();
    last.teams.retain(|team, _| known.contains(team));
    let orphans: BTreeSet<Team> = journals.keys().filter(|team| !known.contains(team)).cloned().collect();
    context.metrics.orphans.set(i64::try_from(orphans.len()).unwrap_or(i64::MAX));
    for team in orphans.difference(&last.orphans) {
        tracing::warn!(
            namespace = team.namespace,
            topology = team.topology,
            stream = team.stream(),
            "the bus has a journal whose topology does not exist: make a topology of that name to go on with it, or delete the stream"
        );
    }
    last.orphans = orphans;
}

fn count_conditions(context: &Context) {
    let topologies = context.stores.topologies.state();
    for type_ in [condition::ACCEPTED, condition::RESOLVED_REFS, condition::PROGRAMMED, condition::READY, condition::DEGRADED] {
        for status in ["True", "False", "Unknown"] {
            let has = |topology: &&Arc<Topology>| {
                let conditions = topology.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
                condition::find(conditions, type_).map_or("Unknown", |c| c.status.as_str()) == status
            };
            let number = topologies.iter().filter(has).count();
            context.metrics.topologies.with_label_values(&[type_, status]).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
}
