//! How far a task may be passed on, and where to. Pure.
//!
//! The *ancestry* of a task names the pools that work on the tasks that it is part of, the outermost first:
//! it is empty for a task from outside the team, and for one that an agent sends while it works on none.
//! What an agent of pool `b` sends while it works on a task has that task's ancestry, and `b`. The number
//! of pools in it is the *depth* of the task.
//!
//! | a task | |
//! | --- | --- |
//! | for a pool in its own ancestry | is refused, unless `cycles: Allowed` |
//! | deeper than `maxDepth` | is refused |
//! | else | may go |
//!
//! This holds on every edge, also from a report up to its manager: where the manager has given the task out
//! itself, the result is the way up. A manager that waits for a report which waits for the manager has a
//! deadlock as soon as all its agents do so, and an endless exchange otherwise.
//!
//! The sending sidecar asks before it does anything, and the receiving one asks again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::api::topology::{Cycles, DelegationSpec};

/// What the topology allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delegation {
    /// The depth that a task may have.
    pub max_depth: usize,
    /// Whether a task may come back to a pool that works on a task which it is part of.
    pub allow_cycles: bool,
}

impl From<&DelegationSpec> for Delegation {
    fn from(spec: &DelegationSpec) -> Self {
        Self { max_depth: usize::try_from(spec.max_depth).unwrap_or(0), allow_cycles: spec.cycles == Cycles::Allowed }
    }
}

impl Default for Delegation {
    fn default() -> Self {
        Self::from(&DelegationSpec::default())
    }
}

/// Why a task may not be passed on. As a text it is for the agent that sent the task: what was refused, and
/// what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It would come back.
    Cycle {
        /// From the pool that works already, to that pool.
        chain: Vec<String>,
    },
    /// It has been passed on too often.
    Depth {
        /// Everybody who has passed it on, and whom it was for.
        chain: Vec<String>,
        /// How often it may be passed on.
        max: usize,
    },
}

/// Every reason, as a metric says it.
pub const REASONS: [&str; 2] = ["cycle", "depth"];

/// How many pools of a chain a text names.
const SHOWN: usize = 10;

/// Decides whether a task of this ancestry may go to a pool.
///
/// # Errors
/// Why not.
pub fn judge(ancestry: &[String], to: &str, allowed: Delegation) -> Result<(), Refusal> {
    let chain = |from: usize| ancestry.iter().skip(from).cloned().chain([to.to_owned()]).collect();
    match ancestry.iter().position(|pool| pool == to) {
        Some(first) if !allowed.allow_cycles => Err(Refusal::Cycle { chain: chain(first) }),
        _ if ancestry.len() > allowed.max_depth => Err(Refusal::Depth { chain: chain(0), max: allowed.max_depth }),
        _ => Ok(()),
    }
}

impl Refusal {
    /// The reason as a metric says it: one of [`REASONS`].
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Cycle { .. } => "cycle",
            Self::Depth { .. } => "depth",
        }
    }

    /// The pools on the way, the one that was not reached included.
    #[must_use]
    pub fn chain(&self) -> &[String] {
        match self {
            Self::Cycle { chain } | Self::Depth { chain, .. } => chain,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.chain().last().map_or("", String::as_str);
        let way = way(self.chain());
        match self {
            Self::Cycle { .. } => write!(
                f,
                "not sent to pool {to:?}, which is at work on a task that this one is part of ({way}), and may be waiting for you: \
                 do this yourself or send it to another pool, or give back what you have and say what is missing, as the result of your task"
            ),
            Self::Depth { max, .. } => write!(
                f,
                "not sent to pool {to:?}: the work has been passed on {max} times, which is all that the topology allows ({way}): \
                 do this yourself, or give back what you have and say what is missing, as the result of your task"
            ),
        }
    }
}

