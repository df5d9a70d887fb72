//! What may be dropped from a journal. Pure.
//!
//! A message may go when nobody will ask for it again. That holds for everything before the first
//! message that some pool has still to do: the *floor*. Of what lies before the floor, the journal drops
//! what is older than `maxAgeSeconds`, and, when it is three quarters full, as much of the oldest as
//! brings it down to half, except for what is younger than [`KEEP`].
//!
//! A cancellation lies behind its task, so that the floor holds it for as long as somebody may be given that
//! task. Results and dead letters have no floor of their own, for no consumer acknowledges them. They need
//! none: a sender that works on a task while it waits for a result holds the floor by that task, which
//! is older than the result. A sender outside the team has [`KEEP`] to fetch it from a journal that is
//! filling up, and `maxAgeSeconds` otherwise.

use std::time::Duration;

/// What is younger is never dropped, however full the journal is.
pub const KEEP: Duration = Duration::from_secs(120);

/// What a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The number of messages.
    pub messages: u64,
    /// Their size.
    pub bytes: u64,
    /// The sequence of the oldest.
    pub first: u64,
    /// The sequence of the newest.
    pub last: u64,
    /// How old the oldest is.
    pub oldest: Duration,
}

/// How far a pool is with its tasks. To be read *after* the journal's [`Held`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to here that is for this pool is done.
    pub ack_floor: u64,
    /// How many tasks no agent has taken yet.
    pub pending: u64,
    /// How many tasks an agent works on, or wait for their next attempt.
    pub in_flight: u64,
}

/// What the topology says of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What is older may go.
    pub max_age: Duration,
    /// How large the journal may be.
    pub max_bytes: u64,
}

/// Why a journal is trimmed, and how far it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Nothing has to go.
    Nothing,
    /// Drop what is older than `age`, but never anything from `before` on.
    OlderThan {
        /// What is younger stays.
        age: Duration,
        /// The first message that stays in any case.
        before: u64,
    },
    /// Something should go, but the oldest message is not done yet.
    Held,
}

/// The first message that some pool has still to do; `last + 1` when none has. A pool that has nothing
/// to do holds nothing, wherever its acknowledgements ended. What was published since `held` was read
/// is not looked at: it lies behind `held.last`.
#[must_use]
pub fn floor(held: &Held, consumers: &[Progress]) -> u64 {
    consumers
        .iter()
        .filter(|consumer| consumer.pending > 0 || consumer.in_flight > 0)
        .map(|consumer| consumer.ack_floor.saturating_add(1))
        .min()
        .unwrap_or(u64::MAX)
        .min(held.last.saturating_add(1))
}

/// Decides what may be dropped.
#[must_use]
pub fn decide(held: &Held, limits: &Limits, consumers: &[Progress]) -> Trim {
    if held.messages == 0 {
        return Trim::Nothing;
    }
    let floor = floor(held, consumers);
    // Not at every message that comes of age: a purge costs the broker more than a late one costs space.
    let slack = (limits.max_age / 64).max(Duration::from_secs(1));
    let too_old = held.oldest > limits.max_age + slack;
    let too_large = held.bytes > limits.max_bytes / 4 * 3;
    let in_the_way = too_large && held.oldest > KEEP;
    if !too_old && !in_the_way {
        return Trim::Nothing;
    }
    if floor <= held.first {
        return Trim::Held;
    }
    if !too_large {
        return Trim::OlderThan { age: limits.max_age, before: floor };
    }
    // By the average size; what it misses by is made good at the next look.
    let average = (held.bytes / held.messages).max(1);
    let surplus = held.bytes.saturating_sub(limits.max_bytes / 2);
    let enough = held.first.saturating_add(surplus.div_ceil(average));
    Trim::OlderThan { age: KEEP.min(limits.max_age), before: floor.min(enough) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { max_age: Duration::from_secs(3600), max_bytes: 1000 };

    fn held(messages: u64, bytes: u64, oldest: u64) -> Held {
        Held { messages, bytes, first: 1, last: messages, oldest: Duration::from_secs(oldest) }
    }

    fn idle(ack_floor: u64) -> Progress {
        Progress { ack_floor, pending: 0, in_flight: 0 }
    }

    #[test]
    fn nothing_goes_that_is_neither_old_nor_in_the_way() {
        assert_eq!(decide(&held(10, 100, 3599), &LIMITS, &[]), Trim::Nothing);
        assert_eq!(decide(&held(0, 0, 0), &LIMITS, &[]), Trim::Nothing);
    }

    #[test]
    fn what_is_old_goes_up_to_the_floor() {
        let working = Progress { ack_floor: 4, pending: 0, in_flight: 1 };
        let age = LIMITS.max_age;
        assert_eq!(decide(&held(10, 100, 4000), &LIMITS, &[idle(0), idle(2)]), Trim::OlderThan { age, before: 11 });
        assert_eq!(decide(&held(10, 100, 4000), &LIMITS, &[idle(0), working]), Trim::OlderThan { age, before: 5 });
        assert_eq!(decide(&held(10, 100, 4000), &LIMITS, &[Progress { ack_floor: 0, pending: 1, in_flight: 0 }]), Trim::Held);
    }

    /// A regression here drops the result of a task before its sender could fetch it.
    #[test]
    fn a_full_journal_gives_up_the_oldest_half_but_nothing_young() {
        assert_eq!(decide(&held(100, 800, 60), &LIMITS, &[]), Trim::Nothing);
        assert_eq!(decide(&held(100, 800, 200), &LIMITS, &[]), Trim::OlderThan { age: KEEP, before: 39 });
        let busy = Progress { ack_floor: 9, pending: 50, in_flight: 1 };
        assert_eq!(decide(&held(100, 800, 200), &LIMITS, &[busy]), Trim::OlderThan { age: KEEP, before: 10 });
    }

    proptest! {
        /// A regression here loses tasks that nobody has done.
        #[test]
        fn no_task_that_is_not_done_is_ever_dropped(
            messages in 0u64..1000, bytes in 0u64..2000, oldest in 0u64..9000, first in 1u64..50,
            consumers in prop::collection::vec((0u64..1000, 0u64..3, 0u64..3), 0..5),
        ) {
            let held = Held { messages, bytes, first, last: first + messages, oldest: Duration::from_secs(oldest) };
            let consumers: Vec<_> = consumers.into_iter().map(|(ack_floor, pending, in_flight)| Progress { ack_floor, pending, in_flight }).collect();
            if let Trim::OlderThan { before, .. } = decide(&held, &LIMITS, &consumers) {
                prop_assert!(before > held.first && before <= held.last + 1);
                for consumer in consumers.iter().filter(|c| c.pending + c.in_flight > 0) {
                    prop_assert!(before <= consumer.ack_floor + 1);
                }
            }
        }
    }
}
