//! What a sidecar knows of itself: one value that everybody may watch, and what follows from it.
//!
//! [`Snapshot`] is pure. [`State`] shares it; whoever learns something writes it there, and nobody asks
//! anybody else. Every slot watches it, so nothing is kept here that changes with each task: that is
//! [`super::inflight`].

use std::sync::Arc;

use tokio::sync::watch;

use super::config::Identity;
use super::health::Verdict;
use crate::bus::{Health, Heartbeat};

/// The queue of the pool on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Nobody has looked since the connection was made.
    Unknown,
    /// It is there, and was made at this time; the time tells it from another one of the same name.
    There(Arc<str>),
    /// It is not there.
    Missing,
}

/// Whether the sidecar still takes tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// It does.
    No,
    /// The agent has been told to end: what is in hand is finished. It may take tasks again later.
    Agent,
    /// The pod has been told to end: as before, and for good.
    Pod,
    /// The sidecar itself has been told to end.
    Process,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether the bus is there.
    pub connected: bool,
    /// The topology whose program is held.
    pub topology: Option<String>,
    /// The queue of the pool.
    pub queue: Queue,
    /// How well the agent is.
    pub agent: Verdict,
    /// Whether tasks are still taken.
    pub drain: Drain,
}

impl Snapshot {
    fn new() -> Self {
        Self {
            connected: false,
            topology: None,
            queue: Queue::Unknown,
            agent: Verdict { health: Health::Unknown, reason: None, restart: false },
            drain: Drain::No,
        }
    }

    /// Whether the agent takes tasks now.
    ///
    /// # Errors
    /// One sentence: why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.drain != Drain::No {
            return Err("the agent has been told to end and takes no new task".to_owned());
        }
        if !matches!(self.agent.health, Health::Healthy | Health::Degraded) {
            return Err(self.agent.reason.clone().unwrap_or_else(|| "the agent has not answered yet".to_owned()));
        }
        if !self.connected {
            return Err("the bus cannot be reached: is NATS running, and is its address right?".to_owned());
        }
        if self.topology.is_none() {
            return Err("the pool is in no topology, or its topology has not been accepted".to_owned());
        }
        match self.queue {
            Queue::There(_) => Ok(()),
            Queue::Unknown => Err("the queue of the pool is being looked for on the bus".to_owned()),
            Queue::Missing => Err("the bus holds no queue for the pool: the controller makes it within seconds when it runs".to_owned()),
        }
    }

    /// The topology whose queue tasks may be pulled from now, apart from the agent's health: an agent that
    /// pulls is heard by pulling.
    #[must_use]
    pub fn open_queue(&self) -> Option<&str> {
        let open = self.connected && self.drain == Drain::No && matches!(self.queue, Queue::There(_));
        self.topology.as_deref().filter(|_| open)
    }

    /// What is said on the bus of the agent, which has `busy` tasks in hand.
    #[must_use]
    pub fn heartbeat(&self, identity: &Identity, concurrency: u32, busy: u32) -> Heartbeat {
        let ready = self.ready();
        Heartbeat {
            namespace: identity.namespace.clone(),
            pool: identity.pool.clone(),
            agent: identity.agent.clone(),
            pod_uid: identity.pod_uid.clone(),
            topology: self.topology.clone(),
            health: self.agent.health,
            ready: ready.is_ok(),
            reason: ready.err().or_else(|| self.agent.reason.clone()),
            draining: self.drain != Drain::No,
            busy,
            concurrency,
        }
    }
}

/// The snapshot that everybody shares. Cheap to clone.
#[derive(Clone)]
pub struct State(Arc<watch::Sender<Snapshot>>);

impl Default for State {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Snapshot::new())))
    }
}

impl State {
    /// The snapshot now. Holds off every change for as long as it is held.
    #[must_use]
    pub fn now(&self) -> watch::Ref<'_, Snapshot> {
        self.0.borrow()
    }

    /// Follows the snapshot.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.0.subscribe()
    }

    /// Changes the snapshot; tells nobody when nothing differs.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        self.0.send_if_modified(|snapshot| {
            let before = snapshot.clone();
            change(snapshot);
            *snapshot != before
        });
    }

    /// Resolves as soon as the snapshot is as wanted.
    pub async fn until(&self, wanted: impl FnMut(&Snapshot) -> bool) {
        // The sender lives as long as `self`, so this ends only when it is as wanted.
        let _ = self.watch().wait_for(wanted).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn well() -> Snapshot {
        Snapshot {
            connected: true,
            topology: Some("team".into()),
            queue: Queue::There("then".into()),
            agent: Verdict { health: Health::Healthy, reason: None, restart: false },
            ..Snapshot::new()
        }
    }

    #[test]
    fn ready_means_everything_that_a_task_needs() {
        assert_eq!(well().ready(), Ok(()));
        for (wrong, word) in [
            (Snapshot { connected: false, ..well() }, "bus"),
            (Snapshot { topology: None, ..well() }, "no topology"),
            (Snapshot { queue: Queue::Missing, ..well() }, "queue"),
            (Snapshot { queue: Queue::Unknown, ..well() }, "queue"),
            (Snapshot { drain: Drain::Agent, ..well() }, "told to end"),
            (Snapshot { agent: Snapshot::new().agent, ..well() }, "not answered"),
        ] {
            let reason = wrong.ready().unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn a_heartbeat_says_why_an_agent_is_not_ready() {
        let identity = Identity { namespace: "n".into(), pool: "p".into(), agent: "p-0".into(), pod_uid: "u".into() };
        let heartbeat = Snapshot { topology: None, ..well() }.heartbeat(&identity, 2, 1);
        assert!(!heartbeat.ready);
        assert_eq!((heartbeat.busy, heartbeat.concurrency), (1, 2));
        assert_eq!(heartbeat.health, Health::Healthy);
        assert!(heartbeat.reason.unwrap().contains("no topology"));
        assert_eq!(well().heartbeat(&identity, 2, 1).reason, None);
    }

    #[test]
    fn nothing_is_pulled_while_draining_or_without_a_queue() {
        assert_eq!(well().open_queue(), Some("team"));
        assert_eq!(Snapshot { drain: Drain::Agent, ..well() }.open_queue(), None);
        assert_eq!(Snapshot { queue: Queue::Missing, ..well() }.open_queue(), None);
    }
}
