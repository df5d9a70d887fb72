//! What can go wrong on the bus.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};

/// How long a call may wait for the broker.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A call to the broker that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// There is no connection.
    #[error("there is no connection to the bus")]
    Disconnected,
    /// The broker did not answer in time. Whether it did what it was asked is not known.
    #[error("the bus did not answer within {} s", PATIENCE.as_secs())]
    Timeout,
    /// The journal holds as much as it may.
    #[error("the journal of the topology is full: wait until work has ended, or raise spec.journal.maxBytes")]
    Full,
    /// There is no stream or consumer of that name.
    #[error("the journal of the topology does not exist on the bus: the controller makes it when the topology is accepted")]
    NoJournal,
    /// The message is larger than the broker takes.
    #[error("the message is larger than the {limit} bytes that the bus takes")]
    TooLarge {
        /// What the broker takes.
        limit: usize,
    },
    /// Anything else.
    #[error("the bus refused: {0}")]
    Other(String),
}

impl BusError {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Disconnected | Self::Timeout | Self::Full | Self::NoJournal)
    }

    pub(super) fn of_request(error: &async_nats::RequestError, limit: usize) -> Self {
        match error.kind() {
            RequestErrorKind::TimedOut => Self::Timeout,
            RequestErrorKind::NoResponders => Self::NoJournal,
            RequestErrorKind::MaxPayloadExceeded => Self::TooLarge { limit },
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => Self::Other(error.to_string()),
        }
    }

    pub(super) fn of_consumer(error: &ConsumerError) -> Self {
        match error.kind() {
            ConsumerErrorKind::TimedOut => Self::Timeout,
            ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Self::NoJournal,
            _ => Self::other(error),
        }
    }

    pub(super) fn other(error: impl std::fmt::Display) -> Self {
        Self::Other(error.to_string())
    }
}
