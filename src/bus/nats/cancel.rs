//! Cancelling tasks, and learning which have been cancelled.
//!
//! Whoever has sent a task may cancel it. Three things are said, in this order:
//!
//! 1. a *notice* to the pool that the task is for, which the journal keeps: as long as the task has not been
//!    acknowledged, the journal holds its notice, for it lies behind the task;
//! 2. the outcome, to whoever sent the task. The journal stores one outcome of a task: when the task has
//!    ended meanwhile, this one is dropped;
//! 3. a call to the sidecars of the pool, which is not stored: look for notices.
//!
//! So a task ends at once whether an agent is there or not, and a sidecar that missed the call learns of it
//! from the journal: at its start, after each reconnect, and now and then. Whoever is lost after the notice
//! leaves a task that ends as cancelled as soon as a sidecar is given it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::connection::Bus;
use super::direct::{Start, number, text};
use super::error::BusError;
use super::search::StoredTask;
use crate::bus::envelope::{Outcome, Payload, Task, TaskResult, header};
use crate::bus::subjects::Team;
use crate::lock::lock;

/// The time between two looks for notices whose call was missed.
const LOOK: Duration = Duration::from_secs(30);
/// The time between two looks after one that failed.
const SOON: Duration = Duration::from_secs(1);
/// How long a task may wait for the first look.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many notices are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 65_536;

/// Who cancels.
#[derive(Clone, Copy, Debug)]
pub struct Canceller<'a> {
    /// The agent, or the replica of the gateway.
    pub agent: &'a str,
    /// Why, as the sender may read it.
    pub reason: &'a str,
}

impl Bus {
    /// Ends a task, and says how it has ended: it may have ended otherwise before.
    ///
    /// # Errors
    /// When the journal cannot be read, or has not acknowledged everything.
    pub async fn cancel(&self, team: &Team, stored: &StoredTask, by: Canceller<'_>) -> Result<Outcome, BusError> {
        if let Some(ended) = self.find_outcome(team, stored).await? {
            return Ok(ended.result.outcome);
        }
        let task = &stored.task;
        let created = jiff::Timestamp::now().as_millisecond();
        let notice = vec![
            (header::MESSAGE_ID, format!("{}:cancel", task.id)),
            (header::TASK_ID, task.id.clone()),
            (header::FROM_POOL, task.from_pool.clone()),
            (header::FROM_AGENT, by.agent.to_owned()),
            (header::CREATED, created.to_string()),
        ];
        self.store(team.cancellation(&stored.pool, &task.from_pool), notice, Bytes::new()).await?;
        let result = TaskResult {
            task_id: task.id.clone(),
            correlation_id: task.correlation_id.clone(),
            from_pool: stored.pool.clone(),
            from_agent: by.agent.to_owned(),
            created,
            outcome: Outcome::Cancelled,
            reason: Some(by.reason.to_owned()),
            trace: task.trace.clone(),
            payload: Payload::default(),
        };
        let published = self.publish_result(team, &task.from_pool, &task.from_agent, &result).await;
        // The notice is stored, so the pool must hear of it whatever became of the outcome.
        let call = self.client().publish(team.live_cancellations_for(&stored.pool), Bytes::new()).await;
        if let Err(error) = call {
            debug!(task = task.id, %error, "nobody was called to a cancellation");
        }
        if !published?.duplicate {
            return Ok(Outcome::Cancelled);
        }
        // It has ended meanwhile, or the pool was faster to say that it is cancelled.
        let ended = self.find_outcome(team, stored).await?;
        Ok(ended.map_or(Outcome::Cancelled, |ended| ended.result.outcome))
    }
}

/// The cancelled tasks of one pool. Cheap to clone.
#[derive(Clone)]
pub struct Cancellations(Arc<Inner>);

struct Inner {
    bus: Bus,
    pool: String,
    known: Mutex<Known>,
    /// Whether the journal has been read to its end since the connection was made.
    read: watch::Sender<bool>,
    /// Changes with each notice.
    learnt: watch::Sender<()>,
}

/// The notices, by the id of their task and in the order of the journal.
#[derive(Default)]
struct Known {
    team: Option<Team>,
    by_id: HashMap<String, Notice>,
    in_order: BTreeMap<u64, String>,
}

#[derive(Clone, Debug)]
struct Notice {
    sequence: u64,
    from_pool: String,
}

impl Cancellations {
    /// Knows none yet.
    #[must_use]
    pub fn new(bus: &Bus, pool: &str) -> Self {
        let inner = Inner {
            bus: bus.clone(),
            pool: pool.to_owned(),
            known: Mutex::default(),
            read: watch::Sender::new(false),
            learnt: watch::Sender::default(),
        };
        Self(Arc::new(inner))
    }

    /// Follows the notices of a team from now on, instead of those of another one. Must be called inside a
    /// runtime.
    pub fn follow(&self, team: &Team) {
        let mut known = self.0.known();
        if known.team.as_ref() != Some(team) {
            *known = Known { team: Some(team.clone()), ..Known::default() };
            self.0.read.send_replace(false);
            tokio::spawn(follow(Arc::downgrade(&self.0), team.clone()));
        }
    }

    /// The number of the notice that cancels a task; only its sender can.
    #[must_use]
    pub fn notice(&self, task: &Task) -> Option<u64> {
        self.0.known().by_id.get(&task.id).filter(|notice| notice.from_pool == task.from_pool).map(|notice| notice.sequence)
    }

    /// Whether there is a notice for a task of this id, whoever sent it.
    #[must_use]
    pub fn mentions(&self, id: &str) -> bool {
        self.0.known().by_id.contains_key(id)
    }

