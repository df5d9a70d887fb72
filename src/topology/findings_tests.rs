//! Each finding at its threshold, and that whoever follows the remedies ends with nothing found.

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::edges::tests::spec;
use super::super::{check, edges};
use super::*;
use crate::api::topology::{DelegationSpec, JournalSpec, MAX_FINDINGS};
use crate::topology::Hearing;

type Pools = BTreeMap<String, PoolFacts>;

fn pools(all: &[(&str, u32, &[&str])]) -> Pools {
    let facts = |agents: u32, capabilities: &[&str]| PoolFacts {
        capabilities: capabilities.iter().map(|capability| (*capability).to_owned()).collect(),
        agents,
        suspended: false,
        max_deliveries: 3,
        hearing: Hearing::default(),
    };
    all.iter().map(|(name, agents, capabilities)| ((*name).to_owned(), facts(*agents, capabilities))).collect()
}

fn found(spec: &TopologySpec, pools: &Pools) -> Vec<Finding> {
    findings(spec, &edges(spec), pools)
}

/// The findings as `Type member`.
fn said(spec: &TopologySpec, pools: &Pools) -> Vec<String> {
    found(spec, pools).into_iter().map(|finding| format!("{} {}", finding.type_, finding.member)).collect()
}

/// The only finding.
fn only(spec: &TopologySpec, pools: &Pools) -> Finding {
    let found = found(spec, pools);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

const TEAM: &[(&str, Option<&str>, &[&str])] =
    &[("planner", None, &[]), ("searcher", Some("planner"), &[]), ("writer", Some("planner"), &[])];

#[test]
fn a_team_that_is_well_made_has_no_finding() {
    let team = spec(Architecture::Hierarchical, TEAM);
    assert_eq!(said(&team, &pools(&[("planner", 2, &["plan"]), ("searcher", 3, &["search"]), ("writer", 2, &[])])), [""; 0]);
    // One pool alone is what a first try looks like.
    assert_eq!(said(&spec(Architecture::Flat, &[("hello", None, &[])]), &pools(&[("hello", 30, &[])])), [""; 0]);
}

#[test]
fn what_one_agent_alone_does_is_a_single_point_of_failure() {
    let team = spec(Architecture::Hierarchical, TEAM);
    let finding = only(&team, &pools(&[("planner", 1, &[]), ("searcher", 3, &["search"]), ("writer", 1, &[])]));
    assert_eq!(finding.type_, "SinglePointOfFailure");
    assert_eq!(finding.members, ["planner"]);
    assert_eq!(finding.message, "planner has one agent, and all other members stand below it: while that agent is away, that work waits");
    assert_eq!(finding.remedy, "spec.replicas: 2 # AgentPool planner");

    let finding = only(&team, &pools(&[("planner", 2, &[]), ("searcher", 1, &["search", "crawl"]), ("writer", 1, &[])]));
    assert_eq!(
        finding.message,
        "searcher has one agent, and no other pool serves crawl, search: while that agent is away, that work waits"
    );
    // Two pools that serve it are no single point, and none that is asked for is none.
    assert_eq!(said(&team, &pools(&[("planner", 2, &[]), ("searcher", 1, &["x"]), ("writer", 1, &["x"])])), [""; 0]);
    assert_eq!(said(&team, &pools(&[("planner", 0, &["x"]), ("searcher", 1, &[]), ("writer", 1, &[])])), [""; 0]);
    // A pool that does not exist serves nothing.
    assert_eq!(said(&team, &pools(&[("searcher", 1, &["x"])])), ["SinglePointOfFailure searcher"]);
    // Of two heads, neither has the whole team below it.
    let two = spec(Architecture::Hierarchical, &[("a", None, &["b"]), ("b", None, &[]), ("c", Some("a"), &[])]);
    assert_eq!(said(&two, &pools(&[("a", 1, &[]), ("b", 1, &[]), ("c", 1, &[])])), [""; 0]);
}

#[test]
fn a_star_may_have_ten_agents_for_each_in_its_middle() {
    let team = spec(Architecture::Hierarchical, TEAM);
    let of = |planners, searchers| pools(&[("planner", planners, &[]), ("searcher", searchers, &[]), ("writer", 2, &[])]);
    assert_eq!(said(&team, &of(2, 18)), [""; 0]);
    let finding = only(&team, &of(2, 19));
    assert_eq!((finding.type_.as_str(), finding.member.as_str()), ("StarTooLarge", "planner"));
    assert_eq!(finding.members, ["planner", "searcher", "writer"]);
    assert_eq!(
        finding.message,
        "planner has 2 agents, and 21 below it, of searcher (19), writer (2): more than 10 for each, so the team waits for planner"
    );
    assert_eq!(finding.remedy, "spec.replicas: 3 # AgentPool planner");
    assert_eq!(said(&team, &of(1, 9)), ["StarTooLarge planner", "SinglePointOfFailure planner"]);
    // Only those directly below count.
    let deep = spec(Architecture::Hierarchical, &[("a", None, &[]), ("b", Some("a"), &[]), ("c", Some("b"), &[])]);
    assert_eq!(said(&deep, &pools(&[("a", 2, &[]), ("b", 2, &[]), ("c", 20, &[])])), [""; 0]);
    // A manager that does not exist is missed, which is another matter; one without agents may have a few below it.
    assert_eq!(said(&team, &pools(&[("searcher", 11, &[])])), [""; 0]);
    assert_eq!(said(&team, &of(0, 5)), [""; 0]);
    assert!(only(&team, &of(0, 9)).message.starts_with("planner has 0 agents, and 11 below it"));
}

#[test]
fn a_mesh_may_have_twenty_agents() {
    let flat = spec(Architecture::Flat, &[("a", None, &[]), ("b", None, &[]), ("ghost", None, &[])]);
    assert_eq!(said(&flat, &pools(&[("a", 10, &[]), ("b", 10, &[])])), [""; 0]);
    let finding = only(&flat, &pools(&[("a", 10, &[]), ("b", 11, &[])]));
    assert_eq!((finding.type_.as_str(), finding.member.as_str()), ("MeshTooLarge", "a"));
    assert_eq!(finding.members, ["a", "b"]);
    assert_eq!(
        finding.message,
        "all 21 agents of a (10), b (11) may send to each other, which are more than 20: nobody can follow who asked whom for what"
    );
    assert_eq!(finding.remedy, "spec.architecture: Hierarchical");
    // The agents of one pool do not send to each other.
    assert_eq!(said(&flat, &pools(&[("a", 40, &[])])), [""; 0]);
    // In a hybrid the reports of one manager are a mesh; others are not in it.
    let hybrid = |team: &[(&str, Option<&str>, &[&str])]| spec(Architecture::Hybrid, team);
    let agents = pools(&[("planner", 3, &[]), ("searcher", 11, &[]), ("writer", 11, &[])]);
    assert_eq!(said(&hybrid(TEAM), &agents), ["MeshTooLarge searcher"]);
    let below = [("planner", None, &[] as &[&str]), ("searcher", Some("planner"), &[]), ("writer", Some("searcher"), &[])];
    assert_eq!(said(&hybrid(&below), &agents), [""; 0]);
}

#[test]
fn nobody_may_be_the_peer_of_everybody() {
    let names: Vec<String> = (0..9).map(|i| format!("p{i}")).collect();
    let team = |hub: &[&str]| {
        let member = |i: usize| match i {
            0 => ("lead", None, &[] as &[&str]),
            1 => (names[1].as_str(), Some("lead"), hub),
            2 => (names[2].as_str(), Some("lead"), &["p3", "p4", "p5"] as &[&str]),
            _ => (names[i].as_str(), Some("lead"), &[] as &[&str]),
        };
        spec(Architecture::Hierarchical, &(0..9).map(member).collect::<Vec<_>>())
    };
    let two = pools(&[("lead", 2, &[])]);
    // Five peers are few, also when nobody else has any.
    assert_eq!(said(&team(&["p2", "p3", "p4", "p5", "p6"]), &two), [""; 0]);
    let finding = only(&team(&["p2", "p3", "p4", "p5", "p6", "p7"]), &two);
    assert_eq!((finding.type_.as_str(), finding.member.as_str()), ("TooManyEdges", "p1"));
    assert_eq!(finding.members, ["p1", "p2", "p3", "p4", "p5", "p6", "p7"]);
    assert_eq!(
        finding.message,
        "p1 has a part in 6 of the team's 9 pairs of peers, which is more than half: it learns of everything, and is in everybody's way"
    );
    assert_eq!(finding.remedy, "spec.members[1].peers: [p2, p3, p4, p5, p6]");
    // Who is named by the others cannot leave them alone by itself.
    let mut named = spec(Architecture::Hierarchical, &[("lead", None, &[])]);
    for name in &names[1..] {
        let peers = if name == "p1" { vec![] } else { vec!["p1".to_owned()] };
        named.members.push(Member { pool: name.clone(), manager: Some("lead".to_owned()), peers });
    }
    assert_eq!(only(&named, &two).remedy, "spec.members[2].peers: []");
    // A manager's edges to its reports are no edges too many, nor is a mesh anybody's share.
    let flat: Vec<_> = names.iter().map(|name| (name.as_str(), None, &[] as &[&str])).collect();
    assert_eq!(said(&spec(Architecture::Flat, &flat), &two), [""; 0]);
}

#[test]
fn a_member_without_edges_is_isolated() {
    let team = spec(Architecture::Hierarchical, &[("archive", None, &[]), ("boss", None, &[]), ("worker", Some("boss"), &[])]);
    let finding = only(&team, &Pools::new());
    assert_eq!((finding.type_.as_str(), finding.member.as_str()), ("IsolatedMember", "archive"));
    assert_eq!(finding.message, "no member may send to archive, and archive may send to no member: it only gets what comes from outside");
    assert_eq!(finding.remedy, "spec.members[0].manager: boss");
    let nobody = spec(Architecture::Hierarchical, &[("a", None, &[]), ("b", None, &[])]);
    let remedies: Vec<_> = found(&nobody, &Pools::new()).into_iter().map(|finding| finding.remedy).collect();
    assert_eq!(remedies, ["spec.members[0].manager: b", "spec.members[1].manager: a"]);
}

#[test]
fn a_sentence_lists_no_more_names_than_anybody_reads() {
    let names: Vec<String> = (0..12).map(|i| format!("n{i}")).collect();
    assert_eq!(listed(&names[..2]), "n0, n1");
    assert_eq!(listed(&names[..10]), "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9");
    assert_eq!(listed(&names), "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 2 more");
}

/// Does to the YAML what a remedy says.
pub(in super::super) fn follow(remedy: &str, spec: &mut TopologySpec, pools: &mut Pools) {
    let (line, pool) = remedy.split_once(" # AgentPool ").map_or((remedy, None), |(line, pool)| (line, Some(pool)));
    let (path, value) = line.split_once(": ").unwrap();
    let value: Value = serde_yaml_ng::from_str(value).unwrap();
    if let Some(pool) = pool {
        assert_eq!(path, "spec.replicas");
        pools.get_mut(pool).unwrap().agents = u32::try_from(value.as_u64().unwrap()).unwrap();
        return;
    }
    let mut document = json!({"spec": spec});
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Array(list) if list.len() == field.parse::<usize>().unwrap() => list.push(value),
        parent => parent[field] = value,
    }
    *spec = serde_json::from_value(document["spec"].take()).unwrap();
}

