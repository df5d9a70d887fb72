//! How well the agent is, from what its checks say. A pure state machine: the time is an argument.
//!
//! ```text
//!            any answer                failed once or twice             failed three times
//!  Unknown ─────────────► Healthy ─────────────────────────► Degraded ────────────────────► Unhealthy
//!                            ▲                                  │                               │
//!                            ├──────────── answered ────────────┘                               │
//!                            ├──────────── answered twice (once when nobody had listened) ──────┘
//!                            │
//!  any state ── nobody listens, or a task lost its agent ──► Unhealthy
//! ```
//!
//! * An agent that works on a task and is silent is busy, not sick: one with a single thread cannot answer
//!   a check. A task that has run out of its time is no excuse.
//! * The agent should be restarted when it has failed three checks in a row over two heartbeats, works on
//!   no task, and has answered before or had a minute to begin.

use std::time::Duration;

use crate::bus::Health;

/// How many checks in a row must fail.
const FAILURES: u32 = 3;
/// How many checks in a row must succeed before an agent that was sick counts as well.
const SUCCESSES: u32 = 2;
/// How long an agent may take to answer for the first time.
const BEGINNING: Duration = Duration::from_secs(60);

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The agent is well, or alive and without a check of its own.
    Well,
    /// It answered with this status, which says that it is not well.
    Unwell(u16),
    /// It did not answer in time.
    Silent,
    /// Nobody listens.
    Nobody,
    /// It pulls, and has never asked for a task.
    NeverAsked,
    /// It pulls, and has not asked for a task for this long.
    NotAsking(Duration),
}

/// How checks are spoken of, and how fast they follow each other.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the agent listens, as in `port 8080 does not answer /healthz`.
    pub port: u16,
    /// The path of its check.
    pub path: String,
    /// The time between two heartbeats.
    pub heartbeat: Duration,
}

/// The state of one agent.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Settings,
    started: Duration,
    health: Health,
    reason: Option<String>,
    answered: bool,
    nobody: bool,
    failures: u32,
    failing_since: Option<Duration>,
    successes: u32,
}

/// What follows from the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How well the agent is.
    pub health: Health,
    /// Why it is not healthy, in one sentence.
    pub reason: Option<String>,
    /// Whether it should be restarted.
    pub restart: bool,
}

impl Machine {
    /// Nothing is known yet. Times are since any fixed moment.
    #[must_use]
    pub fn new(settings: Settings, now: Duration) -> Self {
        Self {
            settings,
            started: now,
            health: Health::Unknown,
            reason: None,
            answered: false,
            nobody: false,
            failures: 0,
            failing_since: None,
            successes: 0,
        }
    }

    /// Learns of a check. `working`: the agent has a task whose time has not run out.
    pub fn learn(&mut self, check: Check, working: bool, now: Duration) -> Verdict {
        match check {
            Check::Well => self.well(),
            Check::NeverAsked => {
                self.reason = Some("the agent has not asked for a task yet".to_owned());
            }
            Check::Silent | Check::NotAsking(_) if working => {}
            Check::Nobody => {
                self.fail(check, now);
                self.nobody = true;
                if self.answered || now.saturating_sub(self.started) >= BEGINNING {
                    self.health = Health::Unhealthy;
                }
            }
            Check::Unwell(_) | Check::Silent | Check::NotAsking(_) => {
                self.fail(check, now);
                self.nobody = false;
                if self.failures >= FAILURES || self.health == Health::Unhealthy {
                    self.health = Health::Unhealthy;
                } else if self.answered {
                    self.health = Health::Degraded;
                }
            }
        }
        self.verdict(working, now)
    }

    /// What follows from the state now.
    #[must_use]
    pub fn verdict(&self, working: bool, now: Duration) -> Verdict {
        let long = self.failing_since.is_some_and(|since| now.saturating_sub(since) >= 2 * self.settings.heartbeat);
        let begun = self.answered || now.saturating_sub(self.started) >= BEGINNING;
        let restart = self.failures >= FAILURES && long && begun && !working;
        Verdict { health: self.health, reason: self.reason.clone(), restart }
    }

    fn well(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.successes = self.successes.saturating_add(1);
        if self.health != Health::Unhealthy || self.nobody || self.successes >= SUCCESSES {
            self.health = Health::Healthy;
            self.reason = None;
        }
        self.answered = true;
        self.nobody = false;
    }

