//! The budget for replacing agents, so that one bad image or one poison task cannot become a restart storm.
//!
//! Two limits hold at once. The pool as a whole may have a number of replacements within a window; beyond
//! it nothing is replaced until the oldest replacement has left the window, by which the budget recovers
//! without anybody's doing. And each agent waits longer the more often it was replaced in a row.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::backoff::Backoff;

/// How long an agent waits for its next replacement. The first one is at once.
const AGENT: Backoff = Backoff { first: Duration::from_secs(5), factor: 2.0, max: Duration::from_secs(300), jitter: 0.2 };

/// How many replacements a pool may have, and within which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The number of replacements.
    pub max: usize,
    /// The length of the window.
    pub within: SignedDuration,
}

impl Budget {
    /// The replacements that still count. One that lies in the future by more than the window comes from
    /// a broken clock and does not.
    #[must_use]
    pub fn counting(&self, recent: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
        let counts = |at: &&Timestamp| {
            let age = now.duration_since(**at);
            age < self.within && age > -self.within
        };
        recent.iter().filter(counts).copied().collect()
    }

    /// How many agents may be replaced now.
    #[must_use]
    pub fn left(&self, recent: &[Timestamp], now: Timestamp) -> usize {
        self.max.saturating_sub(self.counting(recent, now).len())
    }

    /// How long until one more agent may be replaced; `None` when nothing would change that.
    #[must_use]
    pub fn wait(&self, recent: &[Timestamp], now: Timestamp) -> Option<Duration> {
        let mut counting = self.counting(recent, now);
        if counting.len() < self.max {
            return Some(Duration::ZERO);
        }
        counting.sort_unstable();
        // So many must leave the window that one place is free.
        let last = counting.get(counting.len() - self.max)?;
        if self.max == 0 {
            return None;
        }
        Some((self.within - now.duration_since(*last)).try_into().unwrap_or(Duration::ZERO))
    }
}

/// How often one agent was replaced in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak {
    /// How often.
    pub count: u32,
    /// The last time.
    pub last: Timestamp,
}

impl Streak {
    /// How long the agent must still wait for its next replacement. `random` is between 0 and 1, and the
    /// same for the same wait, or asking often would shorten it.
    #[must_use]
    pub fn wait(self, random: f64, now: Timestamp) -> Duration {
        let since = Duration::try_from(now.duration_since(self.last)).unwrap_or(Duration::ZERO);
        AGENT.after(self.count, random).saturating_sub(since)
    }

    /// The streak with one more replacement. An agent that lasted for twice the longest wait starts anew.
    #[must_use]
    pub fn next(streak: Option<Self>, now: Timestamp) -> Self {
        let long = SignedDuration::try_from(AGENT.max * 2).unwrap_or(SignedDuration::MAX);
        let count = streak.filter(|streak| now.duration_since(streak.last) < long).map_or(0, |streak| streak.count);
        Self { count: count.saturating_add(1), last: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const BUDGET: Budget = Budget { max: 3, within: SignedDuration::from_secs(100) };

    #[test]
    fn the_budget_recovers_as_replacements_leave_the_window() {
        let recent = [at(10), at(20), at(90)];
        assert_eq!(BUDGET.left(&recent, at(95)), 0);
        assert_eq!(BUDGET.wait(&recent, at(95)), Some(Duration::from_secs(15)));
        assert_eq!(BUDGET.left(&recent, at(110)), 1);
        assert_eq!(BUDGET.wait(&recent, at(110)), Some(Duration::ZERO));
        assert_eq!(BUDGET.left(&recent, at(500)), 3);
    }

    #[test]
    fn a_budget_of_nothing_is_never_free() {
        let none = Budget { max: 0, ..BUDGET };
        assert_eq!((none.left(&[], at(0)), none.wait(&[], at(0))), (0, None));
        assert_eq!(none.wait(&[at(1)], at(2)), None);
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_block_for_ever() {
        assert_eq!(BUDGET.left(&[at(9_000), at(9_000), at(9_000)], at(10)), 3);
    }

    #[test]
    fn an_agent_waits_longer_each_time_until_it_has_lasted() {
        let mut streak = None;
        let mut waits = Vec::new();
        let mut now = at(0);
        for _ in 0..9 {
            let next = Streak::next(streak, now);
            waits.push(next.wait(0.5, now).as_secs());
            now += next.wait(0.5, now);
            streak = Some(next);
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(Streak::next(streak, now + SignedDuration::from_secs(601)).count, 1);
    }

    proptest! {
        /// A regression here is a restart storm, or a pool that never recovers.
        #[test]
        fn whoever_asks_first_never_exceeds_the_budget(
            max in 0..6usize, within in 1..200i64, steps in prop::collection::vec(0..60i64, 1..80),
        ) {
            let budget = Budget { max, within: SignedDuration::from_secs(within) };
            let (mut now, mut all) = (0, Vec::new());
            for step in steps {
                now += step;
                if budget.left(&all, at(now)) > 0 {
                    all.push(at(now));
                    prop_assert!(all.iter().filter(|t| now - t.as_second() < within).count() <= max);
                } else if let Some(wait) = budget.wait(&all, at(now)) {
                    let later = at(now) + wait;
                    prop_assert!(budget.left(&all, later) > 0, "free after the wait");
                    prop_assert!(wait.is_zero() || budget.left(&all, later - SignedDuration::from_secs(1)) == 0, "and not before");
                } else {
                    prop_assert_eq!(max, 0);
                }
            }
        }
    }
}
