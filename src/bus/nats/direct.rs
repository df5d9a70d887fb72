//! Reading messages out of a stream without a consumer.

use std::time::Duration;

use async_nats::{HeaderName, Message, Request};
use futures::StreamExt as _;
use serde::Serialize;

use super::connection::Bus;
use super::error::{BusError, PATIENCE};

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At this number.
    Sequence(u64),
    /// At this time, in milliseconds since 1970.
    Time(i64),
}

/// Some messages of a stream, in its order.
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    /// The number of the message after the last of them, unless there was none.
    pub(super) next: Option<u64>,
    /// Whether the stream holds more.
    pub(super) more: bool,
}

#[derive(Serialize)]
struct Query<'a> {
    next_by_subj: &'a str,
    batch: usize,
    max_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
}

impl Bus {
    /// The last message of one subject, if there is any.
    pub(super) async fn last_of(&self, stream: &str, subject: &str) -> Result<Option<Message>, BusError> {
        let request = Request::new().timeout(Some(PATIENCE));
        let message = self.ask(format!("$JS.API.DIRECT.GET.{stream}.{subject}"), request).await?;
        match message.status.map(|status| status.as_u16()) {
            None => Ok(Some(message)),
            Some(404) => Ok(None),
            Some(code) => Err(BusError::Other(format!("{code} {}", message.description.unwrap_or_default()))),
        }
    }

    /// The next messages whose subject matches a filter.
    pub(super) async fn next_of(&self, stream: &str, filter: &str, start: Start, batch: usize) -> Result<Batch, BusError> {
        if !self.connected() {
            return Err(BusError::Disconnected);
        }
        let (seq, start_time) = match start {
            Start::Sequence(sequence) => (Some(sequence.max(1)), None),
            Start::Time(ms) => (None, Some(jiff::Timestamp::from_millisecond(ms).map_err(BusError::other)?.to_string())),
        };
        let query = Query { next_by_subj: filter, batch, max_bytes: 1 << 20, seq, start_time };
        let query = serde_json::to_vec(&query).map_err(BusError::other)?;
        let inbox = self.client().new_inbox();
        let mut answers = self.client().subscribe(inbox.clone()).await.map_err(BusError::other)?;
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        self.client().publish_with_reply(subject, inbox, query.into()).await.map_err(BusError::other)?;
        let mut found = Batch { messages: Vec::new(), next: None, more: false };
        let read = async {
            while let Some(message) = answers.next().await {
                match message.status.map(|status| status.as_u16()) {
                    None => {
                        found.next = number(&message, "Nats-Sequence").map(|sequence| sequence + 1);
                        found.messages.push(message);
                    }
                    Some(204) => {
                        found.more = number(&message, "Nats-Num-Pending").is_some_and(|pending| pending > 0);
                        return Ok(());
                    }
                    Some(404) => return Ok(()),
                    Some(503) => return Err(BusError::NoJournal),
                    Some(code) => return Err(BusError::Other(format!("{code} {}", message.description.unwrap_or_default()))),
                }
            }
            Err(BusError::Disconnected)
        };
        tokio::select! {
            done = tokio::time::timeout(PATIENCE, read) => done.map_err(|_| BusError::Timeout)??,
            () = self.lost() => return Err(BusError::Disconnected),
        }
        Ok(found)
    }

    /// Reads from `at` on until `wanted` has what it looks for, or to the end; gives up after `patience`.
    /// Then `at` is where the next look may begin.
    pub(super) async fn scan<T>(
        &self,
        stream: &str,
        filter: &str,
        at: &mut Start,
        patience: Duration,
        mut wanted: impl FnMut(&Message) -> Option<T>,
    ) -> Result<Option<T>, BusError> {
        let search = async {
            loop {
                let batch = self.next_of(stream, filter, *at, 64).await?;
                if let Some(found) = batch.messages.iter().find_map(&mut wanted) {
                    return Ok(Some(found));
                }
                if let Some(next) = batch.next {
                    *at = Start::Sequence(next);
                }
                if batch.next.is_none() || !batch.more {
                    return Ok(None);
                }
            }
        };
        tokio::time::timeout(patience, search).await.unwrap_or(Err(BusError::Timeout))
    }
}

/// A number in a header.
pub(super) fn number(message: &Message, header: &'static str) -> Option<u64> {
    text(message, header)?.parse().ok()
}

/// A header.
pub(super) fn text<'a>(message: &'a Message, header: &'static str) -> Option<&'a str> {
    message.headers.as_ref()?.get_last(HeaderName::from_static(header)).map(async_nats::HeaderValue::as_str)
}
