//! The envelope: what Skein knows of a task or a result, carried as headers round a payload that it
//! never looks into.
//!
//! | header | task | result | |
//! | --- | --- | --- | --- |
//! | `Skein-Task-Id` | yes | yes | a UUID of version 7: its first 48 bits are the time in milliseconds |
//! | `Skein-Correlation-Id` | yes | yes | the id of the first task of the tree |
//! | `Skein-Parent-Id` | if any | | the task that the sender works on |
//! | `Skein-Ancestry` | if any | | the pools that work on the tasks which this one is part of, the outermost first and the sender last: `planner,writer`. Their number is the depth of the task |
//! | `Skein-From-Pool`, `Skein-From-Agent` | yes | yes | who published this message |
//! | `Skein-Created` | yes | yes | milliseconds since 1970 |
//! | `Skein-Deadline` | if any | | milliseconds since 1970 |
//! | `Skein-Outcome` | | yes | see [`Outcome`] |
//! | `Skein-Reason` | | on failure | one sentence |
//! | `Content-Type` | if any | if any | of the payload |
//! | `traceparent`, `tracestate` | if any | if any | W3C Trace Context, unchanged from hop to hop but for the span id |
//! | `Nats-Msg-Id` | `<task>` | `<task>:outcome` | the journal drops a second one: a task is stored once and ends once |
//!
//! A cancellation has the id of its task, the publisher and `Skein-Created`, with the `Nats-Msg-Id`
//! `<task>:cancel`, and no payload: see [`crate::bus::nats::cancel`].

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// Names of headers.
pub mod header {
    /// The id of a task.
    pub const TASK_ID: &str = "Skein-Task-Id";
    /// The id of the first task of the tree.
    pub const CORRELATION_ID: &str = "Skein-Correlation-Id";
    /// The task that the sender works on.
    pub const PARENT_ID: &str = "Skein-Parent-Id";
    /// The pools that work on the tasks which this one is part of.
    pub const ANCESTRY: &str = "Skein-Ancestry";
    /// The pool of the publisher.
    pub const FROM_POOL: &str = "Skein-From-Pool";
    /// The agent that published.
    pub const FROM_AGENT: &str = "Skein-From-Agent";
    /// When the message was made, in milliseconds since 1970.
    pub const CREATED: &str = "Skein-Created";
    /// When the task is no longer wanted, in milliseconds since 1970.
    pub const DEADLINE: &str = "Skein-Deadline";
    /// How a task ended.
    pub const OUTCOME: &str = "Skein-Outcome";
    /// Why a task did not complete.
    pub const REASON: &str = "Skein-Reason";
    /// The media type of the payload.
    pub const CONTENT_TYPE: &str = "Content-Type";
    /// W3C Trace Context.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C Trace Context.
    pub const TRACESTATE: &str = "tracestate";
    /// By which the journal drops duplicates.
    pub const MESSAGE_ID: &str = "Nats-Msg-Id";
}

/// The payload of a message and what the user said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The bytes.
    pub body: Bytes,
    /// The media type, if the sender named one.
    pub content_type: Option<String>,
}

/// W3C Trace Context, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The `traceparent` header.
    pub parent: Option<String>,
    /// The `tracestate` header.
    pub state: Option<String>,
}

/// A durable unit of work sent along an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The id of the first task of its tree.
    pub correlation_id: String,
    /// The task that the sender works on, if any.
    pub parent_id: Option<String>,
    /// The pools that work on the tasks which it is part of, the outermost first: see
    /// [`crate::topology::delegation`].
    pub ancestry: Vec<String>,
    /// The pool that sent it.
    pub from_pool: String,
    /// The agent that sent it, and that learns its outcome.
    pub from_agent: String,
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
    /// When it is no longer wanted, in milliseconds since 1970.
    pub deadline: Option<i64>,
    /// Where it belongs in a trace.
    pub trace: Trace,
    /// The input.
    pub payload: Payload,
}

/// How a task ended. A task ends exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The agent answered.
    Completed,
    /// The agent refused the task for good.
    Failed,
    /// Its deadline passed.
    Expired,
    /// Its sender no longer wants it.
    Cancelled,
    /// It was given to agents as often as the pool allows, and none could do it.
    Dead,
}

impl Outcome {
    /// Every outcome, for metrics and documentation.
    pub const ALL: [Self; 5] = [Self::Completed, Self::Failed, Self::Expired, Self::Cancelled, Self::Dead];

    /// The word for it on the bus, in the APIs and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = Malformed;

    fn from_str(word: &str) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|o| o.as_str() == word).ok_or(Malformed { header: header::OUTCOME, problem: "names no outcome" })
    }
}

