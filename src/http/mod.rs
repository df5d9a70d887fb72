//! What the HTTP servers of sidecar and gateway have in common. Knows the words of the bus, but holds
//! no connection to it.

use std::net::SocketAddr;

use tokio::net::TcpListener;

pub mod body;
pub mod problem;

pub use problem::Problem;

/// Listens on an address that a flag names.
///
/// # Errors
/// When it cannot be listened on: one sentence with the flag and the address.
pub async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("{flag} {address} cannot be listened on: {error}"))
}