    fn fail(&mut self, check: Check, now: Duration) {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let Settings { port, path, .. } = &self.settings;
        self.reason = Some(match check {
            Check::Unwell(status) => format!("the agent's health check {path} answers {status}"),
            Check::Silent => format!("the agent on port {port} does not answer {path}"),
            Check::NotAsking(silence) => format!("the agent has not asked for a task for {} s", silence.as_secs()),
            _ if self.answered => format!("nothing answers on port {port} any more: the agent's process is gone"),
            _ => format!("nothing answers on port {port}: does the agent listen there?"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn machine() -> Machine {
        let settings = Settings { port: 8080, path: "/healthz".into(), heartbeat: Duration::from_secs(5) };
        Machine::new(settings, Duration::ZERO)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_agent_is_well_with_its_first_answer_and_sick_after_three_failures() {
        let mut machine = machine();
        assert_eq!(machine.verdict(false, at(0)).health, Health::Unknown);
        assert_eq!(machine.learn(Check::Well, false, at(1)).health, Health::Healthy);
        assert_eq!(machine.learn(Check::Unwell(500), false, at(5)).health, Health::Degraded);
        assert_eq!(machine.learn(Check::Unwell(500), false, at(10)).health, Health::Degraded);
        let verdict = machine.learn(Check::Unwell(500), false, at(15));
        assert_eq!(verdict.health, Health::Unhealthy);
        assert_eq!(verdict.reason.as_deref(), Some("the agent's health check /healthz answers 500"));
        assert!(verdict.restart);
    }

    #[test]
    fn a_sick_agent_must_answer_twice_but_a_new_process_only_once() {
        let mut machine = machine();
        machine.learn(Check::Well, false, at(0));
        for second in 1..=3 {
            machine.learn(Check::Silent, false, at(5 * second));
        }
        assert_eq!(machine.learn(Check::Well, false, at(20)).health, Health::Unhealthy);
        assert_eq!(machine.learn(Check::Well, false, at(25)), Verdict { health: Health::Healthy, reason: None, restart: false });
        assert_eq!(machine.learn(Check::Nobody, false, at(30)).health, Health::Unhealthy, "its process is gone");
        assert_eq!(machine.learn(Check::Well, false, at(31)).health, Health::Healthy);
    }

    /// A regression here restarts every agent whose tasks take longer than three heartbeats.
    #[test]
    fn a_busy_agent_may_be_silent_until_its_task_runs_out_of_time() {
        let mut machine = machine();
        machine.learn(Check::Well, false, at(0));
        for second in 1..100 {
            let verdict = machine.learn(Check::Silent, true, at(5 * second));
            assert_eq!(verdict, Verdict { health: Health::Healthy, reason: None, restart: false });
        }
        for second in 100..103 {
            machine.learn(Check::Silent, false, at(5 * second));
        }
        assert!(machine.verdict(false, at(515)).restart);
    }

    #[test]
    fn an_agent_that_never_listened_is_told_of_its_port_and_has_a_minute() {
        let mut machine = machine();
        for second in 0..60 {
            let verdict = machine.learn(Check::Nobody, false, at(second));
            assert_eq!(verdict.health, Health::Unknown);
            assert_eq!(verdict.reason.as_deref(), Some("nothing answers on port 8080: does the agent listen there?"));
            assert!(!verdict.restart);
        }
        assert!(machine.learn(Check::Nobody, false, at(60)).restart);
    }

    proptest! {
        /// Whatever the checks say: an agent that works is never restarted, and one that was just well
        /// neither; and who is not well has a reason.
        #[test]
        fn a_restart_is_never_hasty(checks in prop::collection::vec((0..5_u8, any::<bool>()), 0..40)) {
            let mut machine = machine();
            for (second, (check, working)) in checks.into_iter().enumerate() {
                let check = match check {
                    0 => Check::Well,
                    1 => Check::Unwell(500),
                    2 => Check::Silent,
                    3 => Check::NotAsking(Duration::from_secs(99)),
                    _ => Check::Nobody,
                };
                let verdict = machine.learn(check, working, at(second as u64));
                prop_assert!(!(verdict.restart && (working || check == Check::Well)));
                let sick = matches!(verdict.health, Health::Degraded | Health::Unhealthy);
                prop_assert!(!sick || verdict.reason.is_some());
                prop_assert!(verdict.health != Health::Healthy || verdict.reason.is_none());
            }
        }
    }
}
