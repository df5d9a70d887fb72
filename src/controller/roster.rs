//! Who has been heard: the last heartbeat of every agent, in memory, on every replica of the controller.
//!
//! [`Book`] is the pure core: it takes the time as an argument. [`Roster`] shares a book between the
//! task that listens to the bus ([`listen`]) and the controllers that ask. Nothing here acts on a
//! silence; it only says how long one lasts, and whether it may be believed: a roster that is new, or
//! whose bus was away, has heard nobody for reasons that are not the agents'.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::bus::nats::Bus;
use crate::bus::{Heartbeat, subjects};
use crate::lock::lock;
use crate::telemetry::metrics::controller::Metrics;

/// How long a silent agent is remembered: longer than the longest `staleSeconds`.
const MEMORY: Duration = Duration::from_secs(2 * 3600);
/// How often silent agents are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// How many agents are remembered: ten times what one controller is meant for. Beyond it, new ones are ignored.
const CAPACITY: usize = 100_000;

/// A pool as the bus knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pool: String,
}

impl PoolKey {
    /// A pool of a namespace.
    #[must_use]
    pub fn new(namespace: impl Into<String>, pool: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), pool: pool.into() }
    }
}

/// An agent that has been heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it said last. Whoever asks compares the UID: a pod of the same name may have said it.
    pub heartbeat: Heartbeat,
    /// How long ago.
    pub age: Duration,
}

/// What a heartbeat told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Whether it tells anything new, other than that the agent still lives.
    pub news: bool,
    /// How long ago the one before was; `None` for the first.
    pub since: Option<Duration>,
}

#[derive(Debug)]
struct Entry {
    heartbeat: Heartbeat,
    heard: Instant,
}

/// The pure core of the roster.
#[derive(Debug, Default)]
pub struct Book {
    pools: BTreeMap<PoolKey, BTreeMap<String, Entry>>,
    agents: usize,
    connected: Option<Instant>,
    swept: Option<Instant>,
}

impl Book {
    /// Notes a heartbeat.
    pub fn hear(&mut self, heartbeat: Heartbeat, now: Instant) -> Heard {
        self.sweep(now);
        let key = PoolKey::new(&heartbeat.namespace, &heartbeat.pool);
        if let Some(entry) = self.pools.get_mut(&key).and_then(|agents| agents.get_mut(&heartbeat.agent)) {
            let heard = Heard { news: entry.heartbeat != heartbeat, since: Some(now.saturating_duration_since(entry.heard)) };
            entry.heard = now;
            entry.heartbeat = heartbeat;
            return heard;
        }
        if self.agents >= CAPACITY {
            return Heard { news: false, since: None };
        }
        self.agents += 1;
        self.pools.entry(key).or_default().insert(heartbeat.agent.clone(), Entry { heartbeat, heard: now });
        Heard { news: true, since: None }
    }

    /// Notes whether the bus is there.
    pub fn connected(&mut self, connected: bool, now: Instant) {
        self.connected = if connected { self.connected.or(Some(now)) } else { None };
    }

    /// What is known of one agent.
    #[must_use]
    pub fn agent(&self, key: &PoolKey, agent: &str, now: Instant) -> Option<Seen> {
        self.pools.get(key)?.get(agent).map(|entry| seen(entry, now))
    }

    /// What is known of the agents of one pool, in the order of their names.
    #[must_use]
    pub fn pool(&self, key: &PoolKey, now: Instant) -> Vec<Seen> {
        self.pools.get(key).into_iter().flat_map(BTreeMap::values).map(|entry| seen(entry, now)).collect()
    }

    /// How much longer no silence is believed: until the bus has been there for `stale` without a
    /// break. `None` when silences are true. While the bus is away the answer stays `stale`, for it
    /// cannot be sooner.
    #[must_use]
    pub fn blind(&self, stale: Duration, now: Instant) -> Option<Duration> {
        let left = self.connected.map_or(stale, |since| stale.saturating_sub(now.saturating_duration_since(since)));
        (!left.is_zero() || self.connected.is_none()).then_some(left)
    }

