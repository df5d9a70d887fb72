//! The controller of AgentPools.

pub mod build;
pub mod memory;
pub mod plan;
pub mod validate;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::outcome::{Error, Outcome, drive};
use super::roster::PoolKey;
use crate::api::AgentPool;

/// Runs the controller until told to end, and then until what it has begun is done.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    drive("agentpool", |context| (&context.stores.pools, &context.pools), context, shutdown, reconcile, forget).await;
}

async fn reconcile(_pool: Arc<AgentPool>, _context: Arc<Context>) -> Result<Outcome, Error> {
    Ok(Outcome::Done)
}

fn forget(context: &Context, namespace: &str, name: &str) {
    context.memory.forget(&PoolKey::new(namespace, name));
}
