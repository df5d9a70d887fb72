//! The conditions of both resources: their types, and the one rule by which they change.
//!
//! Conditions follow the Kubernetes API conventions: `lastTransitionTime` moves only when `status`
//! does, every condition carries the generation that it speaks of, and a reason is never empty.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The spec makes sense by itself.
pub const ACCEPTED: &str = "Accepted";
/// Everything that the spec refers to exists and may be used (Topology).
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// The bus enforces what the spec says (Topology).
pub const PROGRAMMED: &str = "Programmed";
/// The resource does its work.
pub const READY: &str = "Ready";
/// The controller is on its way to what the spec says (AgentPool).
pub const PROGRESSING: &str = "Progressing";
/// Something is wrong that does not mend itself by waiting, or work is done with less than was asked for.
pub const DEGRADED: &str = "Degraded";

/// A condition as a report states it, before it is merged into those that the object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// One of the constants of this module.
    pub type_: &'static str,
    /// `None` is `Unknown`.
    pub status: Option<bool>,
    /// One CamelCase word for programs.
    pub reason: &'static str,
    /// One sentence for people: what is so, and what to do when it is wrong.
    pub message: String,
}

impl Statement {
    /// A condition that holds.
    #[must_use]
    pub fn yes(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Some(true), reason, message: message.into() }
    }

    /// A condition that does not hold.
    #[must_use]
    pub fn no(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Some(false), reason, message: message.into() }
    }

    /// A condition of which nothing is known.
    #[must_use]
    pub fn unknown(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: None, reason, message: message.into() }
    }
}

/// The longest message that the API server takes in a condition.
pub(super) const MAX_MESSAGE: usize = 32_768;

/// Merges what a report states into the conditions that an object has: keeps the order of the
/// statements, drops conditions that are no longer stated, and moves `lastTransitionTime` only when
/// the status of a condition changes.
#[must_use]
pub fn merge(existing: &[Condition], statements: &[Statement], generation: Option<i64>, now: &Time) -> Vec<Condition> {
    statements
        .iter()
        .map(|statement| {
            let status = match statement.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let since = existing
                .iter()
                .find(|c| c.type_ == statement.type_ && c.status == status)
                .map_or_else(|| now.clone(), |c| c.last_transition_time.clone());
            Condition {
                type_: statement.type_.to_owned(),
                status: status.to_owned(),
                reason: statement.reason.to_owned(),
                message: statement.message.chars().take(MAX_MESSAGE).collect(),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// Finds a condition by its type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether a condition is there and holds.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;
    use pretty_assertions::assert_eq;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = merge(&[], &[Statement::no(READY, "Starting", "0 of 1")], Some(1), &at(10));
        let same = merge(&first, &[Statement::no(READY, "NoTopology", "none")], Some(2), &at(20));
        assert_eq!(same[0].last_transition_time, at(10));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("NoTopology", Some(2)));
        let turned = merge(&same, &[Statement::yes(READY, "Ready", "1 of 1")], Some(2), &at(30));
        assert_eq!(turned[0].last_transition_time, at(30));
    }

    #[test]
    fn a_condition_that_is_no_longer_stated_is_dropped() {
        let first = merge(&[], &[Statement::yes(DEGRADED, "X", "x"), Statement::yes(READY, "Y", "y")], None, &at(1));
        let next = merge(&first, &[Statement::yes(READY, "Y", "y")], None, &at(2));
        assert_eq!(next.len(), 1);
    }
}