/// The end of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskResult {
    /// The task that ended.
    pub task_id: String,
    /// The id of the first task of its tree.
    pub correlation_id: String,
    /// The pool that ended it.
    pub from_pool: String,
    /// The agent that ended it.
    pub from_agent: String,
    /// When it ended, in milliseconds since 1970.
    pub created: i64,
    /// How.
    pub outcome: Outcome,
    /// Why, unless it completed. One sentence.
    pub reason: Option<String>,
    /// Where it belongs in a trace.
    pub trace: Trace,
    /// The answer of the agent; empty unless it answered.
    pub payload: Payload,
}

/// A message whose headers make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {header} {problem}")]
pub struct Malformed {
    /// The header.
    pub header: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The headers of a message, in the order in which they are written.
pub type Headers = Vec<(&'static str, String)>;

impl Task {
    /// The id by which the journal drops a second copy.
    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.id
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> Headers {
        let mut headers = vec![
            (header::MESSAGE_ID, self.id.clone()),
            (header::TASK_ID, self.id.clone()),
            (header::CORRELATION_ID, self.correlation_id.clone()),
            (header::FROM_POOL, self.from_pool.clone()),
            (header::FROM_AGENT, self.from_agent.clone()),
            (header::CREATED, self.created.to_string()),
        ];
        push(&mut headers, header::PARENT_ID, self.parent_id.as_ref());
        if !self.ancestry.is_empty() {
            headers.push((header::ANCESTRY, self.ancestry.join(",")));
        }
        push(&mut headers, header::DEADLINE, self.deadline.map(|d| d.to_string()).as_ref());
        describe(&mut headers, &self.trace, &self.payload);
        headers
    }

    /// Reads a task out of a message.
    ///
    /// # Errors
    /// When a header that every task has is missing, or is not of its form.
    pub fn parse<'a>(get: impl Fn(&'static str) -> Option<&'a str>, body: Bytes) -> Result<Self, Malformed> {
        Ok(Self {
            id: required(&get, header::TASK_ID)?,
            correlation_id: required(&get, header::CORRELATION_ID)?,
            parent_id: get(header::PARENT_ID).map(str::to_owned),
            ancestry: get(header::ANCESTRY).map(ancestry).transpose()?.unwrap_or_default(),
            from_pool: required(&get, header::FROM_POOL)?,
            from_agent: required(&get, header::FROM_AGENT)?,
            created: number(&required(&get, header::CREATED)?, header::CREATED)?,
            deadline: get(header::DEADLINE).map(|d| number(d, header::DEADLINE)).transpose()?,
            trace: trace(&get),
            payload: payload(&get, body),
        })
    }
}

impl TaskResult {
    /// The id by which the journal drops a second outcome of the same task, whatever it says.
    #[must_use]
    pub fn message_id(&self) -> String {
        format!("{}:outcome", self.task_id)
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> Headers {
        let mut headers = vec![
            (header::MESSAGE_ID, self.message_id()),
            (header::TASK_ID, self.task_id.clone()),
            (header::CORRELATION_ID, self.correlation_id.clone()),
            (header::FROM_POOL, self.from_pool.clone()),
            (header::FROM_AGENT, self.from_agent.clone()),
            (header::CREATED, self.created.to_string()),
            (header::OUTCOME, self.outcome.to_string()),
        ];
        push(&mut headers, header::REASON, self.reason.as_deref().map(one_line).as_ref());
        describe(&mut headers, &self.trace, &self.payload);
        headers
    }

    /// Reads a result out of a message.
    ///
    /// # Errors
    /// When a header that every result has is missing, or is not of its form.
    pub fn parse<'a>(get: impl Fn(&'static str) -> Option<&'a str>, body: Bytes) -> Result<Self, Malformed> {
        Ok(Self {
            task_id: required(&get, header::TASK_ID)?,
            correlation_id: required(&get, header::CORRELATION_ID)?,
            from_pool: required(&get, header::FROM_POOL)?,
            from_agent: required(&get, header::FROM_AGENT)?,
            created: number(&required(&get, header::CREATED)?, header::CREATED)?,
            outcome: required(&get, header::OUTCOME)?.parse()?,
            reason: get(header::REASON).map(str::to_owned),
            trace: trace(&get),
            payload: payload(&get, body),
        })
    }
}

/// A header is one line, and a reason may come from an agent: line breaks become spaces, and what is
/// longer than 1,024 characters is cut.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect::<String>().trim().to_owned()
}

fn push(headers: &mut Headers, name: &'static str, value: Option<&String>) {
    if let Some(value) = value {
        headers.push((name, value.clone()));
    }
}

