//! The connection of one process to the broker.
//!
//! It is made in the background and made again for ever, with a delay that is never zero and never the
//! same for two clients, so that a broker that returns is not trampled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{ConnectOptions, Event, ServerAddr};
use rand::Rng as _;
use tokio::sync::watch;
use tracing::{info, warn};

use super::error::BusError;

/// What the headers of a message may take of the broker's limit.
const HEADROOM: usize = 16 * 1024;
const SHORTEST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// The connection. Cheap to clone, which the client itself is not.
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

struct Inner {
    client: async_nats::Client,
    jetstream: async_nats::jetstream::Context,
    shared: Arc<Shared>,
}

struct Shared {
    connected: watch::Sender<bool>,
    connects: AtomicU64,
}

impl Bus {
    /// Connects in the background and returns at once. `url` may hold several addresses, separated by
    /// commas; `name` is what the broker's monitoring shows.
    ///
    /// # Errors
    /// When `url` is not a list of addresses.
    pub async fn connect(url: &str, name: &str) -> Result<Self, BusError> {
        let servers: Vec<ServerAddr> = url
            .split(',')
            .map(|address| {
                let address = address.trim();
                address.parse().map_err(|error| BusError::Other(format!("{address:?} is not an address like nats://host:4222: {error}")))
            })
            .collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared { connected: watch::Sender::new(false), connects: AtomicU64::new(0) });
        let told = Arc::clone(&shared);
        let first = AtomicBool::new(true);
        let client = ConnectOptions::new()
            .name(name)
            .custom_inbox_prefix(format!("_INBOX_{}", token(name)))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(Duration::from_secs(5))
            .ping_interval(Duration::from_secs(10))
            .reconnect_delay_callback(move |attempt| {
                if first.swap(false, Ordering::Relaxed) { Duration::ZERO } else { delay(attempt, rand::rng().random()) }
            })
            .event_callback(move |event| {
                told.hear(&event);
                std::future::ready(())
            })
            .connect(servers)
            .await
            .map_err(BusError::other)?;
        let mut jetstream = async_nats::jetstream::new(client.clone());
        jetstream.set_timeout(super::error::PATIENCE);
        Ok(Self(Arc::new(Inner { client, jetstream, shared })))
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.0.client.connection_state() == State::Connected
    }

    /// Whether there is a connection, and every change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<bool> {
        self.0.shared.connected.subscribe()
    }

    /// How often the connection has been made again since the first time.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.0.shared.connects.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// The client, for what has no place of its own in this module.
    #[must_use]
    pub fn client(&self) -> &async_nats::Client {
        &self.0.client
    }

    /// The client of JetStream's own interface.
    #[must_use]
    pub fn jetstream(&self) -> &async_nats::jetstream::Context {
        &self.0.jetstream
    }

    /// The largest body that a message may have: the broker's limit less room for headers.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.0.client.max_payload().saturating_sub(HEADROOM)
    }

    /// Sends what waits to be sent, then ends the connection; gives up after `deadline`.
    pub async fn close(&self, deadline: Duration) {
        if !self.connected() {
            return;
        }
        let sent = tokio::time::timeout(deadline, async {
            let _ = self.0.client.flush().await;
            let _ = self.0.client.drain().await;
            let _ = self.state().wait_for(|connected| !connected).await;
        });
        if sent.await.is_err() {
            warn!("the connection to the bus did not end in time");
        }
    }

    /// Resolves when the connection is lost; at once when there is none.
    pub(super) async fn lost(&self) {
        let mut state = self.state();
        if self.connected() {
            // The event of a connection may come a moment after the connection itself.
            let _ = state.wait_for(|connected| *connected).await;
        }
        let _ = state.wait_for(|connected| !connected).await;
    }
}

impl Shared {
    fn hear(&self, event: &Event) {
        match event {
            Event::Connected => {
                let before = self.connects.fetch_add(1, Ordering::Relaxed);
                info!(reconnects = before, "connected to the bus");
                self.connected.send_replace(true);
            }
            Event::Disconnected => {
                warn!("the connection to the bus is lost");
                self.connected.send_replace(false);
            }
            Event::Closed => {
                self.connected.send_replace(false);
            }
            Event::ServerError(error) => warn!(%error, "the bus reports an error"),
            Event::ClientError(error) => warn!(%error, "the bus cannot be reached"),
            Event::SlowConsumer(_) => warn!("messages were dropped: they came faster than they were read"),
            Event::LameDuckMode | Event::Draining => {}
        }
    }
}

/// The delay before the next attempt: at least 200 ms, doubling from attempt to attempt, at most 5 s,
/// and between half of that and all of it by chance (`chance` is in `0..1`).
fn delay(attempt: usize, chance: f64) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let longest = (2 * SHORTEST_DELAY).saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_DELAY);
    longest.mul_f64(0.5 + chance / 2.0)
}

/// A name as one token of a subject.
fn token(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A delay of zero is a hot loop against a broker that accepts and then closes.
        #[test]
        fn a_delay_is_never_zero_and_never_long(attempt in any::<usize>(), chance in 0.0..1.0) {
            let delay = delay(attempt, chance);
            prop_assert!(delay >= SHORTEST_DELAY && delay <= LONGEST_DELAY, "{delay:?}");
        }
    }

    #[tokio::test]
    async fn without_a_broker_connecting_returns_at_once_and_says_that_there_is_none() {
        let bus = Bus::connect("nats://127.0.0.1:1, nats://127.0.0.1:2", "a.b c").await.unwrap();
        assert!(!bus.connected());
        assert!(!*bus.state().borrow());
        assert_eq!(bus.reconnects(), 0);
        assert!(bus.client().new_inbox().starts_with("_INBOX_a_b_c."));
        assert!(bus.max_payload() > 0);
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_named() {
        let error = Bus::connect("nats://ok:1,:::", "a").await.err().unwrap();
        assert!(error.to_string().contains(":::"), "{error}");
    }
}