    /// As [`Self::notice`], once the journal has been read, for a moment at most.
    pub async fn notice_in_journal(&self, task: &Task) -> Option<u64> {
        let mut read = self.0.read.subscribe();
        // The sender lives as long as `self`.
        let _ = tokio::time::timeout(PATIENCE, read.wait_for(|read| *read)).await;
        self.notice(task)
    }

    /// Resolves when a task is cancelled, with the number of the notice.
    pub async fn cancelled(&self, task: &Task) -> u64 {
        let mut learnt = self.0.learnt.subscribe();
        loop {
            if let Some(sequence) = self.notice(task) {
                return sequence;
            }
            if learnt.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Reads notices until nobody asks for them any more, or another team is followed.
async fn follow(inner: Weak<Inner>, team: Team) {
    let (mut calls, mut state) = {
        let Some(inner) = inner.upgrade() else { return };
        match inner.bus.client().subscribe(team.live_cancellations_for(&inner.pool)).await {
            Ok(calls) => (calls, inner.bus.state()),
            Err(error) => return warn!(%error, "cancellations cannot be listened to"),
        }
    };
    let mut at = Start::Sequence(1);
    loop {
        let connected = *state.borrow_and_update();
        let pause = {
            let Some(inner) = inner.upgrade() else { return };
            if inner.known().team.as_ref() != Some(&team) {
                return;
            }
            match if connected { inner.read(&team, &mut at).await } else { Err(BusError::Disconnected) } {
                Ok(()) => {
                    inner.read.send_replace(true);
                    LOOK
                }
                Err(error) => {
                    debug!(%error, "notices cannot be read now");
                    SOON
                }
            }
        };
        tokio::select! {
            call = calls.next() => {
                if call.is_none() {
                    return;
                }
                // One look answers them all.
                while let Some(Some(_)) = calls.next().now_or_never() {}
            }
            changed = state.changed() => {
                let Some(inner) = inner.upgrade() else { return };
                if changed.is_err() {
                    return;
                }
                // It may be another journal after a reconnect.
                at = Start::Sequence(1);
                inner.read.send_replace(false);
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// Reads from `at` to the end of the journal.
    async fn read(&self, team: &Team, at: &mut Start) -> Result<(), BusError> {
        let filter = team.cancellations_for(&self.pool);
        loop {
            let batch = self.bus.next_of(&team.stream(), &filter, *at, 256).await?;
            let learnt = batch.messages.iter().filter(|message| self.known().learn(message)).count();
            if learnt > 0 {
                self.learnt.send_replace(());
            }
            let Some(next) = batch.next else { return Ok(()) };
            *at = Start::Sequence(next);
            if !batch.more {
                return Ok(());
            }
        }
    }
}

impl Known {
    /// Remembers a notice; whether it is new.
    fn learn(&mut self, message: &Message) -> bool {
        let (Some(id), Some(sequence)) = (text(message, header::TASK_ID), number(message, "Nats-Sequence")) else { return false };
        // The subject is what the broker lets a sender publish to; a header is only what it says.
        let Some(from_pool) = text(message, "Nats-Subject").and_then(|subject| subject.rsplit('.').next()) else { return false };
        self.remember(id, Notice { sequence, from_pool: from_pool.to_owned() })
    }

    fn remember(&mut self, id: &str, notice: Notice) -> bool {
        let sequence = notice.sequence;
        let before = self.by_id.insert(id.to_owned(), notice);
        if let Some(before) = &before {
            self.in_order.remove(&before.sequence);
        }
        self.in_order.insert(sequence, id.to_owned());
        while self.in_order.len() > REMEMBERED {
            if let Some((_, oldest)) = self.in_order.pop_first() {
                self.by_id.remove(&oldest);
            }
        }
        before.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(sequence: u64) -> Notice {
        Notice { sequence, from_pool: "planner".to_owned() }
    }

    /// A regression here lets the memory of a sidecar grow with everything that was ever cancelled.
    #[test]
    fn the_newest_notices_are_remembered_and_each_once() {
        let mut known = Known::default();
        assert!(known.remember("first", notice(1)));
        assert!(!known.remember("first", notice(2)), "it is read again after a reconnect");
        assert_eq!((known.by_id.len(), known.in_order.len()), (1, 1));
        for sequence in 0..REMEMBERED as u64 {
            known.remember(&format!("t{sequence}"), notice(10 + sequence));
        }
        assert_eq!((known.by_id.len(), known.in_order.len()), (REMEMBERED, REMEMBERED));
        assert!(!known.by_id.contains_key("first") && known.by_id.contains_key("t0"));
    }

    #[tokio::test]
    async fn only_the_sender_of_a_task_cancels_it() {
        let bus = Bus::connect("nats://127.0.0.1:1", "t").await.unwrap();
        let cancellations = Cancellations::new(&bus, "coder");
        let task = |from_pool: &str| Task {
            id: "t".to_owned(),
            correlation_id: "t".to_owned(),
            parent_id: None,
            ancestry: vec![],
            from_pool: from_pool.to_owned(),
            from_agent: "a-0".to_owned(),
            created: 0,
            deadline: None,
            trace: Default::default(),
            payload: Payload::default(),
        };
        cancellations.0.known().remember("t", notice(7));
        assert_eq!(cancellations.notice(&task("planner")), Some(7));
        assert_eq!(cancellations.notice(&task("mallory")), None);
        assert_eq!(cancellations.cancelled(&task("planner")).await, 7);
    }
}
