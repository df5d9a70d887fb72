//! What the status says of each state of affairs.

use pretty_assertions::assert_eq;
use serde_json::json;

use super::super::testing::{at, condition as told, members, pool, ready_members, topology};
use super::*;

fn facts<'a>(topology: &'a Topology, members: &'a Members, bus: Bus) -> Facts<'a> {
    static NOTHING: BTreeMap<String, Progress> = BTreeMap::new();
    Facts { topology, members, edges: Ok(2), findings: &[], bus, left: &NOTHING, full: None }
}

fn in_force() -> Bus {
    Bus::InForce { revision: "r1".into() }
}

/// The conditions as `Type=Status Reason`.
fn said(facts: &Facts<'_>) -> Vec<String> {
    let status = report(facts, &TopologyStatus::default(), at(1));
    status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
}

fn message(facts: &Facts<'_>, type_: &str) -> String {
    let status = report(facts, &TopologyStatus::default(), at(1));
    condition::find(&status.conditions, type_).unwrap().message.clone()
}

#[test]
fn a_team_that_works_says_so() {
    let (topology, members) = (topology(&["a", "b"]), ready_members(&["a", "b"]));
    let facts = facts(&topology, &members, in_force());
    assert_eq!(
        said(&facts),
        [
            "Accepted=True Accepted",
            "ResolvedRefs=True Resolved",
            "Programmed=True Programmed",
            "Ready=True Ready",
            "Degraded=False AsDeclared"
        ]
    );
    let status = report(&facts, &TopologyStatus::default(), at(1));
    assert_eq!((status.pools, status.ready_pools, status.edges, status.applied_revision.as_deref()), (2, 2, 2, Some("r1")));
    assert_eq!(status.members[1], MemberStatus { pool: "b".into(), ready: 1, desired: 1 });
}

#[test]
fn a_pool_that_is_not_ready_is_named_with_its_own_words() {
    let broken = json!([told("Ready", "False", "0 of 1: image cannot be pulled"), told("Degraded", "True", "a-0: image cannot be pulled")]);
    let (topology, members) = (
        topology(&["a", "b", "c"]),
        members(&[("a", pool("a", 0, broken)), ("b", pool("b", 2, json!([]))), ("c", pool("c", 0, json!([])))]),
    );
    let facts = facts(&topology, &members, in_force());
    assert_eq!(said(&facts)[3..], ["Ready=False PoolsNotReady", "Degraded=True PoolDegraded"]);
    assert_eq!(message(&facts, READY), "a: 0 of 1: image cannot be pulled; c: has no ready agent yet");
    assert_eq!(message(&facts, DEGRADED), "pool a: a-0: image cannot be pulled");
}

#[test]
fn members_that_cannot_be_had_are_all_named_and_the_rest_is_programmed() {
    let (topology, members) = (
        topology(&["a", "b", "c"]),
        members(&[("a", pool("a", 1, json!([]))), ("b", Member::Missing), ("c", Member::Elsewhere("older".into()))]),
    );
    let facts = facts(&topology, &members, in_force());
    assert_eq!(
        said(&facts)[1..],
        ["ResolvedRefs=False PoolNotFound", "Programmed=True Programmed", "Ready=False PoolsNotReady", "Degraded=True PoolNotFound"]
    );
    assert_eq!(
        message(&facts, RESOLVED_REFS),
        "pool b does not exist: create it, or remove it from members; pool c belongs to topology older, which is older: remove it from the members of one of the two"
    );
}

#[test]
fn a_topology_that_is_wrong_says_all_of_it_and_forgets_nothing() {
    let (topology, members) = (topology(&["a"]), ready_members(&["a"]));
    let problems = [Problem { reason: "SelfReference", message: "one".into() }, Problem { reason: "UnknownMember", message: "two".into() }];
    let facts = Facts { edges: Err(&problems), ..facts(&topology, &members, Bus::NotAccepted) };
    assert_eq!(
        said(&facts),
        [
            "Accepted=False SelfReference",
            "ResolvedRefs=True Resolved",
            "Programmed=False NotAccepted",
            "Ready=False NotAccepted",
            "Degraded=False AsDeclared"
        ]
    );
    assert_eq!(message(&facts, ACCEPTED), "one; two; what was accepted before stays in force");
    let before = TopologyStatus { applied_revision: Some("r0".into()), ..TopologyStatus::default() };
    assert_eq!(report(&facts, &before, at(1)).applied_revision.as_deref(), Some("r0"));
}