    /// The number of agents that are remembered.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(*self.swept.get_or_insert(now)) < SWEEP {
            return;
        }
        self.swept = Some(now);
        self.pools.retain(|_, agents| {
            agents.retain(|_, entry| now.saturating_duration_since(entry.heard) < MEMORY);
            !agents.is_empty()
        });
        self.agents = self.pools.values().map(BTreeMap::len).sum();
    }
}

fn seen(entry: &Entry, now: Instant) -> Seen {
    Seen { heartbeat: entry.heartbeat.clone(), age: now.saturating_duration_since(entry.heard) }
}

/// The pools that one subscriber has not been told of yet: a set, so that a slow subscriber costs no
/// more memory than there are pools, and misses none.
#[derive(Debug, Default)]
struct Pending {
    pools: Mutex<BTreeSet<PoolKey>>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Shared {
    book: Mutex<Book>,
    subscribers: Mutex<Vec<Weak<Pending>>>,
}

/// The roster of this process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    shared: Arc<Shared>,
}

impl Roster {
    /// What is known of one agent.
    #[must_use]
    pub fn agent(&self, namespace: &str, pool: &str, agent: &str) -> Option<Seen> {
        self.book().agent(&PoolKey::new(namespace, pool), agent, Instant::now())
    }

    /// What is known of the agents of one pool, in the order of their names.
    #[must_use]
    pub fn pool(&self, namespace: &str, pool: &str) -> Vec<Seen> {
        self.book().pool(&PoolKey::new(namespace, pool), Instant::now())
    }

    /// How much longer no silence may be believed; `None` when silences are true. See [`Book::blind`].
    #[must_use]
    pub fn blind(&self, stale: Duration) -> Option<Duration> {
        self.book().blind(stale, Instant::now())
    }

    /// The number of agents that are remembered.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.book().agents()
    }

    /// The pools of which something new has been heard, from now on: an agent is new, or anything that
    /// it says has changed. That it still lives is no news, and its silence makes none.
    pub fn changes(&self) -> impl Stream<Item = PoolKey> + Send + use<> {
        let pending = Arc::new(Pending::default());
        lock(&self.shared.subscribers).push(Arc::downgrade(&pending));
        stream::unfold(pending, |pending| async move {
            loop {
                let next = lock(&pending.pools).pop_first();
                if let Some(key) = next {
                    return Some((key, pending));
                }
                pending.wake.notified().await;
            }
        })
    }

    /// Notes a heartbeat and tells the subscribers when it is news. Says how long ago the agent's
    /// heartbeat before was.
    pub fn hear(&self, heartbeat: Heartbeat) -> Option<Duration> {
        let key = PoolKey::new(&heartbeat.namespace, &heartbeat.pool);
        let heard = self.book().hear(heartbeat, Instant::now());
        if !heard.news {
            return heard.since;
        }
        lock(&self.shared.subscribers).retain(|subscriber| {
            let Some(pending) = subscriber.upgrade() else { return false };
            lock(&pending.pools).insert(key.clone());
            pending.wake.notify_one();
            true
        });
        heard.since
    }

    /// Notes whether the bus is there.
    pub fn connected(&self, connected: bool) {
        self.book().connected(connected, Instant::now());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.shared.book)
    }
}

