//! What only the controller does on the broker: looks at journals and queues, makes, changes and
//! deletes them, and purges what may go. What they look like is decided in [`super::journal`], how far
//! a purge may go in [`super::trim`].
//!
//! Every call asks the broker once and says what it found or what went wrong; nothing here repeats,
//! waits or decides.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Request;
use async_nats::jetstream::consumer::{self, AckPolicy};
use async_nats::jetstream::{Error as Refusal, ErrorCode, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::connection::Bus;
use super::direct::Start;
use super::error::{BusError, PATIENCE};
use super::trim::{Held, Progress};
use crate::bus::subjects::{PROGRAMS, Team};

/// A stream as the broker has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// How it is set up.
    pub config: stream::Config,
    /// When it was made, by the broker's clock. With the name it says which stream this is: one that
    /// was deleted and made again has another time.
    pub created: String,
    /// What it holds.
    pub held: Held,
    /// The number of its consumers.
    pub consumers: usize,
    /// The broker's clock when it answered, in milliseconds since 1970.
    pub now: i64,
}

/// A consumer as the broker has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How it is set up.
    pub config: consumer::Config,
    /// How far it is.
    pub progress: Progress,
}

#[derive(Deserialize)]
struct StreamInfo {
    config: stream::Config,
    created: String,
    state: stream::State,
    /// The broker's clock.
    #[serde(default)]
    ts: Option<String>,
}

#[derive(Deserialize)]
struct StreamPage {
    total: usize,
    #[serde(default)]
    streams: Option<Vec<StreamInfo>>,
}

#[derive(Deserialize)]
struct ConsumerPage {
    total: usize,
    #[serde(default)]
    consumers: Option<Vec<consumer::Info>>,
}

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

#[derive(Deserialize)]
struct Done {}

#[derive(Deserialize)]
struct Refused {
    error: Option<Refusal>,
}

