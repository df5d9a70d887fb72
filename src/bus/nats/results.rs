//! Waiting for the outcomes of tasks that this process has sent.
//!
//! The broker repeats every outcome that it has stored to whoever listens right now. What this misses
//! (no connection, a broker that restarted) is read from the journal after each reconnect, and every few
//! seconds while anything is waited for; so an outcome is late at worst, never lost.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::Message;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::connection::Bus;
use super::direct::{Start, number, text};
use super::error::BusError;
use crate::bus::envelope::{Task, TaskResult, header};
use crate::bus::ids;
use crate::bus::subjects::Team;

/// The time between two looks into the journal while something is waited for.
const LOOK: Duration = Duration::from_secs(3);
/// Every so many looks, everything that is waited for is looked for from its beginning.
const THOROUGH: u32 = 10;
/// How much the clocks of this process and the broker may differ.
const SKEW_MS: i64 = 60_000;
/// How long a search for an old outcome may take.
const SEARCH: Duration = Duration::from_secs(5);

/// The outcomes of what one sender has sent. Cheap to clone.
#[derive(Clone)]
pub struct Results(Arc<Inner>);

struct Inner {
    bus: Bus,
    pool: String,
    agent: String,
    waiting: Mutex<HashMap<String, Entry>>,
    teams: Mutex<HashSet<Team>>,
}

struct Entry {
    team: Team,
    since: i64,
    senders: Vec<oneshot::Sender<TaskResult>>,
}

/// The outcome of one task, some day. May be dropped at any time.
pub struct Waiting {
    id: String,
    results: Weak<Inner>,
    receiver: Option<oneshot::Receiver<TaskResult>>,
}

impl Results {
    /// Begins to listen on behalf of an agent of a pool. Must be called inside a runtime.
    #[must_use]
    pub fn start(bus: &Bus, pool: &str, agent: &str) -> Self {
        Self(Arc::new(Inner {
            bus: bus.clone(),
            pool: pool.to_owned(),
            agent: agent.to_owned(),
            waiting: Mutex::default(),
            teams: Mutex::default(),
        }))
    }

    /// Listens to a team from now on, so that the first outcome needs no look into the journal.
    pub fn follow(&self, team: &Team) {
        if lock(&self.0.teams).insert(team.clone()) {
            tokio::spawn(follow(Arc::downgrade(&self.0), team.clone()));
        }
    }

    /// The outcome of a task of a team. To be called before the task is published.
    #[must_use]
    pub fn expect(&self, team: &Team, task_id: &str) -> Waiting {
        let (sender, receiver) = oneshot::channel();
        let since = jiff::Timestamp::now().as_millisecond();
        lock(&self.0.waiting)
            .entry(task_id.to_owned())
            .or_insert_with(|| Entry { team: team.clone(), since, senders: Vec::new() })
            .senders
            .push(sender);
        self.follow(team);
        Waiting { id: task_id.to_owned(), results: Arc::downgrade(&self.0), receiver: Some(receiver) }
    }

    /// How many tasks are waited for.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.0.waiting).len()
    }

    /// Looks for the outcome of a task that was sent before. `None`: the task has not ended, or there is
    /// none of this id.
    ///
    /// # Errors
    /// When the journal cannot be read, or not in time.
    pub async fn find(&self, team: &Team, task_id: &str) -> Result<Option<TaskResult>, BusError> {
        // Whatever agent of the pool sent the task: the one that did may be gone, and another one has
        // been given the task that this one was a part of.
        let Some(created) = ids::time_of(task_id) else { return Ok(None) };
        let filter = team.results_for(&self.0.pool, "*");
        let start = Start::Time((created - SKEW_MS).max(0));
        self.0.bus.scan(&team.stream(), &filter, start, SEARCH, |message| outcome_of(message, task_id)).await
    }
}

impl Bus {
    /// The outcome of a task that `pool` has been given, if it has one already: the task may have been
    /// delivered again after its outcome was stored and before that was acknowledged.
    ///
    /// # Errors
    /// When the journal cannot be read, or not in time.
    pub async fn ended(&self, team: &Team, pool: &str, task: &Task, sequence: u64) -> Result<Option<TaskResult>, BusError> {
        let filter = team.result(&task.from_pool, &task.from_agent, pool);
        self.scan(&team.stream(), &filter, Start::Sequence(sequence), SEARCH, |message| outcome_of(message, &task.id)).await
    }
}

