//! Pulls tasks out of a pool's queue, one at a time.
//!
//! Every pull is a request of its own with a short life, and is given up a little after the broker
//! should have answered it: a delivery that stalls is replaced by the next pull. A task that comes when
//! nobody waits for it any more goes back at once.

use std::time::{Duration, Instant};

use async_nats::{Message, Request, Subject, Subscriber};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use serde::Deserialize;

use super::connection::Bus;
use super::direct::text;
use super::error::{BusError, PATIENCE};
use crate::bus::envelope::{Malformed, Task, header};
use crate::bus::subjects::Team;

/// How much later than the broker a pull gives up.
const GRACE: Duration = Duration::from_secs(2);
/// A task that may have waited unseen for longer than this goes back: its lease may have run out.
const FRESH: Duration = Duration::from_secs(8);

impl Bus {
    /// When the queue of a pool was made, as the broker says it: another queue of the same name has
    /// another time, and a task taken from the one must not be acknowledged to the other.
    ///
    /// # Errors
    /// When there is no such queue, or the broker cannot be asked.
    pub async fn queue(&self, team: &Team, pool: &str) -> Result<String, BusError> {
        let subject = format!("$JS.API.CONSUMER.INFO.{}.{pool}", team.stream());
        let answer = self.ask(subject, Request::new().timeout(Some(PATIENCE))).await?;
        let answer: Info = serde_json::from_slice(&answer.payload).map_err(BusError::other)?;
        match (answer.created, answer.error) {
            (Some(created), None) => Ok(created),
            (_, Some(error)) if error.code == 404 => Err(BusError::NoJournal),
            (_, error) => Err(BusError::Other(error.map_or_else(String::new, |error| error.description))),
        }
    }
}

/// What the broker says of a consumer.
#[derive(Deserialize)]
struct Info {
    created: Option<String>,
    error: Option<InfoError>,
}

#[derive(Deserialize)]
struct InfoError {
    code: u16,
    #[serde(default)]
    description: String,
}

/// One place at which an agent can take a task.
pub struct Puller {
    bus: Bus,
    /// Where the broker is asked for a task.
    subject: Subject,
    inbox: String,
    arrivals: Subscriber,
    pulls: u64,
    open: Option<Open>,
    /// When the last pull was sent. What arrives has been under way for no longer than since then.
    since: Instant,
}

/// A pull that the broker has not answered.
struct Open {
    reply: String,
    until: Instant,
    connection: u64,
}

/// A task that this process holds.
pub struct Delivery {
    /// The task; an error when the message is none.
    pub task: Result<Task, Malformed>,
    /// How often it has been delivered, this time included.
    pub delivered: u32,
    /// Its number in the journal.
    pub sequence: u64,
    /// Says what becomes of it.
    pub receipt: Receipt,
}

/// Says what becomes of a task. Not acknowledged: whoever must be sure publishes the outcome first.
#[derive(Clone)]
pub struct Receipt {
    bus: Bus,
    reply: Subject,
}

impl Puller {
    /// Makes ready to pull for a pool.
    ///
    /// # Errors
    /// When the connection has been closed for good.
    pub async fn new(bus: &Bus, team: &Team, pool: &str) -> Result<Self, BusError> {
        let inbox = bus.client().new_inbox();
        let arrivals = bus.client().subscribe(format!("{inbox}.*")).await.map_err(BusError::other)?;
        Ok(Self {
            bus: bus.clone(),
            subject: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{pool}", team.stream()).into(),
            inbox,
            arrivals,
            pulls: 0,
            open: None,
            since: Instant::now(),
        })
    }

    /// Waits for a task for about as long as `wait`; `None` when none came. May be dropped and called
    /// again: the pull that is open goes on.
    ///
    /// # Errors
    /// When the connection is away, or the queue does not exist.
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Delivery>, BusError> {
        while let Some(Some(message)) = self.arrivals.next().now_or_never() {
            if self.since.elapsed() < FRESH {
                if let Some(answer) = self.read(message) {
                    return answer;
                }
            } else if let Some(delivery) = self.delivery(&message) {
                delivery.receipt.nak(None).await?;
            }
        }
        if !self.bus.connected() {
            self.open = None;
            return Err(BusError::Disconnected);
        }
        let connection = self.bus.reconnects();
        let until = match &self.open {
            Some(open) if open.until > Instant::now() && open.connection == connection => open.until,
            _ => self.pull(wait, connection).await?,
        };
        loop {
            tokio::select! {
                message = tokio::time::timeout_at(until.into(), self.arrivals.next()) => match message {
                    Ok(Some(message)) => if let Some(answer) = self.read(message) {
                        return answer;
                    },
                    Ok(None) => return Err(BusError::Disconnected),
                    Err(_) => {
                        self.open = None;
                        return Ok(None);
                    }
                },
                () = self.bus.lost() => {
                    self.open = None;
                    return Err(BusError::Disconnected);
                }
            }
        }
    }

    /// Stops pulling. A task that was under way meanwhile is handed out and has to be worked on or given
    /// back.
    pub async fn close(mut self) -> Option<Delivery> {
        let mut last = None;
        if self.arrivals.drain().await.is_err() {
            return last;
        }
        let rest = async {
            while let Some(message) = self.arrivals.next().await {
                let fresh = self.since.elapsed() < FRESH;
                match self.delivery(&message) {
                    Some(delivery) if fresh && last.is_none() => last = Some(delivery),
                    Some(delivery) => drop(delivery.receipt.nak(None).await),
                    None => {}
                }
            }
        };
        // Without a connection there is nobody to end the subscription; and nothing can arrive.
        let _ = tokio::time::timeout(GRACE, rest).await;
        last
    }

