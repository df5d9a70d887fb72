//! What can be wrong with a topology by itself, before any pool is looked at.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::Problem;
use crate::api::topology::{Architecture, TopologySpec};

/// Finds every mistake in a topology. An empty answer means that its edges can be compiled.
#[must_use]
pub fn check(spec: &TopologySpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for member in &spec.members {
        if !names.insert(member.pool.as_str()) {
            problems.push(Problem {
                reason: "DuplicateMember",
                message: format!("pool {:?} is a member twice: keep one entry and join the two", member.pool),
            });
        }
    }
    for member in &spec.members {
        if spec.architecture == Architecture::Flat && (member.manager.is_some() || !member.peers.is_empty()) {
            problems.push(Problem {
                reason: "NotFlat",
                message: format!(
                    "in a Flat topology every member may send to every other one: remove manager and peers of {:?}, or use Hierarchical or Hybrid",
                    member.pool
                ),
            });
        }
        let named = member.manager.iter().map(|name| ("manager", name)).chain(member.peers.iter().map(|name| ("peers", name)));
        for (field, name) in named {
            if *name == member.pool {
                problems.push(Problem {
                    reason: "SelfReference",
                    message: format!("{field} of {name:?} names the pool itself: name another member or remove it"),
                });
            } else if !names.contains(name.as_str()) {
                problems.push(Problem {
                    reason: "UnknownMember",
                    message: format!("{field} of {:?} names {name:?}, which is no member: add it to members or remove it", member.pool),
                });
            }
        }
    }
    problems.extend(manager_cycle(spec));
    problems
}

/// A cycle among the managers, told once, from its alphabetically first member.
fn manager_cycle(spec: &TopologySpec) -> Option<Problem> {
    let managers: BTreeMap<&str, &str> = spec.members.iter().filter_map(|m| Some((m.pool.as_str(), m.manager.as_deref()?))).collect();
    for start in managers.keys() {
        let mut path = vec![*start];
        let mut at = *start;
        while let Some(next) = managers.get(at) {
            if next == start && path.len() > 1 {
                path.push(start);
                return Some(Problem {
                    reason: "ManagerCycle",
                    message: format!("the managers form a cycle ({}): remove the manager of one of them", path.join(" -> ")),
                });
            }
            if path.contains(next) {
                break;
            }
            path.push(next);
            at = next;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::edges::tests::spec;
    use pretty_assertions::assert_eq;

    fn reasons(spec: &TopologySpec) -> Vec<&'static str> {
        check(spec).into_iter().map(|p| p.reason).collect()
    }

    #[test]
    fn a_cycle_of_managers_is_named_with_its_path() {
        let spec =
            spec(Architecture::Hierarchical, &[("a", Some("b"), &[]), ("b", Some("c"), &[]), ("c", Some("a"), &[]), ("d", Some("a"), &[])]);
        let problems = check(&spec);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].reason, "ManagerCycle");
        assert!(problems[0].message.contains("a -> b -> c -> a"), "{}", problems[0].message);
    }

    #[test]
    fn every_mistake_is_found_at_once() {
        let spec = spec(Architecture::Hierarchical, &[("a", Some("a"), &["ghost"]), ("a", None, &[])]);
        assert_eq!(reasons(&spec), ["DuplicateMember", "SelfReference", "UnknownMember"]);
    }

    #[test]
    fn a_flat_team_has_no_managers() {
        assert_eq!(reasons(&spec(Architecture::Flat, &[("a", Some("b"), &[]), ("b", None, &[])])), ["NotFlat"]);
        assert!(check(&spec(Architecture::Flat, &[("a", None, &[]), ("b", None, &[])])).is_empty());
    }
}
