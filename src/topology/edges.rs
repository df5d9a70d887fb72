//! From members to edges: who may send a task to whom, and why.
//!
//! | architecture | edges |
//! | --- | --- |
//! | Hierarchical | manager → report (delegate), report → manager (escalate), and both ways between named peers |
//! | Hybrid | as Hierarchical, and all reports of one manager, like all members without a manager, are peers of each other |
//! | Flat | every member to every other member, as peers |
//!
//! There is at most one edge from one pool to another. Where two rules give the same edge, the
//! relation of the management tree wins over that of peers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::api::topology::{Architecture, TopologySpec};

/// Why one pool may send to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Relation {
    /// From a manager down to its report.
    Delegate,
    /// From a report up to its manager.
    Escalate,
    /// Sideways, between peers.
    Coordinate,
}

/// A directed permission from one pool to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// The pool that may send.
    pub from: String,
    /// The pool that may be sent to.
    pub to: String,
    /// Why.
    pub relation: Relation,
}

/// Compiles the edges of a topology that [`check`](super::check()) found no problem in, in the order of
/// their names. Members that are named but do not exist give no edge.
#[must_use]
pub fn edges(spec: &TopologySpec) -> Vec<Edge> {
    let names: BTreeSet<&str> = spec.members.iter().map(|m| m.pool.as_str()).collect();
    let mut relations: BTreeMap<(&str, &str), Relation> = BTreeMap::new();
    let mut allow = |from, to, relation| {
        if from != to && names.contains(from) && names.contains(to) {
            relations.entry((from, to)).or_insert(relation);
        }
    };
    for member in &spec.members {
        if let Some(manager) = &member.manager {
            allow(manager, &member.pool, Relation::Delegate);
            allow(&member.pool, manager, Relation::Escalate);
        }
    }
    for member in &spec.members {
        for peer in &member.peers {
            allow(&member.pool, peer, Relation::Coordinate);
            allow(peer, &member.pool, Relation::Coordinate);
        }
    }
    for one in &spec.members {
        for other in &spec.members {
            let peers = match spec.architecture {
                Architecture::Flat => true,
                Architecture::Hybrid => one.manager == other.manager,
                Architecture::Hierarchical => false,
            };
            if peers {
                allow(&one.pool, &other.pool, Relation::Coordinate);
            }
        }
    }
    relations.into_iter().map(|((from, to), relation)| Edge { from: from.to_owned(), to: to.to_owned(), relation }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::topology::{DelegationSpec, JournalSpec, Member};
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    pub(crate) fn spec(architecture: Architecture, members: &[(&str, Option<&str>, &[&str])]) -> TopologySpec {
        TopologySpec {
            architecture,
            members: members
                .iter()
                .map(|(pool, manager, peers)| Member {
                    pool: (*pool).to_owned(),
                    manager: manager.map(str::to_owned),
                    peers: peers.iter().map(|p| (*p).to_owned()).collect(),
                })
                .collect(),
            delegation: DelegationSpec::default(),
            journal: JournalSpec::default(),
        }
    }

    fn written(spec: &TopologySpec) -> Vec<String> {
        edges(spec).iter().map(|e| format!("{} {:?} {}", e.from, e.relation, e.to)).collect()
    }

    const TEAM: &[(&str, Option<&str>, &[&str])] = &[
        ("planner", None, &[]),
        ("coder", Some("planner"), &[]),
        ("reviewer", Some("planner"), &["coder"]),
        ("tester", Some("planner"), &[]),
    ];

    #[test]
    fn a_hierarchy_has_only_its_tree_and_the_peers_that_are_named() {
        assert_eq!(
            written(&spec(Architecture::Hierarchical, TEAM)),
            [
                "coder Escalate planner",
                "coder Coordinate reviewer",
                "planner Delegate coder",
                "planner Delegate reviewer",
                "planner Delegate tester",
                "reviewer Coordinate coder",
                "reviewer Escalate planner",
                "tester Escalate planner",
            ]
        );
    }

    #[test]
    fn in_a_hybrid_the_reports_of_one_manager_are_peers() {
        let edges = written(&spec(Architecture::Hybrid, TEAM));
        assert_eq!(edges.len(), 12);
        assert!(edges.contains(&"tester Coordinate coder".to_owned()));
        assert!(edges.contains(&"planner Delegate tester".to_owned()), "the tree wins over peers");
    }

    #[test]
    fn in_a_flat_team_everybody_may_send_to_everybody_else() {
        let flat = spec(Architecture::Flat, &[("a", None, &[]), ("b", None, &[]), ("c", None, &[])]);
        assert_eq!(edges(&flat).len(), 6);
    }

    proptest! {
        /// A regression here lets a message through that the YAML does not allow, or the reverse.
        #[test]
        fn edges_join_two_different_members_once(
            architecture in prop_oneof![Just(Architecture::Flat), Just(Architecture::Hybrid), Just(Architecture::Hierarchical)],
            managers in prop::collection::vec(prop::option::of(0..8usize), 1..8),
            peers in prop::collection::vec((0..8usize, 0..8usize), 0..8),
        ) {
            let names: Vec<String> = (0..managers.len()).map(|i| format!("p{i}")).collect();
            let members = managers.iter().enumerate().map(|(i, manager)| Member {
                pool: names[i].clone(),
                manager: manager.map(|m| format!("p{m}")),
                peers: peers.iter().filter(|(from, _)| *from == i).map(|(_, to)| format!("p{to}")).collect(),
            }).collect();
            let spec = TopologySpec { architecture, members, delegation: DelegationSpec::default(), journal: JournalSpec::default() };
            let edges = edges(&spec);
            let pairs: BTreeSet<_> = edges.iter().map(|e| (&e.from, &e.to)).collect();
            prop_assert_eq!(pairs.len(), edges.len());
            for edge in &edges {
                prop_assert_ne!(&edge.from, &edge.to);
                prop_assert!(names.contains(&edge.from) && names.contains(&edge.to));
                prop_assert!(pairs.contains(&(&edge.to, &edge.from)), "every relation has its way back");
            }
        }
    }
}