#[test]
fn what_is_wrong_with_the_bus_is_said() {
    let (topology, members) = (topology(&["a"]), ready_members(&["a"]));
    let of = |bus| said(&facts(&topology, &members, bus))[2..].to_vec();
    assert_eq!(
        of(Bus::Away("x".into())),
        ["Programmed=Unknown BusUnavailable", "Ready=False BusUnavailable", "Degraded=True BusUnavailable"]
    );
    assert_eq!(
        of(Bus::Conflict(vec!["x".into()])),
        ["Programmed=False JournalConflict", "Ready=False NotProgrammed", "Degraded=True JournalConflict"]
    );
    assert_eq!(of(Bus::Refused("x".into())), ["Programmed=False Refused", "Ready=False NotProgrammed", "Degraded=True Refused"]);
    assert_eq!(of(Bus::Leaving("x".into())), ["Programmed=False Deleting", "Ready=False Deleting", "Degraded=False AsDeclared"]);
}

#[test]
fn a_journal_that_fills_up_and_a_queue_that_is_left_are_told() {
    let (topology, members) = (topology(&["a"]), ready_members(&["a"]));
    let left = BTreeMap::from([("b".to_owned(), Progress { ack_floor: 0, pending: 2, in_flight: 1 })]);
    let facts = Facts { left: &left, full: Some(93), ..facts(&topology, &members, in_force()) };
    assert_eq!(said(&facts)[3..], ["Ready=True Ready", "Degraded=True JournalFull"]);
    assert!(message(&facts, DEGRADED).starts_with("the journal is 93% full"));
    assert!(message(&facts, PROGRAMMED).ends_with("its queue still holds 3 tasks: make it a member again to have them done"));
}

/// A regression here floods `kubectl describe`, or keeps quiet about what matters.
#[test]
fn only_what_has_turned_is_told() {
    let (topology, members) = (topology(&["a"]), ready_members(&["a"]));
    let none = TopologyStatus::default();
    let well = report(&facts(&topology, &members, in_force()), &none, at(1));
    let away = report(&facts(&topology, &members, Bus::Away("gone".into())), &well, at(2));
    let reasons = |before: &TopologyStatus, after: &TopologyStatus| -> Vec<_> {
        transitions(before, after).into_iter().map(|news| (news.warning, news.reason)).collect()
    };
    assert_eq!(reasons(&none, &well), []);
    assert_eq!(reasons(&well, &well), []);
    assert_eq!(reasons(&well, &away), [(true, "BusUnavailable".to_owned())]);
    assert_eq!(reasons(&away, &well), [(false, "Programmed".to_owned()), (false, "Ready".to_owned())]);
}

/// A regression here tells of every finding again at each look, or keeps quiet about a new one.
#[test]
fn findings_are_told_when_they_are_made_and_when_they_are_gone() {
    let (topology, members) = (topology(&["a"]), ready_members(&["a"]));
    let finding = |type_: &str, member: &str| Finding {
        type_: type_.into(),
        member: member.into(),
        members: vec![member.into()],
        message: format!("{member} is weak"),
        remedy: format!("spec.replicas: 2 # AgentPool {member}"),
    };
    let of =
        |findings: &[Finding]| report(&Facts { findings, ..facts(&topology, &members, in_force()) }, &TopologyStatus::default(), at(1));
    let well = of(&[]);
    let weak = of(&[finding("A", "a"), finding("A", "b"), finding("B", "a")]);
    let told = |before: &TopologyStatus, after: &TopologyStatus| -> Vec<_> {
        transitions(before, after).into_iter().map(|news| (news.warning, news.reason, news.note)).collect()
    };
    let both = "a is weak; to mend it: spec.replicas: 2 # AgentPool a; b is weak; to mend it: spec.replicas: 2 # AgentPool b";
    assert_eq!(
        told(&well, &weak),
        [(true, "A".into(), both.into()), (true, "B".into(), "a is weak; to mend it: spec.replicas: 2 # AgentPool a".into())]
    );
    let mut said_otherwise = finding("A", "a");
    said_otherwise.message = "a is weaker".into();
    assert_eq!(told(&weak, &of(&[said_otherwise, finding("B", "a")])), [(false, "FindingGone".into(), "no longer A: b".into())]);
    // More than a status holds is left out, from the end.
    let many: Vec<_> = (0..MAX_FINDINGS + 1).map(|i| finding("A", &i.to_string())).collect();
    assert_eq!(of(&many).findings, many[..MAX_FINDINGS]);
}