/// Listens to the heartbeats of the whole cluster until it is told to end. The subscription outlives
/// every loss of the connection.
pub async fn listen(roster: Roster, bus: Bus, metrics: Metrics, shutdown: CancellationToken) {
    let mut heartbeats = match bus.client().subscribe(subjects::ALL_HEARTBEATS).await {
        Ok(heartbeats) => heartbeats,
        Err(error) => {
            error!(%error, "heartbeats cannot be listened to");
            return;
        }
    };
    let mut state = bus.state();
    loop {
        roster.connected(*state.borrow_and_update());
        metrics.bus_reconnects.inc_by(bus.reconnects().saturating_sub(metrics.bus_reconnects.get()));
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
            message = heartbeats.next() => {
                let Some(message) = message else { return };
                match Heartbeat::read(&message.subject, &message.payload) {
                    Some(heartbeat) => if let Some(since) = roster.hear(heartbeat) {
                        metrics.heartbeat_age.observe(since.as_secs_f64());
                    },
                    None => debug!(subject = %message.subject, "a heartbeat cannot be read"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::heartbeat::tests::beat;
    use pretty_assertions::assert_eq;

    const STALE: Duration = Duration::from_secs(30);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// A regression here reconciles every pool every few seconds, or misses that an agent became busy.
    #[test]
    fn only_what_an_agent_says_is_news() {
        let (mut book, start) = (Book::default(), Instant::now());
        assert_eq!(book.hear(beat("a", "a-0"), start), Heard { news: true, since: None });
        assert_eq!(book.hear(beat("a", "a-0"), start + seconds(5)), Heard { news: false, since: Some(seconds(5)) });
        assert!(book.hear(Heartbeat { busy: 1, ..beat("a", "a-0") }, start + seconds(6)).news);
        assert!(book.hear(Heartbeat { pod_uid: "v".into(), busy: 1, ..beat("a", "a-0") }, start + seconds(7)).news);
        let key = PoolKey::new("default", "a");
        assert_eq!(book.agent(&key, "a-0", start + seconds(17)).map(|s| s.age), Some(seconds(10)));
        assert_eq!(book.agent(&key, "a-1", start), None);
    }

    /// A regression here replaces every agent of the cluster after the broker was away for a minute.
    #[test]
    fn a_silence_is_believed_only_once_the_bus_has_been_there_for_as_long() {
        let (mut book, start) = (Book::default(), Instant::now());
        assert_eq!(book.blind(STALE, start), Some(STALE));
        assert_eq!(book.blind(STALE, start + seconds(100)), Some(STALE));
        book.connected(true, start + seconds(100));
        book.connected(true, start + seconds(110));
        assert_eq!(book.blind(STALE, start + seconds(120)), Some(seconds(10)));
        assert_eq!(book.blind(STALE, start + seconds(130)), None);
        book.connected(false, start + seconds(140));
        assert_eq!(book.blind(STALE, start + seconds(900)), Some(STALE));
        book.connected(true, start + seconds(900));
        assert_eq!(book.blind(STALE, start + seconds(901)), Some(seconds(29)));
    }

    #[test]
    fn memory_is_bounded_in_time_and_number() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.hear(beat("a", "a-0"), start);
        book.hear(beat("b", "b-0"), start + MEMORY - seconds(1));
        book.hear(beat("c", "c-0"), start + MEMORY + SWEEP);
        assert_eq!((book.agents(), book.pools.len()), (2, 2));
        for n in 0..CAPACITY {
            book.hear(beat("d", &format!("d-{n}")), start + MEMORY + SWEEP);
        }
        assert_eq!(book.agents(), CAPACITY);
        assert!(!book.hear(beat("e", "e-0"), start + MEMORY + SWEEP).news);
    }

    #[tokio::test]
    async fn a_slow_subscriber_hears_of_each_pool_once() {
        let roster = Roster::default();
        roster.hear(beat("before", "before-0"));
        let mut changes = std::pin::pin!(roster.changes());
        for n in 0..3 {
            roster.hear(beat("b", &format!("b-{n}")));
        }
        roster.hear(beat("a", "a-0"));
        let heard: Vec<_> = changes.by_ref().take(2).map(|key| key.pool).collect().await;
        assert_eq!(heard, ["a", "b"]);
        roster.hear(beat("a", "a-0"));
        roster.hear(Heartbeat { ready: false, ..beat("b", "b-1") });
        assert_eq!(changes.next().await, Some(PoolKey::new("default", "b")));
    }
}
