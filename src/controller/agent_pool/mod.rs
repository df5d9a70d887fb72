//! The controller of AgentPools: from a pool to its pods, their service account and disruption budget.
//!
//! ```text
//!  observe ──► validate ──► adopt ──► build ──► plan ──► apply ──► report
//!  stores      pure         orphans   pure      pure     writes    pure, then one write of the status
//! ```
//!
//! [`degraded`] is what `report` says is wrong with a pool; [`memory`] is what a look leaves to the next one.
//!
//! A pool that is being deleted is left alone: its objects carry an owner reference, so the API server's
//! garbage collector ends them, and each pod ends its work first.

pub mod adopt;
pub mod apply;
pub mod build;
pub mod degraded;
pub mod memory;
pub mod observe;
pub mod plan;
pub mod report;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod validate;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::outcome::{Error, Outcome, drive};
use super::roster::PoolKey;
use crate::api::{AgentPool, AgentPoolStatus, labels};
use crate::kubernetes::Class;
use crate::kubernetes::write::{self, Written};
use apply::Applied;
use memory::{Remembered, UNSEEN};
use plan::Target;

/// Runs the controller until told to end, and then until what it has begun is done.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    drive("agentpool", |context| (&context.stores.pools, &context.pools), context, shutdown, reconcile, forget).await;
}

/// Looks at one pool, and makes what is there a step more like what is wanted.
///
/// # Errors
/// When a request failed; what could be done without it was done.
pub async fn reconcile(pool: Arc<AgentPool>, context: Arc<Context>) -> Result<Outcome, Error> {
    if pool.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::Done);
    }
    let key = PoolKey::new(pool.namespace().unwrap_or_default(), pool.name_any());
    let mut memory = context.memory.take(&key, &pool.uid().unwrap_or_default());
    let latest = memory.latest(&pool);
    let result = look(&latest, &context, &key, &mut memory).await;
    context.memory.put(key, memory);
    result
}

async fn look(pool: &AgentPool, context: &Context, key: &PoolKey, memory: &mut Remembered) -> Result<Outcome, Error> {
    let now = context.now();
    let mut seen = observe::observe(context, pool, key, memory, &context.stores.pods.of(key));
    let valid = match validate::validate(pool) {
        Ok(valid) => valid,
        Err(problems) => {
            let status = report::rejected(pool, &seen, &problems, now);
            return tell(pool, context, memory, status, None).await;
        }
    };
    let (mut adopted, mut refused) = (BTreeSet::new(), None);
    if !seen.orphans.is_empty() {
        match adopt::pods(context, pool, key, memory).await {
            Ok(Some(ordinals)) => adopted = ordinals,
            // The watch will show it.
            Ok(None) => return Ok(Outcome::Done),
            Err(error) if error.class() == Class::Refused => refused = Some(error),
            Err(error) => return Err(error.into()),
        }
        seen = observe::observe(context, pool, key, memory, &context.stores.pods.of(key));
    }
    let agents = build::Agents::new(&valid, &context.config);
    let mut target = Target {
        desired: valid.desired,
        revision: agents.revision.clone(),
        max_unavailable: valid.max_unavailable,
        stale: valid.stale,
        budget: valid.budget,
        member: seen.topology.is_some(),
        ends_by_us: valid.ends_by_us(),
    };
    let mut plan = plan::plan(&seen.observed, &target, now);
    if !plan.delete.is_empty() && !memory.listed {
        let listed = observe::list(context, key, memory, now).await?;
        seen = observe::observe(context, pool, key, memory, &listed);
        target.member = seen.topology.is_some();
        plan = plan::plan(&seen.observed, &target, now);
        memory.listed = true;
    }
    let mut applied = apply::apply(context, &valid, &agents, &plan, &seen, memory, now).await;
    if applied.gone {
        return Ok(Outcome::Done);
    }
    applied.adopted = adopted;
    refused.into_iter().for_each(|error| applied.fail(error));
    let status = report::status(pool, &seen, &target, &plan, &applied, now);
    let failed = applied.error.take();
    let outcome = tell(pool, context, memory, status, Some(&applied)).await?;
    let held = memory.refusal(pool.metadata.generation).map(|(_, left)| left);
    match failed {
        Some(error) if error.class() == Class::Refused => Err(Error { after: held, ..error.into() }),
        Some(error) => Err(error.into()),
        // What no watch has shown yet may never be shown, and none shows that a name has become free.
        None => {
            let look = memory.is_ahead() || !applied.taken.is_empty();
            Ok(outcome.sooner(plan.again).sooner(held).sooner(look.then_some(UNSEEN)))
        }
    }
}

/// Writes the status when it tells something new, and events of what has turned or was done.
async fn tell(
    pool: &AgentPool,
    context: &Context,
    memory: &mut Remembered,
    status: AgentPoolStatus,
    applied: Option<&Applied>,
) -> Result<Outcome, Error> {
    let about = pool.object_ref(&());
    for news in report::news(pool, pool.status.as_ref(), &status, applied) {
        context.events.tell(&about, news).await;
    }
    let Some(wait) = report::urgency(pool.status.as_ref(), &status) else { return Ok(Outcome::Done) };
    let since = memory.written.map_or(Duration::MAX, |written| Instant::now().saturating_duration_since(written));
    if since < wait {
        return Ok(Outcome::After(wait.saturating_sub(since)));
    }
    if write::apply_status(&context.client, labels::FIELD_MANAGER_POOL_STATUS, pool, &status).await? == Written::Done {
        memory.wrote(pool, status);
    }
    Ok(Outcome::Done)
}

fn forget(context: &Context, namespace: &str, name: &str) {
    context.memory.forget(&PoolKey::new(namespace, name));
}