fn describe(headers: &mut Headers, trace: &Trace, payload: &Payload) {
    push(headers, header::CONTENT_TYPE, payload.content_type.as_ref());
    push(headers, header::TRACEPARENT, trace.parent.as_ref());
    push(headers, header::TRACESTATE, trace.state.as_ref());
}

fn required<'a>(get: impl Fn(&'static str) -> Option<&'a str>, header: &'static str) -> Result<String, Malformed> {
    match get(header) {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        Some(_) => Err(Malformed { header, problem: "is empty" }),
        None => Err(Malformed { header, problem: "is missing" }),
    }
}

fn number(value: &str, header: &'static str) -> Result<i64, Malformed> {
    value.parse().map_err(|_| Malformed { header, problem: "is not a number of milliseconds" })
}

fn ancestry(value: &str) -> Result<Vec<String>, Malformed> {
    // The names of pools are DNS labels.
    let name = |pool: &str| !pool.is_empty() && pool.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let pools: Vec<&str> = value.split(',').map(str::trim).collect();
    if pools.iter().all(|pool| name(pool)) {
        Ok(pools.into_iter().map(str::to_owned).collect())
    } else {
        Err(Malformed { header: header::ANCESTRY, problem: "is not a list of pools" })
    }
}

fn trace<'a>(get: impl Fn(&'static str) -> Option<&'a str>) -> Trace {
    Trace { parent: get(header::TRACEPARENT).map(str::to_owned), state: get(header::TRACESTATE).map(str::to_owned) }
}

fn payload<'a>(get: impl Fn(&'static str) -> Option<&'a str>, body: Bytes) -> Payload {
    Payload { body, content_type: get(header::CONTENT_TYPE).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn get<'a>(headers: &'a Headers) -> impl Fn(&str) -> Option<&'a str> {
        |name| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    fn result(outcome: Outcome, reason: &str) -> TaskResult {
        TaskResult {
            task_id: "t".into(),
            correlation_id: "c".into(),
            from_pool: "coder".into(),
            from_agent: "coder-1".into(),
            created: 5,
            outcome,
            reason: Some(reason.into()),
            trace: Trace::default(),
            payload: Payload::default(),
        }
    }

    proptest! {
        #[test]
        fn a_task_survives_the_bus(id in "[a-z0-9-]{1,40}", deadline in prop::option::of(any::<i64>()), parent in prop::option::of("[a-z0-9]{1,9}"),
            ancestry in prop::collection::vec("[a-z][a-z0-9-]{0,9}", 0..5),
            created in any::<i64>(), body in prop::collection::vec(any::<u8>(), 0..64), kind in prop::option::of("[a-z/]{1,20}")) {
            let task = Task {
                id, correlation_id: "c".into(), parent_id: parent, ancestry, from_pool: "p".into(), from_agent: "p-0".into(), created, deadline,
                trace: Trace { parent: Some("00-1-2-01".into()), state: None },
                payload: Payload { body: body.into(), content_type: kind },
            };
            let headers = task.headers();
            prop_assert_eq!(Task::parse(get(&headers), task.payload.body.clone()), Ok(task));
        }
    }

    #[test]
    fn every_outcome_survives_the_bus_and_all_outcomes_of_a_task_share_one_message_id() {
        for outcome in Outcome::ALL {
            let result = result(outcome, "why");
            let headers = result.headers();
            assert_eq!(TaskResult::parse(get(&headers), Bytes::new()), Ok(result));
            assert!(headers.contains(&(header::MESSAGE_ID, "t:outcome".to_owned())));
        }
    }

    /// An agent's error text goes into a header: with a line break it would end the headers.
    #[test]
    fn a_reason_of_many_lines_becomes_one() {
        let headers = result(Outcome::Failed, "first\r\nNats-Msg-Id: forged\n").headers();
        assert_eq!(get(&headers)(header::REASON), Some("first  Nats-Msg-Id: forged"));
    }

    /// What is no list of pools could hide the pool that the task must not come back to.
    #[test]
    fn an_ancestry_that_cannot_be_read_is_refused() {
        for (value, read) in
            [("a,b-1", Some(vec!["a", "b-1"])), ("a, b", Some(vec!["a", "b"])), ("", None), ("a,,b", None), ("A", None), ("a;b", None)]
        {
            let read = read.map(|pools| pools.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(ancestry(value).ok(), read, "{value:?}");
        }
    }

    #[test]
    fn a_missing_header_is_named() {
        let task = Task::parse(|_| None, Bytes::new());
        assert_eq!(task.unwrap_err().to_string(), "header Skein-Task-Id is missing");
    }
}
