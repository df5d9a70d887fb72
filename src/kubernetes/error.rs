//! What can go wrong with a request to the API server, by what helps against it.

use std::time::Duration;

/// What helps against an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Trying again: the network, an overloaded or restarting server, a request that took too long.
    Transient,
    /// Looking again, at once: somebody else wrote at the same time.
    Conflict,
    /// A change by somebody: a quota, a missing permission, an object that the server does not take.
    Refused,
}

impl Class {
    /// The value of the label `class` of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
        }
    }
}

/// A request to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server could not be asked, or did not understand, or refused.
    #[error("{doing}: {}", reason(source))]
    Request {
        /// What was tried, such as `create pod coder-0`.
        doing: String,
        /// What the client says.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer within the deadline.
    #[error("{doing}: the API server did not answer within {} seconds", deadline.as_secs())]
    Deadline {
        /// What was tried.
        doing: String,
        /// How long was waited.
        deadline: Duration,
    },
}

impl Error {
    /// What helps.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Deadline { .. } => Class::Transient,
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => match status.code {
                    409 => Class::Conflict,
                    408 | 429 | 500..=599 => Class::Transient,
                    _ => Class::Refused,
                },
                _ => Class::Transient,
            },
        }
    }

    /// The server's own words, when it refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Request { source, .. } if self.class() == Class::Refused => match source.as_ref() {
                kube::Error::Api(status) => Some(&status.message),
                _ => None,
            },
            Self::Request { .. } | Self::Deadline { .. } => None,
        }
    }

    /// Whether the server refused because the namespace is being deleted: nothing is to be made there.
    #[must_use]
    pub fn namespace_is_ending(&self) -> bool {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => {
                    status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
                }
                _ => false,
            },
            Self::Deadline { .. } => false,
        }
    }

    /// The HTTP status of the server's answer, when there was one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Deadline { .. } => None,
        }
    }
}

/// One line for people, without the `ApiError:` and the dump of the object that the client prints.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

/// How long any one request may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);

/// Waits for the answer to a request, and says what was tried when there is none.
pub(super) async fn ask<T>(doing: impl FnOnce() -> String, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Request { doing: doing(), source: Box::new(source) }),
        Err(_) => Err(Error::Deadline { doing: doing(), deadline: DEADLINE }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(code: u16) -> Error {
        let status = Status { code, message: "exceeded quota: pods".to_owned(), ..Status::default() };
        Error::Request { doing: "create pod a-0".to_owned(), source: Box::new(kube::Error::Api(Box::new(status))) }
    }

    #[test]
    fn a_class_says_what_helps() {
        assert_eq!(api(409).class(), Class::Conflict);
        assert_eq!(api(403).class(), Class::Refused);
        assert_eq!(api(422).class(), Class::Refused);
        assert_eq!(api(429).class(), Class::Transient);
        assert_eq!(api(500).class(), Class::Transient);
        assert_eq!(api(403).refusal(), Some("exceeded quota: pods"));
        assert_eq!(api(500).refusal(), None);
        assert_eq!(api(403).to_string(), "create pod a-0: exceeded quota: pods (403)");
    }
}
