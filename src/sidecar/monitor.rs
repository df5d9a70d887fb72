//! Checks the agent's health for as long as the process lives, and says what follows.
//!
//! An agent that listens is asked at every heartbeat, and more often while nobody answers, so that a new
//! process is noticed at once. An agent that pulls is healthy while it asks for tasks or has one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{info, warn};

use super::Sidecar;
use super::config::Config;
use super::health::{Check, Machine, Settings, Verdict};
use super::state::Drain;
use crate::bus::Health;

/// The time between two checks while nobody listens; shorter in the first seconds.
const SOON: Duration = Duration::from_millis(250);
const AT_FIRST: Duration = Duration::from_millis(25);
const FIRST: Duration = Duration::from_secs(2);
/// How long an agent that pulls may do something else between two requests for a task.
const RECENT: Duration = Duration::from_secs(60);
/// How long an agent that pulls must not have asked before its next request is that of a new process.
const GAP: Duration = Duration::from_secs(3);

/// The health of the agent. Cheap to clone.
#[derive(Clone)]
pub struct Monitor(Arc<Inner>);

struct Inner {
    machine: Mutex<Machine>,
    started: Instant,
    wake: Notify,
    asking: AtomicU32,
    asked: Mutex<Option<Instant>>,
}

/// An agent that pulls asks for a task for as long as this lives.
pub struct Asking(Monitor);

impl Monitor {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let (port, path) = config.push.as_ref().map_or((0, String::new()), |push| (push.address.port(), push.health_path.clone()));
        let settings = Settings { port, path, heartbeat: config.heartbeat };
        Self(Arc::new(Inner {
            machine: Mutex::new(Machine::new(settings, Duration::ZERO)),
            started: Instant::now(),
            wake: Notify::new(),
            asking: AtomicU32::new(0),
            asked: Mutex::default(),
        }))
    }

    /// A request for a task begins.
    #[must_use]
    pub fn asking(&self) -> Asking {
        self.0.asking.fetch_add(1, Ordering::Relaxed);
        self.0.wake.notify_one();
        Asking(self.clone())
    }

    /// The agent's process is gone: no task may be pulled until it answers again.
    pub fn gone(&self, sidecar: &Sidecar) {
        self.learn(sidecar, Check::Nobody);
        self.0.wake.notify_one();
    }

    /// What follows from what is known now.
    #[must_use]
    pub fn verdict(&self, working: bool) -> Verdict {
        lock(&self.0.machine).verdict(working, self.0.started.elapsed())
    }

    fn learn(&self, sidecar: &Sidecar, check: Check) -> Verdict {
        let working = sidecar.in_flight.working(Instant::now());
        let verdict = lock(&self.0.machine).learn(check, working, self.0.started.elapsed());
        sidecar.metrics.health(verdict.health);
        let shown = verdict.clone();
        sidecar.state.update(|snapshot| {
            if snapshot.agent.health != shown.health {
                match &shown.reason {
                    None => info!(health = ?shown.health, "the agent is well"),
                    Some(reason) => warn!(health = ?shown.health, reason, "the agent is not well"),
                }
            }
            snapshot.agent = shown;
        });
        verdict
    }

    /// What an agent that pulls shows of itself.
    fn pulls(&self, sidecar: &Sidecar) -> Check {
        if self.0.asking.load(Ordering::Relaxed) > 0 || sidecar.in_flight.working(Instant::now()) {
            return Check::Well;
        }
        match *lock(&self.0.asked) {
            None => Check::NeverAsked,
            Some(asked) if asked.elapsed() < RECENT => Check::Well,
            Some(asked) => Check::NotAsking(asked.elapsed()),
        }
    }

    /// Whether an agent that pulls has stopped asking.
    fn quiet(&self) -> bool {
        self.0.asking.load(Ordering::Relaxed) == 0 && lock(&self.0.asked).is_none_or(|asked| asked.elapsed() > GAP)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        *lock(&self.0.0.asked) = Some(Instant::now());
        self.0.0.asking.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Checks for as long as the process lives.
pub(super) async fn run(sidecar: Arc<Sidecar>) {
    let monitor = &sidecar.monitor;
    let mut silent_at_work = false;
    let mut gone_since_drain = false;
    loop {
        let working = sidecar.in_flight.working(Instant::now());
        let check = match &sidecar.agent {
            // A check that a busy agent cannot answer stays in its backlog, and these are short.
            Some(_) if working && silent_at_work => Check::Silent,
            Some(agent) => agent.check().await,
            None => monitor.pulls(&sidecar),
        };
        silent_at_work = working && check == Check::Silent;
        let verdict = monitor.learn(&sidecar, check);

        let drain = sidecar.state.now().drain;
        if drain == Drain::Agent {
            let (gone, back) = match &sidecar.agent {
                Some(_) => (check == Check::Nobody, check == Check::Well),
                None => (monitor.quiet(), !monitor.quiet()),
            };
            gone_since_drain |= gone;
            if gone_since_drain && back {
                info!("the agent has been started anew: it takes tasks again");
                sidecar.state.update(|snapshot| snapshot.drain = Drain::No);
            }
        } else {
            gone_since_drain = false;
        }

        let pause = match verdict.health {
            _ if sidecar.agent.is_some() && (check == Check::Nobody || verdict.health == Health::Unknown) => {
                if monitor.0.started.elapsed() < FIRST { AT_FIRST } else { SOON }
            }
            _ if drain == Drain::Agent => SOON,
            _ => sidecar.config.heartbeat,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = monitor.0.wake.notified() => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
