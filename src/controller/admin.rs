//! Probes and metrics, on every replica, leader or not.
//!
//! Ready means that the stores have been filled, so that this replica could lead: it does not mean that
//! it leads, nor that the bus is there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use prometheus::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lock::lock;
use crate::telemetry::admin::router;

/// Whether this replica could lead, or what it waits for.
#[derive(Clone)]
pub struct Ready(Arc<Mutex<Result<(), String>>>);

impl Ready {
    /// Not ready, because the process has just started.
    #[must_use]
    pub fn starting() -> Self {
        Self(Arc::new(Mutex::new(Err("the controller is starting".to_owned()))))
    }

    /// Says what is waited for, or that nothing is.
    pub fn set(&self, ready: Result<(), String>) {
        *lock(&self.0) = ready;
    }

    fn get(&self) -> Result<(), String> {
        lock(&self.0).clone()
    }
}

/// Starts to serve, until told to end.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: SocketAddr, registry: Registry, ready: Ready, shutdown: CancellationToken) -> Result<(), String> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("probes and metrics cannot be served on {address} (--admin-address): {error}"))?;
    let routes = router(registry, Arc::new(move || ready.get()));
    tokio::spawn(async move {
        if let Err(problem) = axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await {
            tracing::error!(%problem, "probes and metrics are served no more");
        }
    });
    Ok(())
}
