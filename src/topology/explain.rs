//! Why one pool may send to another, or why not, and what to change in the YAML. Pure.

use std::collections::{BTreeMap, VecDeque};

use super::edges::{Edge, Relation, edges};
use crate::api::topology::{Architecture, TopologySpec};

/// What there is to say of a pair of pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Why there is an edge; `None` when there is none.
    pub relation: Option<Relation>,
    /// One sentence: whether the one may send to the other, and by which words of the YAML.
    pub message: String,
    /// What to change in the YAML to have it the other way round; `None` when nothing can.
    pub change: Option<String>,
    /// The pools on the shortest way there, both ends included, when there is a way and no edge.
    pub way: Vec<String>,
}

/// Explains why there is an edge from one pool to another in a topology that [`check`](super::check())
/// found no problem in, or why there is none.
#[must_use]
pub fn explain(spec: &TopologySpec, from: &str, to: &str) -> Explanation {
    let edges = edges(spec);
    match edges.iter().find(|edge| edge.from == from && edge.to == to) {
        Some(edge) => present(spec, edge),
        None => absent(spec, &edges, from, to),
    }
}

fn place(spec: &TopologySpec, pool: &str) -> Option<usize> {
    spec.members.iter().position(|member| member.pool == pool)
}

fn present(spec: &TopologySpec, Edge { from, to, relation }: &Edge) -> Explanation {
    let manager = |of: &str| spec.members.iter().find(|member| member.pool == of).and_then(|member| member.manager.as_deref());
    let (mut because, mut removed) = (Vec::new(), Vec::new());
    // Who reports to whom, when the edge is one of the tree.
    let tree = match relation {
        Relation::Delegate => Some((to, from)),
        Relation::Escalate => Some((from, to)),
        Relation::Coordinate => None,
    };
    if let Some((report, head)) = tree
        && let Some(place) = place(spec, report)
    {
        because.push(format!("spec.members[{place}].manager is {head}"));
        removed.push(format!("spec.members[{place}].manager"));
    }
    for (one, other) in [(from, to), (to, from)] {
        if let Some(place) = spec.members.iter().position(|member| member.pool == *one && member.peers.contains(other)) {
            because.push(format!("spec.members[{place}].peers has {other}"));
            removed.push(format!("{other} from spec.members[{place}].peers"));
        }
    }
    let mut change = format!("remove {}", removed.join(", and "));
    match (spec.architecture, tree) {
        (Architecture::Flat, _) => {
            because.push("in a Flat topology every member may send to every other one".to_owned());
            change = "choose Hierarchical or Hybrid as spec.architecture, and name managers and peers".to_owned();
        }
        // A report without a manager would be a peer of all others without one.
        (Architecture::Hybrid, Some((report, head))) if manager(head).is_none() => {
            change = format!("{change}, and give {report} another manager, or choose Hierarchical as spec.architecture");
        }
        (Architecture::Hybrid, None) if manager(from) == manager(to) => {
            because.push(match manager(from) {
                Some(manager) => format!("in a Hybrid topology the reports of one manager, here {manager}, are peers"),
                None => "in a Hybrid topology the members without a manager are peers".to_owned(),
            });
            let also = if removed.is_empty() { String::new() } else { format!("{change}, and ") };
            change = format!("{also}give one of the two another manager, or choose Hierarchical as spec.architecture");
        }
        (Architecture::Hybrid | Architecture::Hierarchical, _) => {}
    }
    let does = match relation {
        Relation::Delegate => "delegates down to it",
        Relation::Escalate => "reports up to it",
        Relation::Coordinate => "coordinates sideways with it",
    };
    Explanation {
        relation: Some(*relation),
        message: format!("{from} may send to {to}, and {does}: {}", because.join(", and ")),
        change: Some(change),
        way: Vec::new(),
    }
}

fn absent(spec: &TopologySpec, edges: &[Edge], from: &str, to: &str) -> Explanation {
    let no = |why: String, change: Option<String>, way: Vec<String>| Explanation {
        relation: None,
        message: format!("{from} may not send to {to}: {why}"),
        change,
        way,
    };
    if from == to {
        let why = "its agents are interchangeable, and a task that one of them gives away would come back to any of them";
        return no(why.to_owned(), None, Vec::new());
    }
    let new = spec.members.len();
    let (Some(at), Some(_)) = (place(spec, from), place(spec, to)) else {
        let (stranger, other) = if place(spec, from).is_none() { (from, to) } else { (to, from) };
        let joined = spec.architecture == Architecture::Flat || place(spec, other).is_none();
        let peers = if joined { String::new() } else { format!(", peers: [{other}]") };
        return no(format!("{stranger} is no member"), Some(format!("spec.members[{new}]: {{pool: {stranger}{peers}}}")), Vec::new());
    };
    let mut why = "neither is the manager of the other, and neither names the other as its peer".to_owned();
    if spec.architecture == Architecture::Hybrid {
        why.push_str(", and they do not report to the same manager");
    }
    let way = way(edges, from, to);
    if way.len() > 2 {
        why.push_str(&format!("; it reaches {to} by way of {}", way[1..way.len() - 1].join(" and ")));
    }
    let peers: Vec<&str> = spec.members[at].peers.iter().map(String::as_str).chain([to]).collect();
    no(why, Some(format!("spec.members[{at}].peers: [{}]", peers.join(", "))), way)
}

/// The shortest way along edges, both ends included; of several, the one whose names come first. Empty
/// when there is none.
fn way(edges: &[Edge], from: &str, to: &str) -> Vec<String> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        for edge in edges.iter().filter(|edge| edge.from == at) {
            if edge.to != from && !before.contains_key(edge.to.as_str()) {
                before.insert(&edge.to, at);
                next.push_back(&edge.to);
            }
        }
    }
    let mut way = Vec::new();
    let mut at = to;
    while let Some(earlier) = before.get(at) {
        way.push(at.to_owned());
        at = earlier;
    }
    if !way.is_empty() {
        way.push(from.to_owned());
        way.reverse();
    }
    way
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
