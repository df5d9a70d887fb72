//! Carries a plan out. The only file of this controller that writes anything but the status.
//!
//! The order: first what a pod needs (its service account) and what protects it (the disruption budget);
//! then replacements are counted in the status, *before* their pods are deleted, so that a crash in
//! between costs a place in the budget and never lets more be replaced than it has; then pods are
//! deleted; then created.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::Instant;

use super::adopt::{self, is_orphan};
use super::build::{Agents, disruption_budget, service_account};
use super::memory::Remembered;
use super::observe::Seen;
use super::plan::{Deletion, LAST_WORDS, Plan, Why};
use super::validate::Validated;
use crate::api::agent_pool::RestartStatus;
use crate::api::{AgentPoolStatus, labels};
use crate::controller::context::Context;
use crate::controller::pods;
use crate::kubernetes::write::{self, Created, Object, Written, controller_uid, covers};
use crate::kubernetes::{Class, Error};
use crate::resilience::Streak;

/// How many requests one reconcile has under way at a time.
pub(super) const CONCURRENCY: usize = 32;

/// What was done.
#[derive(Debug, Default)]
pub struct Applied {
    /// The ordinals of pods that were adopted.
    pub adopted: BTreeSet<u32>,
    /// The ordinals that were created.
    pub created: BTreeSet<u32>,
    /// The pods that were told to end.
    pub deleted: Vec<Deletion>,
    /// The names that somebody else's objects have, with their kind: `pod coder-1`.
    pub taken: Vec<String>,
    /// Why the API server does not take pods, in its own words.
    pub refused: Option<String>,
    /// What supervision did, replacements of this reconcile included.
    pub restarts: RestartStatus,
    /// Whether the pool turned out to be gone: the rest was left undone.
    pub gone: bool,
    /// The worst error; the reconcile is to be done again.
    pub error: Option<Error>,
}

impl Applied {
    pub(super) fn fail(&mut self, error: Error) {
        // A refusal waits longest, so it may not hide that something else can be mended at once.
        if self.error.as_ref().is_none_or(|before| before.class() == Class::Refused) {
            self.error = Some(error);
        }
    }
}

/// Carries a plan out, as far as it goes. What fails is told, and does not stop the rest.
pub async fn apply(
    context: &Context,
    pool: &Validated<'_>,
    agents: &Agents,
    plan: &Plan,
    seen: &Seen,
    memory: &mut Remembered,
    now: Timestamp,
) -> Applied {
    let mut applied = Applied { restarts: seen.restarts.clone(), ..Applied::default() };
    if pool.service_account().1 {
        let wanted = service_account(pool);
        ensure(context, pool, "serviceaccount", &context.stores.accounts, &wanted, memory, &mut applied).await;
    }
    ensure(context, pool, "poddisruptionbudget", &context.stores.budgets, &disruption_budget(pool), memory, &mut applied).await;
    let (replacements, others): (Vec<_>, Vec<_>) = plan.delete.iter().cloned().partition(|deletion| deletion.why.is_replacement());
    let counted = replacements.is_empty() || count(context, pool, replacements.len(), memory, &mut applied, now).await;
    if applied.gone {
        return applied;
    }
    let deletions = others.into_iter().chain(if counted { replacements } else { Vec::new() });
    delete(context, &pool.key.namespace, deletions, memory, &mut applied, now).await;
    create(context, pool, agents, &plan.create, memory, &mut applied).await;
    applied
}

/// Makes an object of the pool what it should be, unless somebody else has its name.
async fn ensure<K: Object>(
    context: &Context,
    pool: &Validated<'_>,
    kind: &'static str,
    store: &Store<K>,
    wanted: &K,
    memory: &mut Remembered,
    applied: &mut Applied,
) {
    let name = wanted.name_any();
    let existing = match store.get(&ObjectRef::from_obj(wanted)) {
        Some(existing) => Some((*existing).clone()),
        None if memory.made.contains_key(kind) => return,
        None => match write::create(&context.client, wanted).await {
            Ok(Created::New(_)) => None,
            Ok(Created::Exists(existing)) => Some(existing),
            Err(error) => {
                if error.class() == Class::Refused {
                    memory.made.insert(kind, Instant::now());
                }
                if !error.namespace_is_ending() {
                    applied.fail(error);
                }
                return;
            }
        },
    };
    let Some(existing) = existing else {
        memory.made.insert(kind, Instant::now());
        return;
    };
    let ours = controller_uid(existing.meta()) == Some(pool.uid.as_str());
    let orphan = is_orphan(existing.meta(), &pool.key.pool);
    if ours && covers(&existing, wanted) {
        memory.made.remove(kind);
    } else if !ours && !orphan {
        // One of a former pool of this name is collected by the API server, and then made anew.
        applied.taken.push(format!("{kind} {name}"));
    } else if !memory.made.contains_key(kind) {
        let mended = if ours {
            write::apply(&context.client, labels::FIELD_MANAGER_POOL, wanted).await.map(|_| ())
        } else {
            adopt::object(context, pool.pool, &existing).await
        };
        match mended {
            Ok(()) => {
                memory.made.insert(kind, Instant::now());
            }
            Err(error) => applied.fail(error),
        }
    }
}

