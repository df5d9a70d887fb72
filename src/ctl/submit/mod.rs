//! `submit`: sends a task to the gateway and, when wanted, waits for its result.
//!
//! The task carries a key, so that a submission whose answer was lost can be sent again without the
//! task's being done twice; and the result is waited for in short turns, so that no proxy on the way
//! takes a long silence for a dead connection, and a gateway may be replaced in between.

pub(super) mod cancel;
mod door;
mod verdict;

use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::door::Door;
use self::verdict::{Verdict, judge};
use super::{Answer, Exit};
use crate::cli::SubmitArgs;

/// How long one request waits for a result.
const TURN: Duration = Duration::from_secs(30);
/// How long a submission that got no answer is sent again.
const INSIST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn run(args: SubmitArgs) -> Answer {
    let input = match input(&args) {
        Ok(input) => input,
        Err((exit, why)) => return Answer::refused(exit, why),
    };
    match ask(&args, input).await {
        Ok(answer) => answer,
        Err(why) => Answer::refused(Exit::Failed, why),
    }
}

async fn ask(args: &SubmitArgs, input: Bytes) -> Result<Answer, String> {
    let door = Door::find(&args.door).await?;
    let until = args.wait.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let mut verdict = submit(&door, args, input, until).await?;
    while let (Verdict::Pending { id }, Some(until)) = (&verdict, until) {
        if Instant::now() >= until {
            break;
        }
        let id = id.clone();
        let asked = Instant::now();
        verdict = match door.result(&args.topology, &id, turn(until)).await {
            Ok(reply) => judge(reply),
            Err(silence) => Verdict::NoAnswer(silence.sentence),
        };
        // The task is safe; whoever stands between may come back.
        if let Verdict::NoAnswer(_) | Verdict::Unavailable(_) = verdict {
            verdict = Verdict::Pending { id };
        }
        if matches!(verdict, Verdict::Pending { .. }) {
            // A gateway that is ending does not let anybody wait.
            tokio::time::sleep_until(until.min(asked + PAUSE)).await;
        }
    }
    let later = |id: &str| door.later(&args.topology, id);
    Ok(verdict::answer(verdict, args.output, args.wait, door.is_proxied(), later))
}

/// Sends the task until there is an answer.
async fn submit(door: &Door, args: &SubmitArgs, input: Bytes, until: Option<Instant>) -> Result<Verdict, String> {
    let key = uuid::Uuid::now_v7().to_string();
    let mut failing_since = None;
    loop {
        let reply = door.submit(args, &key, input.clone(), until.map(turn)).await;
        let verdict = match reply {
            Ok(reply) => judge(reply),
            Err(why) if why.certain => return Err(why.sentence),
            Err(why) => Verdict::NoAnswer(why.sentence),
        };
        match verdict {
            // Counted from the first failure: a request may wait for long before it fails.
            Verdict::NoAnswer(_) if failing_since.get_or_insert_with(Instant::now).elapsed() < INSIST => {
                tokio::time::sleep(PAUSE).await;
            }
            verdict => return Ok(verdict),
        }
    }
}

/// How long the next request waits.
fn turn(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
    Duration::from_secs_f64(left).clamp(Duration::from_secs(1), TURN)
}

/// The input: given, out of a file, or from standard input.
fn input(args: &SubmitArgs) -> Result<Bytes, (Exit, String)> {
    if let Some(data) = &args.data {
        return Ok(Bytes::from(data.clone()));
    }
    match args.file.as_deref() {
        Some(path) if path.as_os_str() != "-" => std::fs::read(path)
            .map(Bytes::from)
            .map_err(|error| (Exit::Usage, format!("the input {} cannot be read: {error}", path.display()))),
        None if std::io::stdin().is_terminal() => {
            Err((Exit::Usage, "there is no input: give it with -d, with -f, or on standard input (-f - to type it)".to_owned()))
        }
        _ => {
            let mut input = Vec::new();
            std::io::stdin().read_to_end(&mut input).map_err(|error| (Exit::Failed, format!("standard input cannot be read: {error}")))?;
            Ok(input.into())
        }
    }
}

/// A text as one part of a path or a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_change_the_address() {
        assert_eq!(encoded("a-b_c.d"), "a-b_c.d");
        assert_eq!(encoded("../x?y=ü"), "..%2Fx%3Fy%3D%C3%BC");
    }
}
