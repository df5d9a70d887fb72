//! Sees a task through: keeps the broker's lease alive while the agent works, and does what
//! [`super::decide`] says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::decide::{self, Attempt, Delivered, Next, Refused};
use crate::bus::envelope::{Payload, Trace};
use crate::bus::nats::consumer::Receipt;
use crate::bus::nats::{BusError, Canceller, Delivery, journal};
use crate::bus::{Outcome, Task, TaskResult, Team, trace};
use crate::resilience::Backoff;
use crate::sidecar::Sidecar;
use crate::sidecar::agent::{self, Agent, Answer};
use crate::sidecar::inflight::{Hold, InHand, Report};
use crate::sidecar::state::{Drain, Queue};

/// The time between two attempts to publish an outcome.
const PUBLISH: Backoff = Backoff { first: Duration::from_millis(200), factor: 2.0, max: Duration::from_secs(10), jitter: 0.2 };

/// How often it is tried again to cancel what was sent on behalf of a cancelled task.
const TRIES: u32 = 5;

/// A task that the agent is to be given.
pub struct Offer {
    /// The task.
    pub task: Arc<Task>,
    /// The trace context for the agent.
    pub trace: Trace,
    /// What is to be known of its delivery.
    pub delivered: Delivered,
    team: Arc<Team>,
    sequence: u64,
    queue: Queue,
    receipt: Receipt,
    hold: Hold,
}

/// Who does the work.
pub enum Worker {
    /// An agent that listens.
    Push(Agent),
    /// An agent that pulls, by its reports.
    Pull(mpsc::Receiver<Report>),
}

/// What the broker is told of a task.
enum Word {
    /// It has ended, and the journal holds its outcome.
    Ended(Outcome),
    /// It goes back, for the next delivery after a while.
    Back(Duration),
}

/// Takes a delivery in hand, or ends it at once; `None` when the agent is not to be given it.
pub(in crate::sidecar) async fn admit(
    sidecar: &Arc<Sidecar>,
    team: &Arc<Team>,
    delivery: Delivery,
    lease: Option<mpsc::Sender<Report>>,
) -> Option<Offer> {
    let Delivery { task, delivered: times, sequence, receipt } = delivery;
    let task = match task {
        Ok(task) => Arc::new(task),
        Err(error) => {
            warn!(%error, sequence, "a message in the queue is no task");
            sidecar.metrics.malformed.inc();
            let _ = receipt.term().await;
            return None;
        }
    };
    let pool = &sidecar.config.identity.pool;
    let program = sidecar.program.borrow().clone();
    let Some(program) = program else {
        let _ = receipt.nak(None).await;
        return None;
    };
    let context = trace::child(&task.trace, rand::random(), rand::random());
    let in_hand =
        InHand { task: Arc::clone(&task), attempt: times, trace: context.clone(), until: Instant::now() + sidecar.config.timeout, lease };
    let Some(hold) = sidecar.in_flight.take(in_hand) else {
        debug!(task = task.id, "the same task was delivered twice; the first delivery is worked on");
        let _ = receipt.progress().await;
        return None;
    };
    let delivered = Delivered { times, max: program.max_deliveries, deadline: task.deadline };
    let queue = sidecar.state.now().queue.clone();
    let offer = Offer { task, trace: context, delivered, team: Arc::clone(team), sequence, queue, receipt, hold };
    if let Some(notice) = sidecar.cancellations.notice_in_journal(&offer.task).await {
        info!(task = offer.task.id, "the task was cancelled before it was begun");
        let word = alive(sidecar, &offer.receipt, cancel(sidecar, &offer, notice)).await;
        tell(sidecar, &offer, word).await;
        return None;
    }
    if times > 1 && ended(sidecar, &offer).await {
        return None;
    }
    let next = decide::before(&offer.task, pool, &program, delivered, now());
    match next {
        Next::Ask { .. } => Some(offer),
        next => {
            match &next {
                Next::Refuse(Refused::Sender { .. }) => sidecar.metrics.refused_senders.inc(),
                Next::Refuse(Refused::Delegation(refusal)) => sidecar.metrics.refused_delegation("receiving", refusal.reason()),
                _ => {}
            }
            end(sidecar, &offer, next).await;
            None
        }
    }
}

