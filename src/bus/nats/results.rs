//! Waiting for the outcomes of tasks that this process has sent.
//!
//! The broker repeats every outcome that it has stored to whoever listens right now. What this misses
//! (no connection, a broker that restarted) is read from the journal after each reconnect, and every few
//! seconds while anything has been waited for that long; so an outcome is late at worst, never lost. What
//! is heard is never held up by what is read, and who is answered at once costs no reading.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::connection::Bus;
use super::direct::{Start, number, text};
use super::error::BusError;
use crate::bus::envelope::{Task, TaskResult, header};
use crate::bus::ids;
use crate::bus::subjects::Team;
use crate::lock::lock;

/// The time between two looks into the journal, and how long an outcome must have been waited for.
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
    /// Since when it is waited for.
    asked: Instant,
    /// The same, in milliseconds since 1970.
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
        let mut teams = lock(&self.0.teams);
        if !teams.contains(team) {
            teams.insert(team.clone());
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
            .or_insert_with(|| Entry { team: team.clone(), asked: Instant::now(), since, senders: Vec::new() })
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
        self.search(team, task_id).look().await
    }

    /// A search for the outcome of a task, which may be repeated.
    #[must_use]
    pub fn search(&self, team: &Team, task_id: &str) -> Search {
        Search { results: self.clone(), team: team.clone(), id: task_id.to_owned(), at: None }
    }
}

/// Looks for one outcome again and again, each time where the last look ended.
pub struct Search {
    results: Results,
    team: Team,
    id: String,
    at: Option<Start>,
}

impl Search {
    /// Looks. `None`: the task has not ended, or there is none of this id.
    ///
    /// # Errors
    /// When the journal cannot be read, or not in time. The next look begins anew: it may be another
    /// journal.
    pub async fn look(&mut self) -> Result<Option<TaskResult>, BusError> {
        let Some(created) = ids::time_of(&self.id) else { return Ok(None) };
        // Whatever agent of the pool sent the task: the one that did may be gone, and another one has
        // been given the task that this one was a part of.
        let Inner { bus, pool, .. } = &*self.results.0;
        let filter = self.team.results_for(pool, "*");
        let mut at = self.at.take().unwrap_or(Start::Time((created - SKEW_MS).max(0)));
        let found = bus.scan(&self.team.stream(), &filter, &mut at, SEARCH, |message| outcome_of(message, &self.id)).await?;
        self.at = Some(at);
        Ok(found)
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
        let mut at = Start::Sequence(sequence);
        self.scan(&team.stream(), &filter, &mut at, SEARCH, |message| outcome_of(message, &task.id)).await
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
    tokio::select! {
        () = listen(&results, &mut live) => {}
        () = look(&results, &team, &mut state) => {}
    }
}

/// Hands on what the broker repeats.
async fn listen(results: &Weak<Inner>, live: &mut Subscriber) {
    while let Some(message) = live.next().await {
        let Some(inner) = results.upgrade() else { return };
        inner.deliver(&message);
    }
}

/// Reads what has been missed.
async fn look(results: &Weak<Inner>, team: &Team, state: &mut watch::Receiver<bool>) {
    let mut cursor = None;
    let mut looks = 0_u32;
    // Before the first look nobody listened.
    let mut patience = Duration::ZERO;
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                // The journal may be another one after a reconnect.
                (cursor, patience) = (None, Duration::ZERO);
                if !*state.borrow_and_update() {
                    continue;
                }
            }
            _ = tick.tick() => {}
        }
        let Some(inner) = results.upgrade() else { return };
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(THOROUGH) {
            cursor = None;
        }
        inner.catch_up(team, &mut cursor, patience).await;
        patience = LOOK;
    }
}

impl Inner {
    /// Since when something has been waited for, if for `patience` at least.
    fn overdue(&self, team: &Team, patience: Duration) -> Option<i64> {
        let waiting = lock(&self.waiting);
        let overdue = waiting.values().filter(|entry| entry.team == *team && entry.asked.elapsed() >= patience);
        overdue.map(|entry| entry.since).min()
    }

    /// Reads what the journal holds since the last look, if anything has been waited for long enough.
    async fn catch_up(&self, team: &Team, cursor: &mut Option<u64>, patience: Duration) {
        let Some(since) = self.overdue(team, patience) else { return };
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
        let Some(mut entry) = lock(&self.waiting).remove(id) else { return };
        match TaskResult::parse(|name| text(message, name), message.payload.clone()) {
            Ok(result) => {
                let last = entry.senders.pop();
                for sender in entry.senders {
                    let _ = sender.send(result.clone());
                }
                // Mostly there is only one.
                if let Some(last) = last {
                    let _ = last.send(result);
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

    /// A regression here reads a minute of the journal every few seconds on behalf of tasks that are
    /// answered at once.
    #[tokio::test(start_paused = true)]
    async fn only_what_has_been_waited_for_is_read_from_the_journal() {
        let bus = Bus::connect("nats://127.0.0.1:1", "t").await.unwrap();
        let results = Results::start(&bus, "p", "p-0");
        let (team, other) = (Team::new("n", "t"), Team::new("n", "other"));
        let first = results.expect(&team, "a");
        assert_eq!(results.0.overdue(&team, LOOK), None);
        assert!(results.0.overdue(&team, Duration::ZERO).is_some(), "after a reconnect nothing is too young");
        tokio::time::sleep(LOOK).await;
        let _second = results.expect(&team, "b");
        assert!(results.0.overdue(&team, LOOK).is_some());
        assert_eq!(results.0.overdue(&other, Duration::ZERO), None);
        drop(first);
        assert_eq!(results.0.overdue(&team, LOOK), None);
    }
}
