//! Finding one message of a journal by its headers.
//!
//! Whoever asks for a task has only its id, which is in no subject. The id says when the task was made,
//! and from there on the journal is read without payloads, by a consumer that lives for one search.

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::Message;
use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use bytes::Bytes;
use futures::StreamExt as _;

use super::connection::Bus;
use super::direct::{Start, number, text};
use super::error::BusError;
use crate::bus::envelope::{Task, TaskResult, header};
use crate::bus::subjects::Team;

/// How much the clocks of two processes and the broker differ as a rule.
const USUAL_SKEW_MS: i64 = 1_000;
/// How much they may differ at most, and how long a publication may take.
const SKEW_MS: i64 = 60_000;
/// How long a search may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many messages are asked for at first, and at most: what is looked for is mostly near.
const FIRST_BATCH: usize = 16;
const BATCH: usize = 512;
/// The header that the broker puts in place of a payload.
const SIZE: &str = "Nats-Msg-Size";

/// A task that the journal holds, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTask {
    /// The task; its payload is empty.
    pub task: Task,
    /// The pool that it is for.
    pub pool: String,
    /// Its number in the journal.
    pub sequence: u64,
    /// The size of its payload.
    pub bytes: u64,
}

/// An outcome that the journal holds, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResult {
    /// The outcome; its payload is empty.
    pub result: TaskResult,
    /// Its number in the journal.
    pub sequence: u64,
    /// The size of its payload.
    pub bytes: u64,
}

/// Where in a journal a message is, and when it was stored, in milliseconds since 1970.
struct Place {
    sequence: u64,
    stored_at: i64,
}

/// Where in a journal a search begins.
enum From {
    Time(i64),
    Sequence(u64),
}