/// Whether a task that is delivered again has ended already. If so, acknowledges it.
async fn ended(sidecar: &Sidecar, offer: &Offer) -> bool {
    let look = sidecar.bus.ended(&offer.team, &sidecar.config.identity.pool, &offer.task, offer.sequence);
    match alive(sidecar, &offer.receipt, look).await {
        Some(Ok(Some(result))) => {
            info!(task = offer.task.id, outcome = %result.outcome, "the task had ended already");
            sidecar.metrics.already_ended.inc();
            let _ = offer.receipt.ack().await;
            true
        }
        Some(Ok(None)) | None => false,
        Some(Err(error)) => {
            debug!(task = offer.task.id, %error, "whether the task has ended cannot be seen now");
            false
        }
    }
}

/// Gives the task to the agent until it has come to an end here.
pub(in crate::sidecar) async fn see_through(sidecar: &Sidecar, offer: Offer, mut worker: Worker) {
    if offer.delivered.times <= 1 {
        sidecar.metrics.delivery_latency.observe(seconds_since(offer.task.created));
    }
    let work = async {
        tokio::select! {
            biased;
            asked = ask(sidecar, &offer, &mut worker) => {
                let (next, payload) = asked?;
                Some(conclude(sidecar, &offer, next, payload).await)
            }
            // The agent's request is given up with it: its connection closes.
            notice = sidecar.cancellations.cancelled(&offer.task) => {
                info!(task = offer.task.id, "the task was cancelled while it was worked on");
                Some(cancel(sidecar, &offer, notice).await)
            }
        }
    };
    let word = alive(sidecar, &offer.receipt, work).await.flatten();
    tell(sidecar, &offer, word).await;
}

/// Asks the agent until it is decided what becomes of the task; `None` when the agent ends before that.
async fn ask(sidecar: &Sidecar, offer: &Offer, worker: &mut Worker) -> Option<(Next, Payload)> {
    let metrics = &sidecar.metrics;
    let mut asked = 0;
    loop {
        asked += 1;
        let began = Instant::now();
        let Answer { attempt, payload } = worker.attempt(sidecar, offer).await;
        metrics.agent_time.observe(began.elapsed().as_secs_f64());
        match &attempt {
            Attempt::Lost { .. } | Attempt::NotBegun { .. } => sidecar.monitor.gone(sidecar),
            Attempt::Overloaded { .. } => metrics.overloads.inc(),
            Attempt::Answered | Attempt::Refused { .. } | Attempt::Failed { .. } => {}
        }
        let next = decide::after(&attempt, offer.delivered, asked, now(), rand::random());
        let Next::Ask { after } = next else {
            if let Next::Retry { after } = next {
                debug!(task = offer.task.id, ?attempt, ?after, "the task goes back");
                metrics.retried(class(&attempt));
            }
            return Some((next, payload));
        };
        debug!(task = offer.task.id, ?attempt, ?after, "the agent is asked again");
        tokio::select! {
            () = tokio::time::sleep(after) => {}
            () = sidecar.state.until(|snapshot| snapshot.drain != Drain::No) => return None,
        }
    }
}

/// Ends a task without the agent.
async fn end(sidecar: &Sidecar, offer: &Offer, next: Next) {
    let word = alive(sidecar, &offer.receipt, conclude(sidecar, offer, next, Payload::default())).await;
    tell(sidecar, offer, word).await;
}

