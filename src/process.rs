//! What a role needs of its own process: to be told to end.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A token that SIGTERM or SIGINT cancels. Must be called inside a runtime.
///
/// # Errors
/// When the system lets nobody receive signals.
pub fn end_on_signals() -> Result<CancellationToken, String> {
    let shutdown = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(|error| format!("signals cannot be received: {error}"))?;
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            signals.recv().await;
            info!("told to end");
            shutdown.cancel();
        });
    }
    Ok(shutdown)
}