/// `a -> b -> a`; the middle of a long way is left out.
fn way(chain: &[String]) -> String {
    let left_out = chain.len().saturating_sub(SHOWN);
    let (before, after) = chain.split_at(if left_out > 0 { SHOWN / 2 } else { 0 });
    let gap = (left_out > 0).then(|| format!("{left_out} more"));
    let named = before.iter().cloned().chain(gap).chain(after.iter().skip(left_out).cloned());
    named.collect::<Vec<_>>().join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    const DEFAULT: Delegation = Delegation { max_depth: 8, allow_cycles: false };

    #[test]
    fn a_task_does_not_come_back_to_who_works_on_it_already() {
        let refusal = judge(&names(&["planner", "writer", "reviewer"]), "writer", DEFAULT).unwrap_err();
        assert_eq!((refusal.reason(), refusal.chain()), ("cycle", &names(&["writer", "reviewer", "writer"])[..]));
        assert_eq!(
            refusal.to_string(),
            "not sent to pool \"writer\", which is at work on a task that this one is part of (writer -> reviewer -> writer), and may be \
             waiting for you: do this yourself or send it to another pool, or give back what you have and say what is missing, as the \
             result of your task"
        );
        assert_eq!(judge(&names(&["planner", "writer"]), "reviewer", DEFAULT), Ok(()));
        assert_eq!(judge(&names(&["a", "b"]), "a", Delegation { allow_cycles: true, ..DEFAULT }), Ok(()));
    }

    #[test]
    fn a_task_is_passed_on_only_so_often() {
        let allowed = Delegation { max_depth: 2, allow_cycles: true };
        assert_eq!(judge(&names(&["a", "b"]), "c", allowed), Ok(()));
        let refusal = judge(&names(&["a", "b", "c"]), "d", allowed).unwrap_err();
        assert_eq!(refusal.reason(), "depth");
        assert!(refusal.to_string().starts_with("not sent to pool \"d\": the work has been passed on 2 times"), "{refusal}");
        assert!(refusal.to_string().contains("(a -> b -> c -> d)"), "{refusal}");
    }

    /// A header of the bus is cut at 1,024 characters, and what to do instead must be in it.
    #[test]
    fn a_long_way_is_told_in_short() {
        let pools: Vec<String> = (0..64).map(|i| format!("pool-{i:045}")).collect();
        let refusal = judge(&pools, "last", Delegation { max_depth: 63, allow_cycles: true }).unwrap_err();
        let text = refusal.to_string();
        assert_eq!(refusal.chain().len(), 65);
        assert!(text.contains(" -> 55 more -> ") && text.contains("-> last") && text.len() < 1024, "{text}");
    }

    /// The way that tasks take through a team whose agents send to whomever they like, at random.
    fn walk(steps: &[usize], allowed: Delegation) -> Vec<String> {
        let mut ancestry: Vec<String> = Vec::new();
        let mut at = "p0".to_owned();
        for step in steps {
            let to = format!("p{step}");
            let mut next = ancestry.clone();
            next.push(at.clone());
            if to != at && judge(&next, &to, allowed).is_ok() {
                (ancestry, at) = (next, to);
            }
        }
        ancestry.push(at);
        ancestry
    }

    proptest! {
        /// A regression here lets two agents pass a task to and fro until the budget of a model is gone.
        #[test]
        fn no_chain_has_a_pool_twice_or_is_too_long(steps in prop::collection::vec(0..9_usize, 0..80), max_depth in 1..12_usize) {
            let chain = walk(&steps, Delegation { max_depth, allow_cycles: false });
            let mut once = chain.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), chain.len());
            prop_assert!(chain.len() <= max_depth + 1);
            let chain = walk(&steps, Delegation { max_depth, allow_cycles: true });
            prop_assert!(chain.len() <= max_depth + 1);
        }

        /// Nothing is refused that is neither deep nor circular.
        #[test]
        fn a_refusal_has_a_reason(ancestry in prop::collection::vec("[a-d]", 0..6), to in "[a-d]", max_depth in 1..8_usize, allow_cycles: bool) {
            let circular = ancestry.contains(&to);
            match judge(&ancestry, &to, Delegation { max_depth, allow_cycles }) {
                Ok(()) => prop_assert!(ancestry.len() <= max_depth && (allow_cycles || !circular)),
                Err(Refusal::Cycle { chain }) => prop_assert!(circular && !allow_cycles && chain.first() == chain.last()),
                Err(Refusal::Depth { chain, .. }) => prop_assert_eq!(chain.len(), ancestry.len() + 1),
            }
        }
    }
}
