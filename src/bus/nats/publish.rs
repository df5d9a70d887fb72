//! Publishing to the journal. Only the acknowledgement of the broker is success, and a second copy of a
//! message is success too: the journal holds it once.

use async_nats::{HeaderMap, HeaderName, Request};
use bytes::Bytes;
use serde::Deserialize;

use super::connection::Bus;
use super::error::{BusError, PATIENCE};
use crate::bus::Team;
use crate::bus::envelope::{Headers, Task, TaskResult, header};
use crate::bus::heartbeat::Heartbeat;

/// A message that the journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number in the journal.
    pub sequence: u64,
    /// Whether the journal held it before.
    pub duplicate: bool,
}

/// What the broker answers to a publication.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Bus {
    /// Sends a task to a pool.
    ///
    /// # Errors
    /// When the journal has not acknowledged it.
    pub async fn publish_task(&self, team: &Team, to_pool: &str, task: &Task) -> Result<Published, BusError> {
        self.store(team.task(to_pool, &task.from_pool), task.headers(), task.payload.body.clone()).await
    }

    /// Sends a task to a pool under an id by which the journal drops a second one, whatever its own id
    /// is. Of a duplicate, the answer has the number of the task that the journal holds.
    ///
    /// # Errors
    /// When the journal has not acknowledged it.
    pub async fn publish_task_once(&self, team: &Team, to_pool: &str, task: &Task, message_id: &str) -> Result<Published, BusError> {
        let headers = identified(task.headers(), message_id);
        self.store(team.task(to_pool, &task.from_pool), headers, task.payload.body.clone()).await
    }

    /// Sends the outcome of a task to the agent that sent the task.
    ///
    /// # Errors
    /// When the journal has not acknowledged it.
    pub async fn publish_result(&self, team: &Team, to_pool: &str, to_agent: &str, result: &TaskResult) -> Result<Published, BusError> {
        self.store(team.result(to_pool, to_agent, &result.from_pool), result.headers(), result.payload.body.clone()).await
    }

    /// Keeps a copy of a task that a pool could not do, with the reason.
    ///
    /// # Errors
    /// When the journal has not acknowledged it.
    pub async fn publish_dead(&self, team: &Team, pool: &str, task: &Task, reason: &str) -> Result<Published, BusError> {
        let mut headers = identified(task.headers(), &format!("{}:dead", task.id));
        headers.push((header::REASON, reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect()));
        self.store(team.dead(pool), headers, task.payload.body.clone()).await
    }

    /// Tells whoever listens how an agent is. Not stored, not acknowledged.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn publish_heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), BusError> {
        if !self.connected() {
            return Err(BusError::Disconnected);
        }
        let body = serde_json::to_vec(heartbeat).map_err(BusError::other)?;
        self.client().publish(heartbeat.subject(), body.into()).await.map_err(BusError::other)
    }

    /// Publishes to a stream and waits for its acknowledgement.
    pub(super) async fn store(&self, subject: String, headers: Headers, body: Bytes) -> Result<Published, BusError> {
        let request = Request::new().headers(map(headers)).payload(body).timeout(Some(PATIENCE));
        let answer = self.ask(subject, request).await?;
        let answer: Answer = serde_json::from_slice(&answer.payload)
            .map_err(|error| BusError::Other(format!("its acknowledgement cannot be read: {error}")))?;
        match answer.error {
            None => Ok(Published { sequence: answer.seq, duplicate: answer.duplicate }),
            Some(refusal) => Err(refused(&refusal)),
        }
    }

    /// One request, one answer; fails at once when the connection is away or goes away.
    pub(super) async fn ask(&self, subject: String, request: Request) -> Result<async_nats::Message, BusError> {
        if !self.connected() {
            return Err(BusError::Disconnected);
        }
        tokio::select! {
            answer = self.client().send_request(subject, request) => answer.map_err(|error| BusError::of_request(&error, self.max_payload())),
            () = self.lost() => Err(BusError::Disconnected),
        }
    }
}

/// JetStream's error codes that mean that there is no room.
const FULL: [u64; 4] = [10_023, 10_028, 10_047, 10_077];

fn refused(refusal: &Refusal) -> BusError {
    if FULL.contains(&refusal.err_code) {
        BusError::Full
    } else {
        BusError::Other(format!("{} (code {})", refusal.description, refusal.err_code))
    }
}

/// The same headers with another id for the journal.
fn identified(mut headers: Headers, message_id: &str) -> Headers {
    for (name, value) in &mut headers {
        if *name == header::MESSAGE_ID {
            message_id.clone_into(value);
        }
    }
    headers
}

fn map(headers: Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_static(name), value);
    }
    map
}
