//! What a request asks for: its parameters, headers and ids. Pure.
//!
//! Nothing is ignored: a parameter that the gateway does not know is refused, because whoever wrote it
//! believes that it has an effect.

use std::time::Duration;

use axum::extract::Query;
use axum::http::{HeaderMap, Uri};

use super::problems;
use crate::bus::envelope::{Trace, header};
use crate::bus::ids;
use crate::http::Problem;

/// The longest time for which a request may wait for a result.
pub(super) const MAX_WAIT_SECONDS: u32 = 300;
/// The longest deadline of a task: as long as a journal remembers what has ended.
pub(super) const MAX_DEADLINE_SECONDS: u32 = 604_800;
/// The header by which a caller may send the same task again without its being done twice.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Who is to do a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A pool.
    Pool(String),
    /// Any pool whose agents can do this.
    Capability(String),
}

/// What a submission asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Submission {
    pub(super) target: Target,
    /// How long to wait for the result; `None` is not at all.
    pub(super) wait: Option<Duration>,
    /// After how long the task is no longer wanted.
    pub(super) deadline: Option<Duration>,
}

/// Reads the parameters of a submission.
pub(super) fn submission(uri: &Uri) -> Result<Submission, Problem> {
    let [to, capability, wait, deadline] = parameters(uri, ["to", "capability", "wait", "deadline"])?;
    let target = match (to, capability) {
        (Some(pool), None) if !pool.is_empty() => Target::Pool(pool),
        (None, Some(capability)) if !capability.is_empty() => Target::Capability(capability),
        (Some(_), Some(_)) => return Err(Problem::bad_request("to and capability were both given: give one of them")),
        _ => return Err(Problem::bad_request("whom the task is for is missing: give to=<pool> or capability=<capability>")),
    };
    Ok(Submission { target, wait: seconds("wait", wait)?, deadline: seconds("deadline", deadline)? })
}

/// Reads the parameters of a request for a result.
pub(super) fn wait(uri: &Uri) -> Result<Option<Duration>, Problem> {
    let [wait] = parameters(uri, ["wait"])?;
    seconds("wait", wait)
}

/// Refuses every parameter.
pub(super) fn nothing(uri: &Uri) -> Result<(), Problem> {
    let [] = parameters(uri, [])?;
    Ok(())
}

/// The id of a task in its one spelling, and when the task was made, in milliseconds since 1970.
pub(super) fn id(given: &str) -> Result<(String, i64), Problem> {
    match (uuid::Uuid::try_parse(given), ids::time_of(given)) {
        (Ok(id), Some(time)) => Ok((id.to_string(), time)),
        _ => Err(problems::malformed_id(given)),
    }
}

/// The key by which the caller may send the same task again.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    match headers.get(IDEMPOTENCY_KEY).map(|value| value.to_str().unwrap_or_default()) {
        None => Ok(None),
        Some(key) if (1..=255).contains(&key.len()) => Ok(Some(key)),
        Some(_) => Err(Problem::bad_request("Idempotency-Key is not 1 to 255 visible ASCII characters")),
    }
}

/// The trace that the caller is in.
pub(super) fn trace(headers: &HeaderMap) -> Trace {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Trace { parent: text(header::TRACEPARENT), state: text(header::TRACESTATE) }
}

/// The media type of the body.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    match headers.get(axum::http::header::CONTENT_TYPE).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(text)) if text.len() <= 255 => Ok(Some(text.to_owned())),
        Some(_) => Err(Problem::bad_request("Content-Type is not a media type of 255 visible ASCII characters at most")),
    }
}

/// The size that the caller says the body has.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(axum::http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn parameters<const N: usize>(uri: &Uri, names: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| Problem::bad_request(format!("the query of the address cannot be read: {error}")))?;
    let mut values = [const { None }; N];
    for (name, value) in given {
        let Some(place) = names.iter().position(|known| *known == name) else {
            let known = if N == 0 { "there are none here".to_owned() } else { format!("known are {}", names.join(", ")) };
            return Err(Problem::bad_request(format!("there is no parameter {name:?}: {known}")).with("parameter", name));
        };
        if values[place].replace(value).is_some() {
            return Err(Problem::bad_request(format!("the parameter {name} was given twice")).with("parameter", name));
        }
    }
    Ok(values)
}

/// A time in whole seconds; of `wait`, 0 is the same as none.
fn seconds(name: &str, given: Option<String>) -> Result<Option<Duration>, Problem> {
    let Some(given) = given else { return Ok(None) };
    let longest = if name == "wait" { MAX_WAIT_SECONDS } else { MAX_DEADLINE_SECONDS };
    let number = if given.bytes().all(|b| b.is_ascii_digit()) { given.parse::<u32>().ok() } else { None };
    match number {
        Some(0) if name == "wait" => Ok(None),
        Some(number) if (1..=longest).contains(&number) => Ok(Some(Duration::from_secs(number.into()))),
        _ => Err(problems::bad_seconds(name, &given)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn said(query: &str) -> Result<Submission, String> {
        submission(&format!("/x?{query}").parse().unwrap()).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_submission_names_one_target_and_may_name_times() {
        let plain = Submission { target: Target::Pool("a".into()), wait: None, deadline: None };
        assert_eq!(said("to=a"), Ok(plain.clone()));
        assert_eq!(said("to=a&wait=0"), Ok(plain));
        assert_eq!(
            said("capability=code.review&wait=300&deadline=1"),
            Ok(Submission {
                target: Target::Capability("code.review".into()),
                wait: Some(Duration::from_secs(300)),
                deadline: Some(Duration::from_secs(1)),
            })
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would_be_right() {
        let wait = |given: &str| format!("wait={given} is not a whole number of seconds from 0 to 300");
        for (query, sentence) in [
            ("", "whom the task is for is missing: give to=<pool> or capability=<capability>".to_owned()),
            ("to=", "whom the task is for is missing: give to=<pool> or capability=<capability>".to_owned()),
            ("to=a&capability=b", "to and capability were both given: give one of them".to_owned()),
            ("to=a&to=b", "the parameter to was given twice".to_owned()),
            ("to=a&timeout=5", "there is no parameter \"timeout\": known are to, capability, wait, deadline".to_owned()),
            ("to=a&wait=301", wait("301")),
            ("to=a&wait=-1", wait("-1")),
            ("to=a&wait=%2B5", wait("+5")),
            ("to=a&wait=1.5", wait("1.5")),
            ("to=a&wait=", wait("")),
            ("to=a&wait=99999999999999999999", wait("99999999999999999999")),
            ("to=a&deadline=0", "deadline=0 is not a whole number of seconds from 1 to 604800".to_owned()),
        ] {
            assert_eq!(said(query), Err(sentence), "{query}");
        }
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_in_any_spelling() {
        let text = "019ac0de-0000-7000-8000-000000000000";
        assert_eq!(id(&text.to_uppercase()), Ok((text.to_owned(), 0x019a_c0de_0000)));
        for bad in ["", "x", "67e55044-10b1-426f-9247-bb680e5fe0c8"] {
            assert_eq!(id(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn a_key_has_bounds() {
        let key = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(IDEMPOTENCY_KEY, value.try_into().unwrap());
            idempotency_key(&headers).map(|key| key.map(str::to_owned)).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(key(b"a b"), Ok(Some("a b".to_owned())));
        assert_eq!(key(b""), Err(400));
        assert_eq!(key("é".as_bytes()), Err(400));
        assert_eq!(key(&[b'a'; 256]), Err(400));
    }
}
