//! Checks the agent's health for as long as the process lives, and says what follows.
//!
//! An agent that listens is asked at every heartbeat, and more often while nobody answers, so that a new
//! process is noticed at once. An agent that pulls is healthy while it asks for tasks or has one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Sidecar;
use super::config::Config;
use super::health::{Check, Machine, Settings, Verdict};
use super::reprieve::{Reprieve, Seen, Why};
use super::state::Drain;
use crate::bus::Health;
use crate::lock::lock;

/// The time between two checks while nobody listens; shorter in the first seconds.
const SOON: Duration = Duration::from_millis(250);
const AT_FIRST: Duration = Duration::from_millis(25);
const FIRST: Duration = Duration::from_secs(2);
/// How long an agent that pulls may do something else between two requests for a task.
const RECENT: Duration = Duration::from_secs(60);
/// How long an agent that pulls must not have been heard before its next request is that of a new process.
const GAP: Duration = Duration::from_secs(3);

/// The health of the agent. Cheap to clone.
#[derive(Clone)]
pub struct Monitor(Arc<Inner>);

struct Inner {
    machine: Mutex<Machine>,
    started: Instant,
    wake: Notify,
    asking: AtomicU32,
    /// When an agent that pulls was heard last.
    heard: Mutex<Option<Instant>>,
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
            heard: Mutex::default(),
        }))
    }

    /// A request for a task begins.
    #[must_use]
    pub fn asking(&self) -> Asking {
        self.0.asking.fetch_add(1, Ordering::Relaxed);
        self.look();
        Asking(self.clone())
    }

    /// The agent has said something of a task that it has pulled.
    pub fn heard(&self) {
        *lock(&self.0.heard) = Some(Instant::now());
    }

    /// The agent's process is gone: no task may be pulled until it answers again.
    pub fn gone(&self, sidecar: &Sidecar) {
        self.learn(sidecar, Check::Nobody);
        self.look();
    }

    /// The agent is looked at now and not only at the next heartbeat.
    pub fn look(&self) {
        self.0.wake.notify_one();
    }

    /// What follows from what is known now.
    #[must_use]
    pub fn verdict(&self, working: bool) -> Verdict {
        lock(&self.0.machine).verdict(working, self.0.started.elapsed())
    }

    fn learn(&self, sidecar: &Sidecar, check: Check) -> Verdict {
        let working = working(sidecar);
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
        if self.busy(sidecar) {
            return Check::Well;
        }
        match *lock(&self.0.heard) {
            None => Check::NeverAsked,
            Some(heard) if heard.elapsed() < RECENT => Check::Well,
            Some(heard) => Check::NotAsking(heard.elapsed()),
        }
    }

    /// Whether an agent that pulls seems to be gone.
    fn quiet(&self, sidecar: &Sidecar) -> bool {
        !self.busy(sidecar) && lock(&self.0.heard).is_none_or(|heard| heard.elapsed() > GAP)
    }

    /// Whether an agent that pulls asks for a task or works on one.
    fn busy(&self, sidecar: &Sidecar) -> bool {
        self.0.asking.load(Ordering::Relaxed) > 0 || working(sidecar)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.heard();
        self.0.0.asking.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Checks for as long as the process lives.
pub(super) async fn run(sidecar: Arc<Sidecar>) {
    let monitor = &sidecar.monitor;
    let mut silent_at_work = false;
    let mut reprieve = Reprieve::default();
    loop {
        let working = working(&sidecar);
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
            let (gone, answers) = match &sidecar.agent {
                Some(_) => (check == Check::Nobody, check == Check::Well),
                None => {
                    let quiet = monitor.quiet(&sidecar);
                    (quiet, !quiet)
                }
            };
            let healthy = answers && verdict.health == Health::Healthy;
            let seen = Seen { gone, answers, healthy, idle: sidecar.in_flight.load().idle() };
            if let Some(why) = reprieve.look(seen, monitor.0.started.elapsed()) {
                take_again(&sidecar, why);
            }
        } else {
            reprieve = Reprieve::default();
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

/// Whether the agent has a task whose time has not run out.
fn working(sidecar: &Sidecar) -> bool {
    sidecar.in_flight.working(std::time::Instant::now())
}

fn take_again(sidecar: &Sidecar, why: Why) {
    match why {
        Why::Anew => info!("the agent has been started anew: it takes tasks again"),
        Why::Stays => warn!("the agent was told to end and nobody ended it: it takes tasks again"),
    }
    sidecar.state.update(|snapshot| {
        if snapshot.drain == Drain::Agent {
            snapshot.drain = Drain::No;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::config::tests::resolve;
    use crate::sidecar::drain;
    use crate::telemetry::metrics;
    use pretty_assertions::assert_eq;

    /// A regression here leaves an agent idle until its pod is restarted, or gives a task to one that ends.
    #[tokio::test(start_paused = true)]
    async fn an_agent_that_nobody_ends_takes_tasks_again_but_never_in_a_pod_that_ends() {
        // No port: the agent pulls, and there is no bus.
        let config = resolve(&["--nats-url", "nats://127.0.0.1:1"]).unwrap();
        let sidecar = Sidecar::new(config, &metrics::registry("sidecar").unwrap()).await.unwrap();
        tokio::spawn(run(Arc::clone(&sidecar)));
        let _asking = sidecar.monitor.asking();
        let is = || sidecar.state.now().drain;

        drain::agent(&sidecar).await.unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(is(), Drain::Agent);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(is(), Drain::No);

        drain::agent(&sidecar).await.unwrap();
        drain::pod(&sidecar);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(is(), Drain::Pod);
        drain::agent(&sidecar).await.unwrap();
        assert_eq!(is(), Drain::Pod);
    }

    /// A regression here calls an agent sick, or another process, because it worked for long.
    #[tokio::test(start_paused = true)]
    async fn an_agent_that_pulls_is_heard_when_it_speaks_of_its_task() {
        let config = resolve(&["--nats-url", "nats://127.0.0.1:1"]).unwrap();
        let sidecar = Sidecar::new(config, &metrics::registry("sidecar").unwrap()).await.unwrap();
        let monitor = &sidecar.monitor;
        assert_eq!(monitor.pulls(&sidecar), Check::NeverAsked);
        drop(monitor.asking());
        tokio::time::sleep(RECENT).await;
        assert_eq!(monitor.pulls(&sidecar), Check::NotAsking(RECENT));
        assert!(monitor.quiet(&sidecar));
        monitor.heard();
        assert_eq!(monitor.pulls(&sidecar), Check::Well);
        assert!(!monitor.quiet(&sidecar));
    }
}