pub(in super::super) fn team() -> impl Strategy<Value = (TopologySpec, Pools)> {
    let architecture = prop_oneof![Just(Architecture::Flat), Just(Architecture::Hybrid), Just(Architecture::Hierarchical)];
    let member = (prop::option::weighted(0.7, any::<prop::sample::Index>()), prop::collection::vec(0..12usize, 0..9));
    let pool = prop::option::weighted(0.9, (0..15u32, prop::collection::btree_set(0..6u8, 0..3)));
    (architecture, prop::collection::vec((member, pool), 1..12)).prop_map(|(architecture, all)| {
        let name = |i: usize| format!("p{i}");
        let flat = architecture == Architecture::Flat;
        let members = all.iter().enumerate().map(|(i, ((manager, peers), _))| Member {
            pool: name(i),
            // Only those before it, so that there is no cycle.
            manager: manager.filter(|_| !flat && i > 0).map(|index| name(index.index(i))),
            peers: peers.iter().filter(|peer| !flat && **peer != i && **peer < all.len()).map(|peer| name(*peer)).collect(),
        });
        let spec = TopologySpec {
            architecture,
            members: members.collect(),
            delegation: DelegationSpec::default(),
            journal: JournalSpec::default(),
        };
        let facts = all.iter().enumerate().filter_map(|(i, (_, pool))| {
            let (agents, capabilities) = pool.as_ref()?;
            let mut facts = pools(&[("p", *agents, &[])]).remove("p")?;
            facts.capabilities = capabilities.iter().map(|c| format!("c{c}")).collect();
            Some((name(i), facts))
        });
        let facts = facts.collect();
        (spec, facts)
    })
}