    async fn pull(&mut self, wait: Duration, connection: u64) -> Result<Instant, BusError> {
        self.pulls += 1;
        let reply = format!("{}.{}", self.inbox, self.pulls);
        let query = format!(r#"{{"batch":1,"expires":{}}}"#, wait.as_nanos());
        self.since = Instant::now();
        self.bus.client().publish_with_reply(self.subject.clone(), reply.clone(), query.into()).await.map_err(BusError::other)?;
        let until = self.since + wait + GRACE;
        self.open = Some(Open { reply, until, connection });
        Ok(until)
    }

    /// What an arrival means; `None` when it is of no interest. The broker says of a status to which pull
    /// it belongs. Of a task it does not; but a task that an older pull brought is as good.
    fn read(&mut self, message: Message) -> Option<Result<Option<Delivery>, BusError>> {
        let status = message.status.map(|status| status.as_u16());
        let current = self.open.as_ref().is_some_and(|open| open.reply == message.subject.as_str());
        let answer = match status {
            None => Ok(Some(self.delivery(&message)?)),
            _ if !current => return None,
            Some(100) => return None,
            Some(404 | 408) => Ok(None),
            Some(503) => Err(BusError::NoJournal),
            Some(code) => {
                let description = message.description.unwrap_or_default();
                match (code, description.contains("Deleted")) {
                    (409, true) => Err(BusError::NoJournal),
                    _ => Err(BusError::Other(format!("{code} {description}"))),
                }
            }
        };
        self.open = None;
        Some(answer)
    }

    fn delivery(&self, message: &Message) -> Option<Delivery> {
        let reply = message.reply.clone()?;
        let (delivered, sequence) = place(&reply)?;
        let task = Task::parse(|name| text(message, name), message.payload.clone()).and_then(|task| honest(task, &message.subject));
        Some(Delivery { task, delivered, sequence, receipt: Receipt { bus: self.bus.clone(), reply } })
    }
}

/// How often a message has been delivered, and its number in the stream: the broker says both in the subject
/// of the reply, `$JS.ACK.<stream>.<consumer>.<delivered>.<number>…`, where newer brokers put a domain and an
/// account before the stream.
fn place(reply: &str) -> Option<(u32, u64)> {
    let fields = reply.strip_prefix("$JS.ACK.")?.split('.');
    let before = if fields.clone().count() < 9 { 2 } else { 4 };
    let mut fields = fields.skip(before);
    let (delivered, sequence) = (fields.next()?, fields.next()?);
    Some((delivered.parse().ok()?, sequence.parse().ok()?))
}

/// The subject is what the broker lets a sender publish to, the header is only what it says, and the
/// ancestry of what a pool sends ends with that pool; and the name of the sending agent becomes a part of the subject of the outcome.
fn honest(task: Task, subject: &str) -> Result<Task, Malformed> {
    if subject.rsplit('.').next() != Some(task.from_pool.as_str()) {
        return Err(Malformed { header: header::FROM_POOL, problem: "is not the pool in the subject of the message" });
    }
    if task.ancestry.last().is_some_and(|last| *last != task.from_pool) {
        return Err(Malformed { header: header::ANCESTRY, problem: "does not end with the pool that sent the task" });
    }
    let plain = task.from_agent.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain { Ok(task) } else { Err(Malformed { header: header::FROM_AGENT, problem: "is not the name of an agent" }) }
}

impl Receipt {
    /// The task has ended.
    ///
    /// # Errors
    /// When the connection has been closed for good.
    pub async fn ack(&self) -> Result<(), BusError> {
        self.say(Bytes::from_static(b"+ACK")).await
    }

    /// The task goes back, for the next delivery after `delay`.
    ///
    /// # Errors
    /// When the connection has been closed for good.
    pub async fn nak(&self, delay: Option<Duration>) -> Result<(), BusError> {
        match delay {
            None => self.say(Bytes::from_static(b"-NAK")).await,
            Some(delay) => self.say(format!(r#"-NAK {{"delay":{}}}"#, delay.as_nanos()).into()).await,
        }
    }

    /// The task is being worked on: the broker waits on.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn progress(&self) -> Result<(), BusError> {
        if !self.bus.connected() {
            return Err(BusError::Disconnected);
        }
        self.say(Bytes::from_static(b"+WPI")).await
    }

    /// The task is not to be delivered again.
    ///
    /// # Errors
    /// When the connection has been closed for good.
    pub async fn term(&self) -> Result<(), BusError> {
        self.say(Bytes::from_static(b"+TERM")).await
    }

    /// While the connection is away, the word waits for its return, as long as there is room for it.
    async fn say(&self, word: Bytes) -> Result<(), BusError> {
        let said = tokio::time::timeout(PATIENCE, self.bus.client().publish(self.reply.clone(), word));
        said.await.map_err(|_| BusError::Timeout)?.map_err(BusError::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    /// A regression here takes the first delivery for a later one: every task would be looked for in the
    /// journal first, or given up too soon.
    #[test]
    fn the_place_of_a_delivery_is_read_in_both_forms() {
        assert_eq!(place("$JS.ACK.skein_n_t.coder.3.41.7.1764000000000000000.0"), Some((3, 41)));
        assert_eq!(place("$JS.ACK._.aCcOuNt.skein_n_t.coder.3.41.7.1764000000000000000.0"), Some((3, 41)));
        assert_eq!(place("$JS.ACK.hub.aCcOuNt.skein_n_t.coder.3.41.7.1764000000000000000.0.rAnDoM"), Some((3, 41)));
        for none in ["", "_INBOX.x.1", "$JS.ACK.s.c", "$JS.ACK.s.c.x.41.7.1.0"] {
            assert_eq!(place(none), None, "{none}");
        }
    }
}
