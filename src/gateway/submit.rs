//! Takes a task: everything that can refuse it comes before the journal, and nothing after the journal
//! has acknowledged it can lose it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::query::{Submission, Target};
use super::state::Gateway;
use super::{answer, choice, problems, query};
use crate::bus::envelope::Payload;
use crate::bus::nats::{BusError, Published, StoredTask};
use crate::bus::subjects::GATEWAY;
use crate::bus::{Task, Team, ids, trace};
use crate::http::Problem;

/// How long the journal is asked again whether it has a task, after it has not answered.
const INSIST: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(250);
/// The longest `tracestate` that is carried; a longer one would take the room of the envelope.
const MAX_TRACESTATE: usize = 4096;

/// `POST …/tasks`.
pub(super) async fn submit(gateway: &Gateway, team: Team, uri: &Uri, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let Submission { target, wait, deadline } = query::submission(uri)?;
    let key = query::idempotency_key(headers)?;
    let content_type = query::content_type(headers)?;
    let pool = {
        let program = gateway.program(&team)?;
        let presence = |route: &crate::topology::Route| gateway.roster.presence(&team.namespace, &route.pool, route.hearing);
        choice::choose(&program, &target, presence, rand::rng().random())?.pool.clone()
    };
    if !gateway.bus.connected() {
        return Err(BusError::Disconnected.into());
    }
    let place = wait.map(|_| gateway.place_to_wait()).transpose()?;
    let received = gateway.intake.receive(body, query::content_length(headers), gateway.bus.max_payload()).await?;

    let began = Instant::now();
    let mut incoming = query::trace(headers);
    incoming.state = incoming.state.filter(|state| state.len() <= MAX_TRACESTATE);
    let created = jiff::Timestamp::now().as_millisecond();
    let id = ids::fresh();
    let task = Task {
        correlation_id: id.clone(),
        id,
        parent_id: None,
        ancestry: vec![],
        from_pool: GATEWAY.to_owned(),
        from_agent: gateway.identity.clone(),
        created,
        deadline: deadline.map(|deadline| created.saturating_add(i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX))),
        trace: trace::child(&incoming, rand::rng().random(), rand::rng().random()),
        payload: Payload { body: received.body.clone(), content_type },
    };
    let expected = wait.map(|_| gateway.outcomes.expect(&team, &task));
    let published = publish(gateway, &team, &pool, &task, key).await?;
    let until = wait.map(|wait| began + wait);
    let repeated = match key {
        Some(_) if published.duplicate => Some(original(gateway, &team, &task, &target, published.sequence).await?),
        _ => None,
    };
    let (task, outcome) = match repeated.filter(|(_, original)| original.id != task.id) {
        Some((pool, original)) => {
            // Whoever sent it first may have had its outcome long ago.
            drop((expected, received));
            let stored = StoredTask { task: without_payload(original), pool, sequence: published.sequence, bytes: 0 };
            let outcome = match until {
                Some(until) => gateway.outcome_of(&team, &stored, until).await?,
                None => None,
            };
            (stored.task, outcome)
        }
        None => {
            gateway.metrics.stored(&team, &pool);
            drop(received);
            let task = without_payload(task);
            let outcome = match (expected, until) {
                (Some(expected), Some(until)) => gateway.wait(expected, until).await,
                _ => None,
            };
            if let Some(outcome) = &outcome {
                gateway.metrics.ended(&team, &pool, outcome.outcome, began.elapsed());
            }
            (task, outcome)
        }
    };
    drop(place);
    match outcome {
        Some(outcome) => answer::result(outcome),
        None => Ok(answer::pending(&team, &task.id)),
    }
}

/// Stores a task. When the journal does not say whether it has it, it is asked again under the same id,
/// which it stores once.
async fn publish(gateway: &Gateway, team: &Team, pool: &str, task: &Task, key: Option<&str>) -> Result<Published, Problem> {
    let give_up = Instant::now() + INSIST;
    let mut uncertain = None;
    loop {
        let published = match key {
            Some(key) => gateway.bus.publish_task_once(team, pool, task, &message_id(key)).await,
            None => gateway.bus.publish_task(team, pool, task).await,
        };
        match published {
            Ok(published) => return Ok(published),
            Err(error @ (BusError::Timeout | BusError::Disconnected)) => uncertain = Some(error),
            // A broker that has just come back may not have read its streams yet.
            Err(BusError::NoJournal) if uncertain.is_some() => {}
            Err(error) if uncertain.is_none() => return Err(error.into()),
            Err(error) => return Err(problems::perhaps_stored(&task.id, &error.to_string())),
        }
        tokio::time::sleep(AGAIN).await;
        let mut state = gateway.bus.state();
        let connected = tokio::time::timeout_at(give_up, state.wait_for(|connected| *connected)).await.is_ok();
        if !connected || Instant::now() >= give_up {
            let why = uncertain.map_or_else(String::new, |error| error.to_string());
            return Err(problems::perhaps_stored(&task.id, &why));
        }
    }
}

/// The task that was stored under the same key before, which must be the same task.
async fn original(gateway: &Gateway, team: &Team, task: &Task, target: &Target, sequence: u64) -> Result<(String, Task), Problem> {
    let Some((pool, original)) = gateway.bus.task_at(team, GATEWAY, sequence).await? else {
        return Err(problems::key_forgotten());
    };
    let same_target = match target {
        Target::Pool(wanted) => *wanted == pool,
        // The pool was chosen, and may be chosen otherwise now.
        Target::Capability(_) => true,
    };
    if same_target && original.payload == task.payload { Ok((pool, original)) } else { Err(problems::key_reused(&original.id)) }
}

/// A waiting request need not hold the input.
fn without_payload(task: Task) -> Task {
    Task { payload: Payload::default(), ..task }
}

/// The id by which the journal of a team drops a second task of the same key. It is no task's own id.
fn message_id(key: &str) -> String {
    let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{GATEWAY}:{hash}")
}