/// Listens to one team until nobody holds the results any more.
async fn follow(results: Weak<Inner>, team: Team) {
    let (mut live, mut state) = {
        let Some(inner) = results.upgrade() else { return };
        match inner.bus.client().subscribe(team.live_results_for(&inner.pool, &inner.agent)).await {
            Ok(live) => (live, inner.bus.state()),
            Err(error) => {
                warn!(%error, "outcomes cannot be listened to");
                return;
            }
        }
    };
    let mut cursor = None;
    let mut looks = 0_u32;
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let look = tokio::select! {
            message = live.next() => {
                let (Some(message), Some(inner)) = (message, results.upgrade()) else { return };
                inner.deliver(&message);
                false
            }
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                // The journal may be another one after a reconnect.
                cursor = None;
                *state.borrow_and_update()
            }
            _ = tick.tick() => true,
        };
        let Some(inner) = results.upgrade() else { return };
        if look {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(THOROUGH) {
                cursor = None;
            }
            inner.catch_up(&team, &mut cursor).await;
        }
    }
}

impl Inner {
    /// Reads what the journal holds since the last look.
    async fn catch_up(&self, team: &Team, cursor: &mut Option<u64>) {
        let since = lock(&self.waiting).values().filter(|entry| entry.team == *team).map(|entry| entry.since).min();
        let Some(since) = since else { return };
        let filter = team.results_for(&self.pool, &self.agent);
        loop {
            let start = cursor.map_or(Start::Time(since - SKEW_MS), Start::Sequence);
            match self.bus.next_of(&team.stream(), &filter, start, 64).await {
                Ok(batch) => {
                    for message in &batch.messages {
                        self.deliver(message);
                    }
                    match batch.next {
                        Some(next) => *cursor = Some(next),
                        None => return,
                    }
                    if !batch.more {
                        return;
                    }
                }
                Err(error) => {
                    debug!(%error, "the journal cannot be read now");
                    *cursor = None;
                    return;
                }
            }
        }
    }

    fn deliver(&self, message: &Message) {
        let Some(id) = text(message, header::TASK_ID) else { return };
        let Some(entry) = lock(&self.waiting).remove(id) else { return };
        match TaskResult::parse(|name| text(message, name), message.payload.clone()) {
            Ok(result) => {
                for sender in entry.senders {
                    let _ = sender.send(result.clone());
                }
            }
            Err(error) => {
                warn!(task = id, %error, sequence = number(message, "Nats-Sequence"), "an outcome cannot be read");
                lock(&self.waiting).insert(id.to_owned(), entry);
            }
        }
    }
}

impl Future for Waiting {
    type Output = TaskResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TaskResult> {
        let Some(receiver) = &mut self.receiver else { return Poll::Pending };
        match receiver.poll_unpin(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(answer) => {
                self.receiver = None;
                // An error means that nobody listens any more: the process is about to end.
                answer.map_or(Poll::Pending, Poll::Ready)
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(inner) = self.results.upgrade() else { return };
        self.receiver = None;
        let mut waiting = lock(&inner.waiting);
        if let Some(entry) = waiting.get_mut(&self.id) {
            entry.senders.retain(|sender| !sender.is_closed());
            if entry.senders.is_empty() {
                waiting.remove(&self.id);
            }
        }
    }
}

fn outcome_of(message: &Message, task_id: &str) -> Option<TaskResult> {
    if text(message, header::TASK_ID) != Some(task_id) {
        return None;
    }
    TaskResult::parse(|name| text(message, name), message.payload.clone()).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender that no longer waits must not be remembered for ever.
    #[tokio::test]
    async fn who_stops_waiting_is_forgotten() {
        let bus = Bus::connect("nats://127.0.0.1:1", "t").await.unwrap();
        let results = Results::start(&bus, "p", "p-0");
        let team = Team::new("n", "t");
        let (one, other) = (results.expect(&team, "a"), results.expect(&team, "a"));
        drop(one);
        assert_eq!(results.waiting(), 1);
        drop(other);
        assert_eq!(results.waiting(), 0);
    }
}
