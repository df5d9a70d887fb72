//! Who is there: the gateway's own memory of heartbeats, so that it need ask nobody whether a task can
//! be done at all.
//!
//! A silence says nothing until the gateway has listened for long enough to have heard a heartbeat: 10 s,
//! or two heartbeats of the pool where that is longer. Every connection to the bus begins anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tracing::{debug, warn};

use crate::bus::nats::Bus;
use crate::bus::{Heartbeat, subjects};
use crate::lock::lock;
use crate::topology::Hearing;

/// How long to listen at least before a silence says anything.
const LISTEN: Duration = Duration::from_secs(10);
/// How long a silent agent is remembered at most; no pool waits longer for its agents.
const REMEMBER: Duration = Duration::from_secs(3600);

/// What is known of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Presence {
    /// An agent is ready. The load is the share of the places of all ready agents that are taken.
    Ready { load: f64 },
    /// No agent is ready.
    Nobody,
    /// Nothing is known yet.
    Unknown,
}

/// The memory. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Roster(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    listening_since: Option<Instant>,
    pools: HashMap<(String, String), HashMap<String, Seen>>,
    swept: Option<Instant>,
}

struct Seen {
    at: Instant,
    ready: bool,
    busy: u32,
    concurrency: u32,
}

impl Roster {
    /// Listens for as long as the process lives.
    pub(super) async fn listen(self, bus: Bus) {
        let mut heartbeats = match bus.client().subscribe(subjects::ALL_HEARTBEATS).await {
            Ok(heartbeats) => heartbeats,
            Err(error) => {
                warn!(%error, "heartbeats cannot be listened to: tasks are taken whether an agent is ready or not");
                return;
            }
        };
        let mut state = bus.state();
        loop {
            let connected = *state.borrow_and_update();
            self.memory().connection(connected, Instant::now());
            loop {
                tokio::select! {
                    changed = state.changed() => {
                        if changed.is_err() { return }
                        break;
                    }
                    message = heartbeats.next() => {
                        let Some(message) = message else { return };
                        self.memory().receive(&message.subject, &message.payload, Instant::now());
                    }
                }
            }
        }
    }

    /// What is known of a pool now.
    pub(super) fn presence(&self, namespace: &str, pool: &str, hearing: Hearing) -> Presence {
        self.memory().presence(namespace, pool, hearing, Instant::now())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.0)
    }
}

impl Memory {
    fn connection(&mut self, connected: bool, now: Instant) {
        self.listening_since = connected.then_some(now);
    }

    /// Takes in what was published. What cannot be read is another version's, and says nothing.
    fn receive(&mut self, subject: &str, body: &[u8], now: Instant) {
        match Heartbeat::read(subject, body) {
            Some(heartbeat) => self.hear(heartbeat, now),
            None => debug!(subject, "a heartbeat cannot be read"),
        }
    }

    fn hear(&mut self, heartbeat: Heartbeat, now: Instant) {
        let Heartbeat { namespace, pool, agent, ready, draining, busy, concurrency, .. } = heartbeat;
        let seen = Seen { at: now, ready: ready && !draining, busy, concurrency };
        self.pools.entry((namespace, pool)).or_default().insert(agent, seen);
        if self.swept.is_none_or(|swept| now.duration_since(swept) > REMEMBER / 12) {
            self.swept = Some(now);
            self.pools.retain(|_, agents| {
                agents.retain(|_, seen| now.duration_since(seen.at) < REMEMBER);
                !agents.is_empty()
            });
        }
    }

    fn presence(&self, namespace: &str, pool: &str, hearing: Hearing, now: Instant) -> Presence {
        let stale = Duration::from_secs(hearing.stale_seconds.into());
        let agents = self.pools.get(&(namespace.to_owned(), pool.to_owned()));
        let (ready, busy, places) = agents
            .into_iter()
            .flat_map(HashMap::values)
            .filter(|seen| seen.ready && now.duration_since(seen.at) < stale)
            .fold((0_u32, 0_u32, 0_u32), |(ready, busy, places), seen| (ready + 1, busy + seen.busy, places + seen.concurrency.max(1)));
        let long_enough = LISTEN.max(2 * Duration::from_secs(hearing.heartbeat_seconds.into()));
        match self.listening_since {
            _ if ready > 0 => Presence::Ready { load: f64::from(busy) / f64::from(places.max(1)) },
            Some(since) if now.duration_since(since) > long_enough => Presence::Nobody,
            _ => Presence::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::heartbeat;
    use pretty_assertions::assert_eq;

    fn beat(agent: &str, ready: bool, busy: u32) -> Heartbeat {
        Heartbeat { namespace: "n".into(), ready, busy, concurrency: 2, ..heartbeat::tests::beat("p", agent) }
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    const HEARING: Hearing = Hearing { heartbeat_seconds: 5, stale_seconds: 30 };

    /// A gateway that has just started would refuse every task.
    #[test]
    fn a_silence_is_believed_only_by_who_has_listened() {
        let start = Instant::now();
        let mut memory = Memory::default();
        assert_eq!(memory.presence("n", "p", HEARING, start), Presence::Unknown, "not connected");
        memory.connection(true, start);
        assert_eq!(memory.presence("n", "p", HEARING, at(start, 10)), Presence::Unknown);
        assert_eq!(memory.presence("n", "p", HEARING, at(start, 11)), Presence::Nobody);
        let slow = Hearing { heartbeat_seconds: 60, stale_seconds: 150 };
        assert_eq!(memory.presence("n", "p", slow, at(start, 120)), Presence::Unknown);
        memory.connection(false, at(start, 20));
        memory.connection(true, at(start, 25));
        assert_eq!(memory.presence("n", "p", HEARING, at(start, 30)), Presence::Unknown);
    }

    #[test]
    fn one_ready_agent_that_is_heard_is_enough() {
        let start = Instant::now();
        let mut memory = Memory::default();
        memory.connection(true, start);
        memory.hear(beat("p-0", false, 0), start);
        memory.hear(Heartbeat { draining: true, ..beat("p-1", true, 0) }, start);
        assert_eq!(memory.presence("n", "p", HEARING, at(start, 11)), Presence::Nobody);
        memory.hear(beat("p-2", true, 1), at(start, 11));
        assert_eq!(memory.presence("n", "p", HEARING, at(start, 12)), Presence::Ready { load: 0.5 });
        assert_eq!(memory.presence("other", "p", HEARING, at(start, 12)), Presence::Nobody);
        assert_eq!(memory.presence("n", "p", HEARING, at(start, 42)), Presence::Nobody, "stale");
    }

    /// A regression here lets one pod call the agents of another pool ready, and tasks wait for nobody.
    #[test]
    fn nobody_speaks_for_another_pool() {
        let start = Instant::now();
        let mut memory = Memory::default();
        let body = serde_json::to_vec(&beat("p-0", true, 0)).unwrap();
        memory.receive("skein.heartbeat.n.q.q-0", &body, start);
        assert_eq!(memory.presence("n", "p", HEARING, start), Presence::Unknown);
        memory.receive("skein.heartbeat.n.p.p-0", &body, start);
        assert_eq!(memory.presence("n", "p", HEARING, start), Presence::Ready { load: 0.0 });
    }

    /// Names of agents come from outside; they must not be remembered for ever.
    #[test]
    fn who_has_been_silent_for_long_is_forgotten() {
        let start = Instant::now();
        let mut memory = Memory::default();
        memory.hear(beat("p-0", true, 0), start);
        memory.hear(Heartbeat { pool: "q".into(), ..beat("q-0", true, 0) }, at(start, 4000));
        assert_eq!(memory.pools.len(), 1);
    }
}
