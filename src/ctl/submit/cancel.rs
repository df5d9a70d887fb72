//! `cancel`: a task that was submitted is no longer wanted. Cancelling it twice is no mistake, so that a
//! script may try again.

use http::StatusCode;

use super::super::{Answer, Exit};
use super::door::{Door, Reply};
use super::verdict::{Verdict, judge, sentence};
use crate::cli::CancelArgs;

pub(in super::super) async fn run(args: CancelArgs) -> Answer {
    let replied = match Door::find(&args.door).await {
        Ok(door) => door.cancel(&args.topology, &args.id).await.map_err(|silence| silence.sentence),
        Err(why) => Err(why),
    };
    match replied {
        Ok(reply) => answer(&args.id, reply),
        Err(why) => Answer::refused(Exit::Failed, why),
    }
}

fn answer(id: &str, reply: Reply) -> Answer {
    if reply.status == StatusCode::NO_CONTENT {
        return Answer::printed(format!("task {id} is cancelled\n"), Exit::Well);
    }
    let why = match judge(reply) {
        Verdict::Ended(problem) | Verdict::Refused(problem) | Verdict::Unavailable(problem) => sentence(&problem),
        Verdict::NoAnswer(why) => why,
        Verdict::Result { .. } | Verdict::Pending { .. } => "the answer is none to a cancellation: is it a gateway of Skein?".to_owned(),
    };
    Answer::refused(Exit::Failed, why)
}