impl Bus {
    /// Every journal that the broker has, of topologies that exist or not.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn journals(&self) -> Result<BTreeMap<Team, Stream>, BusError> {
        let mut found = BTreeMap::new();
        let mut offset = 0;
        loop {
            let page: StreamPage = self.api("STREAM.LIST", &json!({"subject": "skein.journal.>", "offset": offset})).await?;
            let streams = page.streams.unwrap_or_default();
            offset += streams.len();
            let more = !streams.is_empty() && offset < page.total;
            found.extend(streams.into_iter().filter_map(|info| Some((Team::of_stream(&info.config.name)?, Stream::from(info)))));
            if !more {
                return Ok(found);
            }
        }
    }

    /// The journal of one team, if there is one.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn journal(&self, team: &Team) -> Result<Option<Stream>, BusError> {
        self.stream(&team.stream()).await
    }

    /// The bucket of the programs, if there is one.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn bucket(&self) -> Result<Option<Stream>, BusError> {
        self.stream(&format!("KV_{PROGRAMS}")).await
    }

    async fn stream(&self, name: &str) -> Result<Option<Stream>, BusError> {
        let info = self.find::<StreamInfo>(&format!("STREAM.INFO.{name}"), &json!({}), ErrorCode::STREAM_NOT_FOUND).await?;
        Ok(info.map(Stream::from))
    }

    /// The consumers of a team's journal that acknowledge, by name; none when there is no journal.
    /// Whoever only reads (a search for a result) holds no task, and is left out.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn queues(&self, team: &Team) -> Result<BTreeMap<String, Queue>, BusError> {
        let mut found = BTreeMap::new();
        let mut offset = 0;
        loop {
            let subject = format!("CONSUMER.LIST.{}", team.stream());
            let page = self.find::<ConsumerPage>(&subject, &json!({"offset": offset}), ErrorCode::STREAM_NOT_FOUND).await?;
            let Some(page) = page else { return Ok(found) };
            let consumers = page.consumers.unwrap_or_default();
            offset += consumers.len();
            let more = !consumers.is_empty() && offset < page.total;
            found.extend(consumers.into_iter().filter(|info| info.config.ack_policy != AckPolicy::None).map(|info| {
                let progress = Progress {
                    ack_floor: info.ack_floor.stream_sequence,
                    pending: info.num_pending,
                    in_flight: u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX),
                };
                (info.name, Queue { config: info.config, progress })
            }));
            if !more {
                return Ok(found);
            }
        }
    }

    /// Makes a stream. One that is there already with the same configuration is success.
    ///
    /// # Errors
    /// When the broker does not answer, or refuses.
    pub async fn create_stream(&self, config: &stream::Config) -> Result<(), BusError> {
        self.put_stream("CREATE", config).await
    }

    /// Changes a stream in place.
    ///
    /// # Errors
    /// When the broker does not answer, or refuses.
    pub async fn update_stream(&self, config: &stream::Config) -> Result<(), BusError> {
        self.put_stream("UPDATE", config).await
    }

    async fn put_stream(&self, action: &str, config: &stream::Config) -> Result<(), BusError> {
        let info: StreamInfo = self.api(&format!("STREAM.{action}.{}", config.name), config).await?;
        if config.allow_atomic_publish && !info.config.allow_atomic_publish {
            return Err(BusError::Other("it is too old to know atomic batches: Skein needs NATS 2.12 or later".to_owned()));
        }
        Ok(())
    }

    /// Deletes the journal of a team with everything in it, and with its consumers. Whether it was there
    /// makes no difference.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn delete_journal(&self, team: &Team) -> Result<(), BusError> {
        self.find::<Done>(&format!("STREAM.DELETE.{}", team.stream()), &json!({}), ErrorCode::STREAM_NOT_FOUND).await.map(|_| ())
    }

    /// Makes a consumer. One that is there already with the same configuration is success.
    ///
    /// # Errors
    /// When the broker does not answer, or refuses.
    pub async fn create_queue(&self, team: &Team, config: &consumer::Config) -> Result<(), BusError> {
        self.put_queue(team, config, "create").await
    }

    /// Changes a consumer in place.
    ///
    /// # Errors
    /// When the broker does not answer, or refuses.
    pub async fn update_queue(&self, team: &Team, config: &consumer::Config) -> Result<(), BusError> {
        self.put_queue(team, config, "update").await
    }

    async fn put_queue(&self, team: &Team, config: &consumer::Config, action: &str) -> Result<(), BusError> {
        let (stream, name) = (team.stream(), config.durable_name.as_deref().unwrap_or_default());
        let subject = format!("CONSUMER.CREATE.{stream}.{name}.{}", config.filter_subject);
        let request = json!({"stream_name": stream, "config": config, "action": action});
        self.api::<consumer::Info>(&subject, &request).await.map(|_| ())
    }

    /// Deletes a consumer, whether it is there or not. The tasks stay in the journal.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn delete_queue(&self, team: &Team, pool: &str) -> Result<(), BusError> {
        let subject = format!("CONSUMER.DELETE.{}.{pool}", team.stream());
        self.find::<Done>(&subject, &json!({}), ErrorCode::CONSUMER_NOT_FOUND).await.map(|_| ())
    }

    /// The number of the first message of a journal that is younger than this, by the broker's clock;
    /// `None` when there is none.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn first_younger_than(&self, team: &Team, stream: &Stream, age: Duration) -> Result<Option<u64>, BusError> {
        let since = stream.now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let found = self.next_of(&team.stream(), &team.journal(), Start::Time(since.max(0)), 1).await?;
        Ok(found.next.map(|next| next.saturating_sub(1)))
    }

    /// Drops everything before this number out of a journal, and says how much that was.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn purge(&self, team: &Team, before: u64) -> Result<u64, BusError> {
        self.api::<Purged>(&format!("STREAM.PURGE.{}", team.stream()), &json!({"seq": before})).await.map(|answer| answer.purged)
    }

    /// Asks JetStream's interface.
    async fn api<V: DeserializeOwned>(&self, subject: &str, body: &(impl Serialize + Sync)) -> Result<V, BusError> {
        match self.answer(subject, body).await? {
            Ok(answer) => Ok(answer),
            Err(refusal) => Err(refused(&refusal)),
        }
    }

    /// Asks JetStream's interface for something that may not be there.
    async fn find<V: DeserializeOwned>(
        &self,
        subject: &str,
        body: &(impl Serialize + Sync),
        absent: ErrorCode,
    ) -> Result<Option<V>, BusError> {
        match self.answer(subject, body).await? {
            Ok(answer) => Ok(Some(answer)),
            // A consumer of a stream that is gone is gone too.
            Err(refusal) if refusal.error_code() == absent || refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Err(refusal) => Err(refused(&refusal)),
        }
    }

    async fn answer<V: DeserializeOwned>(&self, subject: &str, body: &(impl Serialize + Sync)) -> Result<Result<V, Refusal>, BusError> {
        let body = serde_json::to_vec(body).map_err(BusError::other)?;
        let request = Request::new().payload(body.into()).timeout(Some(PATIENCE));
        let message = self.ask(format!("$JS.API.{subject}"), request).await.map_err(|error| match error {
            BusError::NoJournal => {
                BusError::Other("JetStream does not answer: the broker must run with it (jetstream in its configuration)".to_owned())
            }
            other => other,
        })?;
        // Read twice, for trying the one and then the other would copy the whole of a long list first.
        let unreadable = |error| BusError::Other(format!("its answer to {subject} cannot be read: {error}"));
        match serde_json::from_slice::<Refused>(&message.payload).map_err(unreadable)?.error {
            Some(refusal) => Ok(Err(refusal)),
            None => serde_json::from_slice(&message.payload).map(Ok).map_err(unreadable),
        }
    }
}

impl From<StreamInfo> for Stream {
    fn from(info: StreamInfo) -> Self {
        let now = info.ts.as_deref().and_then(|ts| async_nats::datetime::parse_rfc3339(ts).ok()).unwrap_or_else(async_nats::datetime::now);
        let held = Held {
            messages: info.state.messages,
            bytes: info.state.bytes,
            first: info.state.first_sequence,
            last: info.state.last_sequence,
            oldest: if info.state.messages == 0 {
                Duration::ZERO
            } else {
                (now - info.state.first_timestamp).try_into().unwrap_or_default()
            },
        };
        let now = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        Self { config: info.config, created: info.created, held, consumers: info.state.consumer_count, now }
    }
}

/// Says what a user can do about the refusals that are theirs to mend.
fn refused(error: &Refusal) -> BusError {
    let help = match error.error_code() {
        ErrorCode::STORAGE_RESOURCES_EXCEEDED | ErrorCode::MEMORY_RESOURCES_EXCEEDED | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => {
            ": it has less room than spec.journal.maxBytes reserves; lower that, or give the broker more"
        }
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED | ErrorCode::CLUSTER_NO_PEERS => {
            ": it has fewer servers than spec.journal.replicas asks for; lower that, or add servers"
        }
        ErrorCode::STREAM_SUBJECT_OVERLAP => ": another stream takes the journal's subjects; delete that stream",
        _ => "",
    };
    BusError::Other(format!("{error}{help}"))
}