proptest! {
    /// A regression here has the API server refuse a status, again and again: two items of one key, or one
    /// that is too long.
    #[test]
    fn findings_fit_into_a_status((spec, pools) in team()) {
        let found = found(&spec, &pools);
        let keys: BTreeSet<_> = found.iter().map(|finding| (&finding.type_, &finding.member)).collect();
        prop_assert_eq!(keys.len(), found.len());
        prop_assert!(found.len() <= MAX_FINDINGS);
        for finding in &found {
            prop_assert!(finding.members.contains(&finding.member));
            prop_assert!(finding.members.iter().all(|name| spec.members.iter().any(|member| member.pool == *name)));
        }
    }

    /// A regression here gives advice that does not help, or that makes a topology that is refused.
    #[test]
    fn whoever_follows_the_remedies_ends_with_nothing_found((mut spec, mut pools) in team()) {
        for step in 0.. {
            prop_assert_eq!(check(&spec), vec![]);
            let found = found(&spec, &pools);
            let Some(first) = found.first() else { break };
            prop_assert!(step < 200, "still {:?}", found);
            follow(&first.remedy, &mut spec, &mut pools);
        }
    }

    /// A remedy that is not the first of several does what it promises.
    #[test]
    fn more_agents_mend_a_star_and_a_single_point((spec, pools) in team()) {
        for finding in found(&spec, &pools).iter().filter(|finding| finding.remedy.contains('#')) {
            let (mut spec, mut pools) = (spec.clone(), pools.clone());
            follow(&finding.remedy, &mut spec, &mut pools);
            let still = said(&spec, &pools).contains(&format!("{} {}", finding.type_, finding.member));
            prop_assert!(!still, "{:?}", finding);
        }
    }
}

/// The largest team that there can be, of which everything is found.
#[test]
fn what_is_found_of_the_largest_team_has_its_bounds() {
    let name = |i: usize| format!("{i:0>50}");
    let all: Vec<String> = (0..100).map(name).collect();
    let agents = all.iter().map(|pool| (pool.as_str(), 100, &[] as &[&str])).collect::<Vec<_>>();
    let flat: Vec<_> = all.iter().map(|pool| (pool.as_str(), None, &[] as &[&str])).collect();
    let star: Vec<_> = all.iter().map(|pool| (pool.as_str(), (*pool != all[0]).then_some(all[0].as_str()), &[] as &[&str])).collect();
    let mut hoarder = spec(Architecture::Hierarchical, &star);
    hoarder.members[1].peers = all[2..].to_vec();
    let mut longest = 0;
    for spec in [spec(Architecture::Flat, &flat), spec(Architecture::Hierarchical, &star), hoarder] {
        for finding in found(&spec, &pools(&agents)) {
            assert!(finding.members.len() <= 100 && finding.message.len() <= 4096 && finding.remedy.len() <= 8192, "{finding:?}");
            longest = longest.max(finding.members.len());
        }
    }
    assert_eq!(longest, 100);
}