/// Counts replacements against the budget, in the status. Says whether they may go ahead.
async fn count(
    context: &Context,
    pool: &Validated<'_>,
    number: usize,
    memory: &mut Remembered,
    applied: &mut Applied,
    now: Timestamp,
) -> bool {
    let recent: Vec<_> = applied.restarts.recent.iter().map(|time| time.0).collect();
    let mut recent = pool.budget.counting(&recent, now);
    recent.extend(std::iter::repeat_n(now, number));
    let restarts = RestartStatus {
        total: applied.restarts.total.saturating_add(i64::try_from(number).unwrap_or(i64::MAX)),
        recent: recent.into_iter().map(Time).collect(),
    };
    let status = AgentPoolStatus { restarts: Some(restarts.clone()), ..pool.pool.status.clone().unwrap_or_default() };
    match write::apply_status(&context.client, labels::FIELD_MANAGER_POOL_STATUS, pool.pool, &status).await {
        Ok(Written::Done) => {
            memory.wrote(pool.pool, status);
            applied.restarts = restarts;
            true
        }
        Ok(Written::Gone) => {
            applied.gone = true;
            false
        }
        Err(error) => {
            applied.fail(error);
            false
        }
    }
}

async fn delete(
    context: &Context,
    namespace: &str,
    deletions: impl Iterator<Item = Deletion>,
    memory: &mut Remembered,
    applied: &mut Applied,
    now: Timestamp,
) {
    let requests = deletions.map(|deletion| async move {
        let grace = (deletion.why == Why::Lingers).then_some(LAST_WORDS);
        let pod = &deletion.pod;
        let result = write::delete::<Pod>(&context.client, namespace, &pod.name, &pod.uid, None, grace).await;
        (deletion, result)
    });
    let mut results = futures::stream::iter(requests).buffer_unordered(CONCURRENCY);
    while let Some((deletion, result)) = results.next().await {
        match result {
            Ok(_) => {
                memory.deleted.insert(deletion.pod.uid.clone(), now);
                if deletion.why.is_replacement() {
                    let reason = if deletion.why == Why::Silent { "silent" } else { "ended" };
                    context.metrics.restarts.with_label_values(&[reason]).inc();
                    let streak = Streak::next(memory.streaks.get(&deletion.ordinal).copied(), now);
                    memory.streaks.insert(deletion.ordinal, streak);
                }
                applied.deleted.push(deletion);
            }
            // Another pod has the name: the watch will show it.
            Err(error) => applied.fail(error),
        }
    }
}

async fn create(
    context: &Context,
    pool: &Validated<'_>,
    agents: &Agents,
    ordinals: &[u32],
    memory: &mut Remembered,
    applied: &mut Applied,
) {
    let generation = pool.pool.metadata.generation;
    if let Some((refused, _)) = memory.refusal(generation).filter(|_| !ordinals.is_empty()) {
        applied.refused.clone_from(&refused.words);
        return;
    }
    // What the server refuses once it refuses a thousand times.
    let stop = AtomicBool::new(false);
    let requests = ordinals.iter().copied().map(|ordinal| {
        let stop = &stop;
        async move {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let result = write::create(&context.client, &agents.pod(ordinal)).await;
            if result.as_ref().is_err_and(|error| error.class() == Class::Refused) {
                stop.store(true, Ordering::Relaxed);
            }
            Some((ordinal, result))
        }
    });
    let mut failures = Vec::new();
    let mut results = futures::stream::iter(requests).buffer_unordered(CONCURRENCY);
    while let Some(result) = results.next().await {
        let Some((ordinal, result)) = result else { continue };
        let (new, pod) = match result {
            Ok(Created::New(pod)) => (true, pod),
            Ok(Created::Exists(pod)) => (false, pod),
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        if !new && controller_uid(&pod.metadata) != Some(pool.uid.as_str()) {
            applied.taken.push(format!("pod {}", pod.name_any()));
            memory.taken.insert(ordinal, Instant::now());
        } else if let Some((_, facts)) = pods::facts(&pod.into()) {
            memory.created.insert(ordinal, (Arc::new(facts), Instant::now()));
            if new {
                applied.created.insert(ordinal);
            }
        }
    }
    applied.taken.sort();
    if failures.iter().any(Error::namespace_is_ending) {
        memory.refuse(None, generation, rand::random());
        return;
    }
    match failures.iter().find_map(Error::refusal) {
        Some(words) => {
            memory.refuse(Some(words.to_owned()), generation, rand::random());
            applied.refused = Some(words.to_owned());
        }
        None if !ordinals.is_empty() => memory.refused = None,
        None => {}
    }
    failures.into_iter().for_each(|error| applied.fail(error));
}
