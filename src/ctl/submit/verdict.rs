//! What an answer of the gateway means, what is printed of it, and how the command ends. Pure.

use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::super::{Answer, Exit, json as document};
use super::door::Reply;
use crate::cli::Output;

/// What became of a task as far as is known.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is completed.
    Result { id: String, content_type: String, body: Bytes },
    /// It is stored and has not ended.
    Pending { id: String },
    /// It ended without a result.
    Ended(Map<String, Value>),
    /// The gateway refuses, and would refuse again.
    Refused(Map<String, Value>),
    /// The gateway cannot do it now, and says why.
    Unavailable(Map<String, Value>),
    /// It is not known whether the gateway has heard the request.
    NoAnswer(String),
}

/// Reads an answer.
pub(super) fn judge(reply: Reply) -> Verdict {
    let header = |name: &str| reply.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let content_type = header("content-type");
    let members = || serde_json::from_slice::<Map<String, Value>>(&reply.body).unwrap_or_default();
    match reply.status.as_u16() {
        200 => Verdict::Result { id: header("skein-task-id"), content_type, body: reply.body },
        202 => match members().get("id").and_then(Value::as_str) {
            Some(id) => Verdict::Pending { id: id.to_owned() },
            None => Verdict::NoAnswer("the gateway accepted the task without naming its id: is it a gateway of Skein?".to_owned()),
        },
        status if content_type.starts_with("application/problem+json") => {
            let problem = members();
            let kind = problem.get("type").and_then(Value::as_str).unwrap_or_default();
            if problem.contains_key("outcome") {
                Verdict::Ended(problem)
            } else if kind.ends_with("/perhaps-stored") {
                Verdict::NoAnswer(sentence(&problem))
            } else if status == 503 {
                Verdict::Unavailable(problem)
            } else {
                Verdict::Refused(problem)
            }
        }
        // Whoever stands before the gateway speaks: the API server, or a proxy.
        status => {
            let said = members().get("message").and_then(Value::as_str).map(str::to_owned);
            let text = said.unwrap_or_else(|| String::from_utf8_lossy(&reply.body).trim().chars().take(300).collect());
            let sentence = format!("the gateway was not reached: {}", if text.is_empty() { reply.status.to_string() } else { text });
            if status >= 500 {
                Verdict::NoAnswer(sentence)
            } else {
                Verdict::Refused(Map::from_iter([("detail".to_owned(), json!(sentence))]))
            }
        }
    }
}

/// What is printed. `later` says how to ask for the result of a task later.
pub(super) fn answer(verdict: Verdict, output: Output, waited: Option<u32>, proxied: bool, later: impl Fn(&str) -> String) -> Answer {
    match verdict {
        Verdict::Result { id, content_type, body } => {
            let html = content_type.starts_with("text/html") && proxied;
            let notes = match html {
                true => vec!["the result is HTML, in which the API server rewrites links: give --gateway to get it as it is".to_owned()],
                false => Vec::new(),
            };
            let out = match output {
                Output::Table => body.to_vec(),
                Output::Json => document(&completed(&id, &content_type, &body)),
            };
            Answer { out, notes, exit: Exit::Well }
        }
        Verdict::Pending { id } => {
            let (exit, note) = match waited {
                Some(seconds) => (Exit::Pending, format!("the task has not ended within {seconds} s; ask again: {}", later(&id))),
                None => (Exit::Well, format!("the task is stored; ask for its result: {}", later(&id))),
            };
            let out = match output {
                Output::Table => format!("{id}\n").into_bytes(),
                Output::Json => document(&json!({"id": id, "outcome": "pending"})),
            };
            Answer { out, notes: vec![note], exit }
        }
        Verdict::Ended(problem) => {
            let out = match output {
                Output::Table => Vec::new(),
                Output::Json => document(&problem),
            };
            Answer { out, notes: vec![sentence(&problem)], exit: Exit::TaskFailed }
        }
        Verdict::Refused(problem) | Verdict::Unavailable(problem) => Answer::refused(Exit::Failed, sentence(&problem)),
        Verdict::NoAnswer(why) => Answer::refused(Exit::Failed, why),
    }
}

/// A completed task as a document: its result as JSON where it is JSON, as text where it is text, and
/// otherwise in base64.
fn completed(id: &str, content_type: &str, body: &Bytes) -> Value {
    let mut completed = json!({"id": id, "outcome": "completed", "contentType": content_type});
    let is_json = content_type.split(';').next().is_some_and(|kind| kind.trim().ends_with("json"));
    match (serde_json::from_slice::<Value>(body), std::str::from_utf8(body)) {
        (Ok(value), _) if is_json => completed["result"] = value,
        (_, Ok(text)) => completed["result"] = json!(text),
        _ => completed["resultBase64"] = json!(base64::engine::general_purpose::STANDARD.encode(body)),
    }
    completed
}

/// A problem document as one sentence.
pub(super) fn sentence(problem: &Map<String, Value>) -> String {
    let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("title"), text("detail")) {
        ("", detail) => detail.to_owned(),
        (title, "") => title.to_owned(),
        (title, detail) => format!("{title}: {detail}"),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
