//! That an explanation says what the compiler does, and that following it does what it promises.

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::super::check;
use super::super::edges::tests::spec;
use super::super::findings::tests::{follow, team};
use super::*;

const TEAM: &[(&str, Option<&str>, &[&str])] = &[
    ("planner", None, &[]),
    ("searcher", Some("planner"), &[]),
    ("writer", Some("planner"), &["reviewer"]),
    ("reviewer", Some("planner"), &[]),
];

fn said(architecture: Architecture, team: &[(&str, Option<&str>, &[&str])], from: &str, to: &str) -> (String, String) {
    let said = explain(&spec(architecture, team), from, to);
    (said.message, said.change.unwrap_or_default())
}

#[test]
fn an_edge_is_explained_by_the_words_of_the_yaml() {
    let hierarchy = |from, to| said(Architecture::Hierarchical, TEAM, from, to);
    assert_eq!(
        hierarchy("planner", "writer"),
        (
            "planner may send to writer, and delegates down to it: spec.members[2].manager is planner".into(),
            "remove spec.members[2].manager".into()
        )
    );
    assert_eq!(hierarchy("writer", "planner").0, "writer may send to planner, and reports up to it: spec.members[2].manager is planner");
    assert_eq!(
        hierarchy("reviewer", "writer"),
        (
            "reviewer may send to writer, and coordinates sideways with it: spec.members[2].peers has reviewer".into(),
            "remove reviewer from spec.members[2].peers".into()
        )
    );
    let flat = said(Architecture::Flat, &[("a", None, &[]), ("b", None, &[])], "a", "b");
    assert_eq!(flat.0, "a may send to b, and coordinates sideways with it: in a Flat topology every member may send to every other one");
    let hybrid = |from, to| said(Architecture::Hybrid, TEAM, from, to);
    assert_eq!(
        hybrid("searcher", "reviewer"),
        (
            "searcher may send to reviewer, and coordinates sideways with it: in a Hybrid topology the reports of one manager, here planner, are peers".into(),
            "give one of the two another manager, or choose Hierarchical as spec.architecture".into()
        )
    );
    assert_eq!(
        hybrid("writer", "reviewer").1,
        "remove reviewer from spec.members[2].peers, and give one of the two another manager, or choose Hierarchical as spec.architecture"
    );
    assert_eq!(
        hybrid("planner", "searcher").1,
        "remove spec.members[1].manager, and give searcher another manager, or choose Hierarchical as spec.architecture"
    );
}

#[test]
fn an_edge_that_is_missing_is_explained_with_the_line_that_makes_it() {
    let hierarchy = |from, to| said(Architecture::Hierarchical, TEAM, from, to);
    assert_eq!(
        hierarchy("writer", "searcher"),
        (
            "writer may not send to searcher: neither is the manager of the other, and neither names the other as its peer; it reaches searcher by way of planner".into(),
            "spec.members[2].peers: [reviewer, searcher]".into()
        )
    );
    assert_eq!(
        hierarchy("planner", "tester"),
        ("planner may not send to tester: tester is no member".into(), "spec.members[4]: {pool: tester, peers: [planner]}".into())
    );
    assert_eq!(hierarchy("ghost", "tester").1, "spec.members[4]: {pool: ghost}");
    assert_eq!(said(Architecture::Flat, &[("a", None, &[])], "a", "b").1, "spec.members[1]: {pool: b}");
    let itself = explain(&spec(Architecture::Flat, &[("a", None, &[])]), "a", "a");
    assert_eq!((itself.relation, itself.change), (None, None));
    assert_eq!(explain(&spec(Architecture::Hierarchical, TEAM), "writer", "searcher").way, ["writer", "planner", "searcher"]);
    let two = spec(Architecture::Hybrid, &[("a", None, &[]), ("b", None, &[]), ("c", Some("a"), &[]), ("d", Some("b"), &[])]);
    let far = explain(&two, "c", "d");
    assert!(far.message.ends_with("and they do not report to the same manager; it reaches d by way of a and b"), "{}", far.message);
}

/// Takes out of the YAML what a change says.
fn remove(change: &str, spec: &mut TopologySpec) {
    for part in change.strip_prefix("remove ").unwrap().split(", and ") {
        let (name, path) = part.split_once(" from ").map_or((None, part), |(name, path)| (Some(name), path));
        let (place, field) = path.strip_prefix("spec.members[").and_then(|rest| rest.split_once("].")).unwrap();
        let member = &mut spec.members[place.parse::<usize>().unwrap()];
        match (field, name) {
            ("manager", None) => member.manager = None,
            ("peers", Some(name)) => member.peers.retain(|peer| peer != name),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    /// A regression here tells people that something is allowed which is refused, or the reverse.
    #[test]
    fn what_is_explained_is_what_is_compiled((spec, _) in team(), from in 0..13usize, to in 0..13usize) {
        let (from, to) = (format!("p{from}"), format!("p{to}"));
        let found = explain(&spec, &from, &to);
        let edges = edges(&spec);
        let edge = edges.iter().find(|edge| edge.from == from && edge.to == to);
        prop_assert_eq!(found.relation, edge.map(|edge| edge.relation));
        for pair in found.way.windows(2) {
            prop_assert!(edges.iter().any(|edge| edge.from == pair[0] && edge.to == pair[1]));
        }
    }

    /// A regression here gives advice that does not help.
    #[test]
    fn whoever_follows_it_gets_the_other_answer((spec, mut pools) in team(), from in 0..13usize, to in 0..13usize) {
        let (from, to, mut changed) = (format!("p{from}"), format!("p{to}"), spec.clone());
        let found = explain(&spec, &from, &to);
        let Some(change) = found.change else { return Ok(()) };
        if found.relation.is_none() {
            follow(&change, &mut changed, &mut pools);
            // Of two strangers, the one comes after the other.
            let second = explain(&changed, &from, &to);
            if let (None, Some(change)) = (second.relation, second.change) {
                follow(&change, &mut changed, &mut pools);
            }
            prop_assert!(explain(&changed, &from, &to).relation.is_some(), "{:?}", changed);
        } else if change.starts_with("remove ") && !change.contains("architecture") {
            remove(&change, &mut changed);
            prop_assert_eq!(explain(&changed, &from, &to).relation, None);
        }
        prop_assert_eq!(check(&changed), vec![]);
    }
}
