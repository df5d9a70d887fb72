//! Programs on the bus: the controller writes them into a key-value bucket, sidecars and gateway follow
//! them.
//!
//! A reader listens to the subject of its key and reads the bucket at the start, after every reconnect
//! and now and then. That needs no consumer on the broker, so ten thousand sidecars cost it nothing,
//! and it makes no difference whether the bucket is missing, made again or made later. A program once
//! seen is kept while the bus is away or its bucket is empty; a deletion marker ends it, and so does
//! its absence for a minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{info, warn};

use super::connection::Bus;
use super::direct::{number, text};
use super::error::BusError;
use super::publish::Published;
use crate::bus::subjects::{self, PROGRAMS, Team};
use crate::topology::{PoolProgram, TeamProgram};

/// The time between two readings while the bucket has no answer.
const SOON: Duration = Duration::from_secs(1);
/// The time between two readings otherwise.
const LATER: Duration = Duration::from_secs(30);
/// How long a program is kept that the bucket does not hold.
const KEPT: Duration = Duration::from_secs(60);

const OPERATION: &str = "KV-Operation";

/// What a message of the bucket says of its key.
enum Entry {
    Is(Bytes),
    Gone,
}

impl Bus {
    /// Follows the program of one pool for as long as somebody holds the receiver.
    #[must_use]
    pub fn watch_pool_program(&self, namespace: &str, pool: &str) -> watch::Receiver<Option<Arc<PoolProgram>>> {
        let (sender, receiver) = watch::channel(None);
        let key = subjects::pool_program_key(namespace, pool);
        let bus = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = follow_one(&bus, &key, &sender) => {}
            }
        });
        receiver
    }

    /// Follows the programs of all teams for as long as somebody holds the receiver. Its first change
    /// comes when the bucket has been read, even if it is empty or has not been made yet.
    #[must_use]
    pub fn watch_team_programs(&self) -> watch::Receiver<Arc<BTreeMap<Team, TeamProgram>>> {
        let (sender, receiver) = watch::channel(Arc::default());
        let bus = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = follow_all(&bus, &sender) => {}
            }
        });
        receiver
    }

    /// Writes a program.
    ///
    /// # Errors
    /// When the bucket has not acknowledged it.
    pub async fn put_program(&self, key: &str, program: Bytes) -> Result<Published, BusError> {
        self.store(subject(key), Vec::new(), program).await
    }

    /// Removes a program, whether it is there or not.
    ///
    /// # Errors
    /// When the bucket has not acknowledged it.
    pub async fn delete_program(&self, key: &str) -> Result<Published, BusError> {
        self.store(subject(key), vec![(OPERATION, "DEL".to_owned())], Bytes::new()).await
    }

    /// Removes the program of a pool, if it still says that the pool is a member of this topology. Another
    /// topology may have taken the pool over a moment ago, and its word stays.
    ///
    /// # Errors
    /// When the bucket has not acknowledged it.
    pub async fn withdraw_program(&self, key: &str, topology: &str) -> Result<(), BusError> {
        let Some(message) = self.last_of(&bucket(), &subject(key)).await? else { return Ok(()) };
        let Some((_, Entry::Is(program))) = said(&message) else { return Ok(()) };
        if serde_json::from_slice::<PoolProgram>(&program).is_ok_and(|program| program.topology != topology) {
            return Ok(());
        }
        let version = number(&message, "Nats-Sequence").unwrap_or_default();
        let headers = vec![(OPERATION, "DEL".to_owned()), ("Nats-Expected-Last-Subject-Sequence", version.to_string())];
        match self.store(subject(key), headers, Bytes::new()).await {
            Ok(_) => Ok(()),
            // It is another one by now, or gone.
            Err(_) if self.last_of(&bucket(), &subject(key)).await?.as_ref().and_then(|m| number(m, "Nats-Sequence")) != Some(version) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Every program that the bucket holds under a prefix like `pool.` or `team.`, or under `""`.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    pub async fn list_programs(&self, prefix: &str) -> Result<BTreeMap<String, Bytes>, BusError> {
        let entries = self.entries(&format!("{prefix}>")).await?;
        Ok(entries
            .into_iter()
            .filter_map(|(key, entry)| match entry {
                Entry::Is(program) => Some((key, program)),
                Entry::Gone => None,
            })
            .collect())
    }

    /// The last word of the bucket on every key that matches a filter.
    async fn entries(&self, filter: &str) -> Result<BTreeMap<String, Entry>, BusError> {
        if !self.connected() {
            return Err(BusError::Disconnected);
        }
        let config = pull::Config {
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::None,
            filter_subject: subject(filter),
            memory_storage: true,
            inactive_threshold: Duration::from_secs(10),
            ..pull::Config::default()
        };
        let read = async {
            let stream = self.jetstream().get_stream_no_info(bucket()).await.map_err(BusError::other)?;
            let consumer = stream.create_consumer(config).await.map_err(|error| BusError::of_consumer(&error))?;
            let mut left = consumer.cached_info().num_pending;
            let mut entries = BTreeMap::new();
            while left > 0 {
                let batch = usize::try_from(left).unwrap_or(256).min(256);
                let mut messages = consumer.fetch().max_messages(batch).expires(SOON).messages().await.map_err(BusError::other)?;
                let before = left;
                while let Some(message) = messages.next().await {
                    let message = message.map_err(BusError::other)?;
                    left = left.saturating_sub(1);
                    if let Some((key, entry)) = said(&message.message) {
                        entries.insert(key, entry);
                    }
                }
                if left == before {
                    return Err(BusError::Timeout);
                }
            }
            let name = consumer.cached_info().name.clone();
            let _ = stream.delete_consumer(&name).await;
            Ok(entries)
        };
        tokio::select! {
            entries = read => entries,
            () = self.lost() => Err(BusError::Disconnected),
        }
    }
}

async fn follow_one(bus: &Bus, key: &str, sender: &watch::Sender<Option<Arc<PoolProgram>>>) {
    let Some(mut changes) = listen(bus, key).await else { return };
    let mut state = bus.state();
    let mut absent = None;
    loop {
        let answer = if *state.borrow_and_update() { bus.last_of(&bucket(), &subject(key)).await } else { Err(BusError::Disconnected) };
        let pause = match answer {
            Ok(message) => {
                match message.as_ref().and_then(said) {
                    Some((_, Entry::Is(program))) => {
                        absent = None;
                        set(key, &program, sender);
                    }
                    Some((_, Entry::Gone)) => clear(key, sender),
                    None if overdue(&mut absent) => clear(key, sender),
                    None => {}
                }
                if sender.borrow().is_some() && absent.is_none() { LATER } else { SOON }
            }
            Err(_) => SOON,
        };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            change = changes.next() => match change.as_ref().map(said) {
                Some(Some((_, Entry::Is(program)))) => set(key, &program, sender),
                Some(Some((_, Entry::Gone))) => clear(key, sender),
                Some(None) => {}
                None => return,
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn follow_all(bus: &Bus, sender: &watch::Sender<Arc<BTreeMap<Team, TeamProgram>>>) {
    let Some(mut changes) = listen(bus, "team.>").await else { return };
    let mut state = bus.state();
    let mut absent: BTreeMap<Team, Option<Instant>> = BTreeMap::new();
    let mut told = false;
    loop {
        let connected = *state.borrow_and_update();
        let answer = if connected { bus.entries("team.>").await } else { Err(BusError::Disconnected) };
        let known = matches!(answer, Ok(_) | Err(BusError::NoJournal));
        let pause = match answer {
            Ok(entries) => {
                absent.retain(|team, _| !entries.contains_key(&team.program_key()));
                let held: Vec<Team> = sender.borrow().keys().cloned().collect();
                for team in held.into_iter().filter(|team| !entries.contains_key(&team.program_key())) {
                    if overdue(absent.entry(team.clone()).or_default()) {
                        learn(&team.program_key(), &Entry::Gone, sender);
                    }
                }
                for (key, entry) in &entries {
                    learn(key, entry, sender);
                }
                if absent.is_empty() && !entries.is_empty() { LATER } else { SOON }
            }
            Err(_) => SOON,
        };
        if known && !std::mem::replace(&mut told, true) {
            sender.send_modify(|_| {});
        }
        let next = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                changed = state.changed() => {
                    if changed.is_err() { return }
                    break;
                }
                change = changes.next() => match change.as_ref().map(said) {
                    Some(Some((key, entry))) => learn(&key, &entry, sender),
                    Some(None) => {}
                    None => return,
                },
                () = tokio::time::sleep_until(next) => break,
            }
        }
    }
}

/// Subscribes to a key; a subscription outlives every reconnect.
async fn listen(bus: &Bus, key: &str) -> Option<Subscriber> {
    match bus.client().subscribe(subject(key)).await {
        Ok(changes) => Some(changes),
        Err(error) => {
            warn!(key, %error, "programs cannot be followed");
            None
        }
    }
}

/// Whether something has been absent for so long that it is gone. Remembers since when.
fn overdue(since: &mut Option<Instant>) -> bool {
    since.get_or_insert_with(Instant::now).elapsed() >= KEPT
}

fn set(key: &str, program: &[u8], sender: &watch::Sender<Option<Arc<PoolProgram>>>) {
    let Some(program) = parse::<PoolProgram>(key, program) else { return };
    sender.send_if_modified(|held| {
        let changed = held.as_deref() != Some(&program);
        if changed {
            info!(topology = program.topology, revision = program.revision, "a new program");
            *held = Some(Arc::new(program));
        }
        changed
    });
}

fn clear(key: &str, sender: &watch::Sender<Option<Arc<PoolProgram>>>) {
    sender.send_if_modified(|held| {
        let changed = held.take().is_some();
        if changed {
            info!(key, "the program is gone");
        }
        changed
    });
}

fn learn(key: &str, entry: &Entry, sender: &watch::Sender<Arc<BTreeMap<Team, TeamProgram>>>) {
    let Some(team) = team_of(key) else { return };
    let program = match entry {
        Entry::Is(program) => match parse::<TeamProgram>(key, program) {
            Some(program) => Some(program),
            None => return,
        },
        Entry::Gone => None,
    };
    sender.send_if_modified(|held| {
        if held.get(&team) == program.as_ref() {
            return false;
        }
        let teams = Arc::make_mut(held);
        match program {
            Some(program) => teams.insert(team, program),
            None => teams.remove(&team),
        };
        true
    });
}

fn parse<T: DeserializeOwned>(key: &str, program: &[u8]) -> Option<T> {
    serde_json::from_slice(program)
        .inspect_err(|error| warn!(key, %error, "a program on the bus cannot be read; the one before stays in force"))
        .ok()
}

fn team_of(key: &str) -> Option<Team> {
    let (namespace, topology) = key.strip_prefix("team.")?.split_once('.')?;
    Some(Team::new(namespace, topology))
}

fn said(message: &Message) -> Option<(String, Entry)> {
    // A direct get has the subject of the key in a header, a live message is on it.
    let subject = text(message, "Nats-Subject").unwrap_or(message.subject.as_str());
    let key = subject.strip_prefix("$KV.")?.strip_prefix(PROGRAMS)?.strip_prefix('.')?.to_owned();
    let gone = text(message, OPERATION).is_some() || text(message, "Nats-Marker-Reason").is_some();
    Some((key, if gone { Entry::Gone } else { Entry::Is(message.payload.clone()) }))
}

fn subject(key: &str) -> String {
    format!("$KV.{PROGRAMS}.{key}")
}

fn bucket() -> String {
    format!("KV_{PROGRAMS}")
}