/// Ends a cancelled task: first what has been sent on its behalf, then the task itself, whose outcome is
/// stored already unless whoever cancelled it is gone.
async fn cancel(sidecar: &Sidecar, offer: &Offer, notice: u64) -> Word {
    let pool = &sidecar.config.identity.pool;
    let by = Canceller { agent: &sidecar.config.identity.agent, reason: "the task that it was part of was cancelled" };
    let mut failures = 0;
    loop {
        let children = async {
            for child in sidecar.bus.children(&offer.team, pool, &offer.task.id, offer.sequence).await? {
                let outcome = sidecar.bus.cancel(&offer.team, &child, by).await?;
                debug!(task = offer.task.id, child = child.task.id, %outcome, "a part of a cancelled task");
            }
            sidecar.bus.ended(&offer.team, pool, &offer.task, notice).await
        };
        match children.await {
            Ok(Some(result)) => return Word::Ended(result.outcome),
            Ok(None) => return conclude(sidecar, offer, Next::Cancel, Payload::default()).await,
            Err(error) if failures >= TRIES => {
                warn!(task = offer.task.id, %error, "parts of a cancelled task may go on");
                return conclude(sidecar, offer, Next::Cancel, Payload::default()).await;
            }
            Err(error) => pause(sidecar, &offer.task.id, &error, &mut failures).await,
        }
    }
}

/// Does what has been decided, up to the word that the broker is told.
async fn conclude(sidecar: &Sidecar, offer: &Offer, next: Next, payload: Payload) -> Word {
    let (outcome, reason) = match next {
        Next::Complete => (Outcome::Completed, None),
        Next::Refuse(refused) => (Outcome::Failed, Some(refused.to_string())),
        Next::Fail { reason } => (Outcome::Failed, Some(reason)),
        Next::Dead { reason } => (Outcome::Dead, Some(reason)),
        Next::Expire { reason } => (Outcome::Expired, Some(reason)),
        Next::Cancel => (Outcome::Cancelled, Some("its sender cancelled it".to_owned())),
        Next::Retry { after } | Next::Ask { after } => return Word::Back(after),
    };
    let task = &offer.task;
    let identity = &sidecar.config.identity;
    let mut result = TaskResult {
        task_id: task.id.clone(),
        correlation_id: task.correlation_id.clone(),
        from_pool: identity.pool.clone(),
        from_agent: identity.agent.clone(),
        created: now(),
        outcome,
        reason,
        trace: offer.trace.clone(),
        payload,
    };
    announce(sidecar, offer, &mut result).await;
    if outcome == Outcome::Dead {
        bury(sidecar, offer, result.reason.as_deref().unwrap_or_default()).await;
    }
    Word::Ended(result.outcome)
}

/// Tells the broker what becomes of the task; `None`: the agent ends before it.
async fn tell(sidecar: &Sidecar, offer: &Offer, word: Option<Word>) {
    let word = word.unwrap_or_else(|| {
        info!(task = offer.task.id, "the task goes back: the agent ends before it");
        Word::Back(Duration::ZERO)
    });
    if let Word::Ended(outcome) = word {
        sidecar.metrics.ended(outcome);
    }
    if !valid(sidecar, offer).await {
        return;
    }
    let receipt = &offer.receipt;
    let said = match word {
        Word::Ended(Outcome::Dead) => receipt.term().await,
        Word::Ended(_) => receipt.ack().await,
        Word::Back(after) => receipt.nak((!after.is_zero()).then_some(after)).await,
    };
    if let Err(error) = said {
        warn!(task = offer.task.id, %error, "the broker was not told what became of a task; it delivers the task again");
    }
}

/// Publishes an outcome, however long the bus is away.
async fn announce(sidecar: &Sidecar, offer: &Offer, result: &mut TaskResult) {
    let task = &offer.task;
    let mut failures = 0;
    loop {
        match sidecar.bus.publish_result(&offer.team, &task.from_pool, &task.from_agent, result).await {
            Ok(_) => return,
            Err(BusError::TooLarge { limit }) if result.outcome == Outcome::Completed => {
                result.outcome = Outcome::Failed;
                result.reason = Some(format!("the agent's result is larger than the {limit} bytes that the bus takes"));
                result.payload = Payload::default();
            }
            Err(error) => pause(sidecar, &task.id, &error, &mut failures).await,
        }
    }
}

/// Keeps a copy of a dead task.
async fn bury(sidecar: &Sidecar, offer: &Offer, reason: &str) {
    let mut failures = 0;
    loop {
        match sidecar.bus.publish_dead(&offer.team, &sidecar.config.identity.pool, &offer.task, reason).await {
            Ok(_) => return,
            // The task itself stays in the journal; only its copy with the reason does not fit.
            Err(BusError::TooLarge { .. }) => return warn!(task = offer.task.id, "the copy of a dead task is too large for the bus"),
            Err(error) => pause(sidecar, &offer.task.id, &error, &mut failures).await,
        }
    }
}