impl Bus {
    /// Finds a task by its id and the time in it, among those that `from_pool` has sent.
    ///
    /// # Errors
    /// When the journal cannot be read, or not in time.
    pub async fn find_task(&self, team: &Team, from_pool: &str, id: &str, created: i64) -> Result<Option<StoredTask>, BusError> {
        // Where clocks agree, the task is soon after its time; only then is it worth looking before.
        for (after, until) in [(created - USUAL_SKEW_MS, created + 2 * SKEW_MS), (created - SKEW_MS, created - USUAL_SKEW_MS)] {
            let judge = |message: &Message, place: Place| {
                if text(message, header::TASK_ID) == Some(id) {
                    return ControlFlow::Break(stored_task(message, place.sequence));
                }
                if place.stored_at > until { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
            };
            let found = self.search(team, team.task("*", from_pool), From::Time(after), judge).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Finds the outcome of a task.
    ///
    /// # Errors
    /// When the journal cannot be read, or not in time.
    pub async fn find_outcome(&self, team: &Team, stored: &StoredTask) -> Result<Option<StoredResult>, BusError> {
        let filter = team.result(&stored.task.from_pool, &stored.task.from_agent, &stored.pool);
        self.search(team, filter, From::Sequence(stored.sequence), |message, place| match text(message, header::TASK_ID) {
            Some(id) if id == stored.task.id => ControlFlow::Break(stored_result(message, place.sequence)),
            _ => ControlFlow::Continue(()),
        })
        .await
    }

    /// The tasks that agents of a pool have sent on behalf of one task, whose number is `sequence`.
    ///
    /// # Errors
    /// When the journal cannot be read, or not in time.
    pub async fn children(&self, team: &Team, pool: &str, parent_id: &str, sequence: u64) -> Result<Vec<StoredTask>, BusError> {
        let mut found = Vec::new();
        let read = |message: &Message, place: Place| {
            if text(message, header::PARENT_ID) == Some(parent_id) {
                found.extend(stored_task(message, place.sequence));
            }
            ControlFlow::<Option<()>>::Continue(())
        };
        self.search(team, team.task("*", pool), From::Sequence(sequence), read).await?;
        Ok(found)
    }

    /// A task by its number, with its payload.
    ///
    /// # Errors
    /// When the journal cannot be read, or not in time.
    pub async fn task_at(&self, team: &Team, from_pool: &str, sequence: u64) -> Result<Option<(String, Task)>, BusError> {
        let message = self.message_at(team, &team.task("*", from_pool), sequence).await?;
        Ok(message.and_then(|message| {
            let pool = pool_of(&message)?;
            Some((pool, Task::parse(|name| text(&message, name), message.payload.clone()).ok()?))
        }))
    }

    /// An outcome by its number, with its payload.
    ///
    /// # Errors
    /// When the journal cannot be read, or not in time.
    pub async fn result_at(&self, team: &Team, sequence: u64) -> Result<Option<TaskResult>, BusError> {
        let message = self.message_at(team, &team.result("*", "*", "*"), sequence).await?;
        Ok(message.and_then(|message| TaskResult::parse(|name| text(&message, name), message.payload.clone()).ok()))
    }

    async fn message_at(&self, team: &Team, filter: &str, sequence: u64) -> Result<Option<Message>, BusError> {
        let batch = self.next_of(&team.stream(), filter, Start::Sequence(sequence), 1).await?;
        Ok(batch.messages.into_iter().find(|message| number(message, "Nats-Sequence") == Some(sequence)))
    }

    /// Reads the headers of a journal until `judge` has seen enough, or to the end.
    async fn search<T>(
        &self,
        team: &Team,
        filter: String,
        from: From,
        mut judge: impl FnMut(&Message, Place) -> ControlFlow<Option<T>>,
    ) -> Result<Option<T>, BusError> {
        if !self.connected() {
            return Err(BusError::Disconnected);
        }
        let config = pull::Config {
            deliver_policy: match from {
                From::Sequence(sequence) => DeliverPolicy::ByStartSequence { start_sequence: sequence.max(1) },
                From::Time(ms) => DeliverPolicy::ByStartTime { start_time: time(ms)? },
            },
            ack_policy: AckPolicy::None,
            filter_subject: filter,
            headers_only: true,
            memory_storage: true,
            inactive_threshold: PATIENCE,
            ..pull::Config::default()
        };
        let read = async {
            let stream = self.jetstream().get_stream_no_info(team.stream()).await.map_err(BusError::other)?;
            let consumer = stream.create_consumer(config).await.map_err(|error| BusError::of_consumer(&error))?;
            let info = consumer.cached_info();
            let mut left = info.num_pending;
            let mut found = None;
            let mut size = FIRST_BATCH;
            'read: while left > 0 {
                let batch = usize::try_from(left).unwrap_or(size).min(size);
                size = (size * 4).min(BATCH);
                let mut messages =
                    consumer.fetch().max_messages(batch).expires(Duration::from_secs(1)).messages().await.map_err(BusError::other)?;
                let before = left;
                while let Some(message) = messages.next().await {
                    let message = message.map_err(BusError::other)?;
                    left = left.saturating_sub(1);
                    let info = message.info().map_err(BusError::other)?;
                    let place = Place { sequence: info.stream_sequence, stored_at: info.published.unix_timestamp() * 1000 };
                    if let ControlFlow::Break(verdict) = judge(&message.message, place) {
                        found = verdict;
                        break 'read;
                    }
                }
                if left == before {
                    return Err(BusError::Timeout);
                }
            }
            let _ = stream.delete_consumer(&info.name).await;
            Ok(found)
        };
        tokio::select! {
            found = tokio::time::timeout(PATIENCE, read) => found.unwrap_or(Err(BusError::Timeout)),
            () = self.lost() => Err(BusError::Disconnected),
        }
    }
}

fn time(ms: i64) -> Result<DateTime, BusError> {
    DateTime::from_unix_timestamp(ms.div_euclid(1000)).map_err(BusError::other)
}

fn stored_task(message: &Message, sequence: u64) -> Option<StoredTask> {
    let task = Task::parse(|name| text(message, name), Bytes::new()).ok()?;
    Some(StoredTask { task, pool: pool_of(message)?, sequence, bytes: number(message, SIZE).unwrap_or(0) })
}

fn stored_result(message: &Message, sequence: u64) -> Option<StoredResult> {
    let result = TaskResult::parse(|name| text(message, name), Bytes::new()).ok()?;
    Some(StoredResult { result, sequence, bytes: number(message, SIZE).unwrap_or(0) })
}

/// The pool that a task is for: the last but one token of its subject, which a direct get puts into a header.
fn pool_of(message: &Message) -> Option<String> {
    text(message, "Nats-Subject").unwrap_or(message.subject.as_str()).rsplit('.').nth(1).map(str::to_owned)
}
