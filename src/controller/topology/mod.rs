//! The controller of Topologies.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::outcome::{Error, Outcome, drive};
use crate::api::Topology;

/// Runs the controller until told to end, and then until what it has begun is done.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    drive("topology", |context| (&context.stores.topologies, &context.topologies), context, shutdown, reconcile, |_, _, _| {}).await;
}

async fn reconcile(_topology: Arc<Topology>, _context: Arc<Context>) -> Result<Outcome, Error> {
    Ok(Outcome::Done)
}
