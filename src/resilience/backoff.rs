//! Exponential backoff with jitter.

use std::time::Duration;

/// How waiting times grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// By how much each wait is longer than the one before.
    pub factor: f64,
    /// The longest wait, before jitter.
    pub max: Duration,
    /// By how much a wait may be shorter or longer, as a part of it: 0.2 is a fifth.
    pub jitter: f64,
}

impl Backoff {
    /// How long to wait after a number of failures in a row; not at all after none. `random` is between
    /// 0 and 1, and 0.5 gives the wait without jitter.
    #[must_use]
    pub fn after(&self, failures: u32, random: f64) -> Duration {
        let Some(exponent) = failures.checked_sub(1) else { return Duration::ZERO };
        let exponent = i32::try_from(exponent).unwrap_or(i32::MAX);
        let seconds = (self.first.as_secs_f64() * self.factor.powi(exponent)).min(self.max.as_secs_f64());
        let spread = self.jitter.mul_add(2.0_f64.mul_add(random.clamp(0.0, 1.0), -1.0), 1.0);
        Duration::from_secs_f64((seconds * spread).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(60), jitter: 0.1 };

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<u64> = (0..9).map(|n| BACKOFF.after(n, 0.5).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    }

    proptest! {
        /// A regression here would let all agents of a pool come back at the same moment, or never.
        #[test]
        fn jitter_stays_within_its_bounds(failures in 1..=u32::MAX, random in 0.0..=1.0f64) {
            let plain = BACKOFF.after(failures, 0.5).as_secs_f64();
            let wait = BACKOFF.after(failures, random).as_secs_f64();
            prop_assert!(wait >= plain * 0.899 && wait <= plain * 1.101, "{wait} for {plain}");
        }
    }
}