async fn pause(sidecar: &Sidecar, task: &str, error: &BusError, failures: &mut u32) {
    *failures += 1;
    if *failures == 1 {
        warn!(task, %error, "the outcome of a task cannot be published yet");
    }
    if *error == BusError::Disconnected {
        sidecar.state.until(|snapshot| snapshot.connected).await;
    }
    tokio::time::sleep(PUBLISH.after(*failures, rand::random())).await;
}

/// Whether the queue is still the one that the task came from. The numbers of another one, made after
/// the broker lost its data, mean other tasks.
async fn valid(sidecar: &Sidecar, offer: &Offer) -> bool {
    let known = sidecar.state.until(|snapshot| snapshot.queue != Queue::Unknown);
    let known = tokio::time::timeout(Duration::from_secs(2), known).await;
    known.is_err() || sidecar.state.now().queue == offer.queue
}

/// Tells the broker now and then that the task is worked on; `None` when the process has to end.
async fn alive<T>(sidecar: &Sidecar, receipt: &Receipt, work: impl Future<Output = T>) -> Option<T> {
    if sidecar.stop.is_cancelled() {
        return None;
    }
    tokio::pin!(work);
    let every = journal::ACK_WAIT / 3;
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut connection = sidecar.bus.state();
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = sidecar.stop.cancelled() => return None,
            _ = tick.tick() => {}
            // A broker that was away has forgotten when it heard of the task last.
            Ok(()) = connection.changed() => {}
        }
        // Without a connection there is nobody to tell.
        let _ = receipt.progress().await;
    }
}

impl Worker {
    async fn attempt(&mut self, sidecar: &Sidecar, offer: &Offer) -> Answer {
        let limit = offer.task.deadline.map(|deadline| Duration::from_millis(u64::try_from(deadline - now()).unwrap_or(0)));
        let timeout = limit.map_or(sidecar.config.timeout, |limit| limit.min(sidecar.config.timeout));
        offer.hold.extend(agent::until(timeout));
        match self {
            Self::Push(agent) => agent.ask(&offer.task, offer.delivered.times, &offer.trace, timeout, sidecar.bus.max_payload()).await,
            Self::Pull(reports) => lease(sidecar, offer, reports, timeout).await,
        }
    }
}

/// Waits for what an agent that pulls reports.
async fn lease(sidecar: &Sidecar, offer: &Offer, reports: &mut mpsc::Receiver<Report>, timeout: Duration) -> Answer {
    let answer = |attempt, payload| Answer { attempt, payload };
    let mut until = agent::until(timeout);
    loop {
        let report = tokio::time::timeout_at(until.into(), reports.recv()).await;
        return match report {
            Ok(Some(Report::Progress)) => {
                until = agent::until(sidecar.config.timeout);
                offer.hold.extend(until);
                continue;
            }
            Ok(Some(Report::Complete(payload))) => answer(Attempt::Answered, payload),
            Ok(Some(Report::Fail { reason, retryable: false })) => answer(Attempt::Refused { reason }, Payload::default()),
            Ok(Some(Report::Fail { reason, retryable: true })) => answer(Attempt::Failed { class: "error", reason }, Payload::default()),
            Ok(None) | Err(_) => {
                let reason = format!("the agent neither finished nor reported progress within {} s", sidecar.config.timeout.as_secs());
                answer(Attempt::Failed { class: "lease", reason }, Payload::default())
            }
        };
    }
}

/// The reason of a retry, as a metric says it.
fn class(attempt: &Attempt) -> &'static str {
    match attempt {
        Attempt::Failed { class, .. } => class,
        Attempt::NotBegun { .. } => "not_begun",
        Attempt::Lost { .. } | Attempt::Answered | Attempt::Refused { .. } | Attempt::Overloaded { .. } => "lost",
    }
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

fn seconds_since(ms: i64) -> f64 {
    let elapsed = u64::try_from(now() - ms).unwrap_or(0);
    Duration::from_millis(elapsed).as_secs_f64()
}
