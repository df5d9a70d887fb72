//! A report as text for people. Pure.

use std::collections::BTreeMap;

use super::super::table::table;
use super::report::{PoolReport, Report};
use crate::topology::{Edge, Relation};

const HEADING: [&str; 6] = ["POOL", "READY", "DESIRED", "BUSY", "QUEUE", "STATUS"];

/// The text, with an empty line between topologies.
pub(super) fn text(report: &Report) -> String {
    let mut parts = Vec::new();
    for topology in &report.topologies {
        let mut part = format!("topology {}/{} ({}): {}\n", report.namespace, topology.name, topology.architecture, topology.status);
        for why in &topology.why {
            part.push_str(&format!("  why: {why}\n"));
        }
        part.push_str(&pools(&topology.pools));
        part.push_str(&edges(&topology.edges));
        for finding in &topology.findings {
            part.push_str(&format!("  finding: {}: {finding}\n", finding.type_));
        }
        parts.push(part);
    }
    if !report.other_pools.is_empty() {
        parts.push(format!("pools of {} in no topology\n{}", report.namespace, pools(&report.other_pools)));
    }
    parts.join("\n")
}

fn pools(pools: &[PoolReport]) -> String {
    let rows: Vec<Vec<String>> = pools.iter().map(row).collect();
    let mut text = table(&HEADING, &rows);
    for pool in pools {
        for why in &pool.why {
            text.push_str(&format!("  why: {}: {why}\n", pool.name));
        }
    }
    text
}

fn row(pool: &PoolReport) -> Vec<String> {
    let queue = pool.queue.map_or_else(|| "-".to_owned(), |q| q.pending.to_string());
    vec![
        pool.name.clone(),
        pool.ready_agents.to_string(),
        pool.desired_agents.to_string(),
        pool.busy_agents.to_string(),
        queue,
        pool.status.clone(),
    ]
}

/// One line a sender: a flat team of a hundred has ten thousand edges.
fn edges(edges: &[Edge]) -> String {
    let mut by_sender: BTreeMap<(&str, &'static str), Vec<&str>> = BTreeMap::new();
    for edge in edges {
        let relation = match edge.relation {
            Relation::Delegate => "delegates to",
            Relation::Escalate => "escalates to",
            Relation::Coordinate => "coordinates with",
        };
        by_sender.entry((&edge.from, relation)).or_default().push(&edge.to);
    }
    by_sender.iter().map(|((from, relation), to)| format!("  {from} {relation} {}\n", to.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::report;
    use super::super::report::tests::seen;
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_person_sees_what_is_wrong_at_a_glance() {
        assert_eq!(
            text(&report("demo", &seen(), true)),
            "\
topology demo/research (Hierarchical): PoolMissing
  why: pool \"writer\" does not exist
POOL      READY  DESIRED  BUSY  QUEUE  STATUS
planner   1      1        0     0      Ready
searcher  2      3        2     1207   ImagePull
writer    0      0        0     -      Missing
  why: searcher: searcher-2: the image \"x:1\" cannot be pulled
  why: searcher: 2 of 3 agents are ready
  why: writer: there is no AgentPool \"writer\" in this namespace: create it, or remove the member
  planner delegates to searcher, writer
  searcher coordinates with writer
  searcher escalates to planner
  writer coordinates with searcher
  writer escalates to planner
  finding: SinglePointOfFailure: planner has one agent; to mend it: spec.replicas: 2 # AgentPool planner

pools of demo in no topology
POOL   READY  DESIRED  BUSY  QUEUE  STATUS
spare  0      1        0     -      NoTopology
  why: spare: no topology names this pool
"
        );
    }
}
