//! A graph for people: the management tree, and below it who sends to whom and why. Pure.

use super::super::table::table;
use super::draw::{Graph, Node};
use crate::topology::Relation;

/// The text.
pub(super) fn text(graph: &Graph) -> String {
    let agents: i32 = graph.pools.iter().filter_map(|node| node.agents).sum();
    let mut text = format!(
        "topology {}/{} ({}): {} pools, {agents} agents, {} edges\n",
        graph.namespace,
        graph.topology,
        graph.architecture,
        graph.pools.len(),
        graph.edges.len()
    );
    let row = |place: usize| {
        let node = &graph.pools[place];
        vec![format!("{}{}", branch(&graph.pools, place), node.name), node.staff(), node.capabilities.join(", ")]
    };
    text.push_str(&table(&["POOL", "AGENTS", "CAPABILITIES"], &(0..graph.pools.len()).map(row).collect::<Vec<_>>()));
    for node in &graph.pools {
        let to = |relation: Relation| -> Vec<&str> {
            graph.edges.iter().filter(|edge| edge.from == node.name && edge.relation == relation).map(|edge| edge.to.as_str()).collect()
        };
        for (does, to) in [("delegates down to", to(Relation::Delegate)), ("reports up to", to(Relation::Escalate))] {
            if !to.is_empty() {
                text.push_str(&format!("  {} {does} {}\n", node.name, to.join(", ")));
            }
        }
    }
    if graph.architecture == "Flat" && graph.pools.len() > 2 {
        text.push_str("  every pool coordinates sideways with every other one\n");
        return text;
    }
    let pairs: Vec<_> = graph.pairs().collect();
    for node in &graph.pools {
        let with: Vec<_> = pairs.iter().filter(|(one, _)| *one == node.name).map(|(_, other)| *other).collect();
        if !with.is_empty() {
            text.push_str(&format!("  {} coordinates sideways with {}, and back\n", node.name, with.join(", ")));
        }
    }
    text
}

/// The lines of the tree that stand before a name.
fn branch(pools: &[Node], place: usize) -> String {
    let node = &pools[place];
    // Whether a sibling of what stands here, so many managers down, comes further below.
    let goes_on = |depth: usize| pools[place + 1..].iter().take_while(|later| later.depth >= depth).any(|later| later.depth == depth);
    let mut lines = String::new();
    for depth in 1..=node.depth {
        lines.push_str(match (depth == node.depth, goes_on(depth)) {
            (true, true) => "├─ ",
            (true, false) => "└─ ",
            (false, true) => "│  ",
            (false, false) => "   ",
        });
    }
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::team::{Member, Team};
    use super::super::draw::draw;
    use super::*;
    use crate::api::{AgentPool, Topology};
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    fn pool(name: &str, replicas: i32, capabilities: &[&str], mode: &str) -> (String, Member) {
        let pool: AgentPool = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "capabilities": capabilities, "operatingMode": mode, "template": {}},
        }))
        .unwrap();
        (name.to_owned(), Member::Here(Box::new(pool)))
    }

    /// A team of some depth, of which not everything is there.
    pub(in super::super) fn graph(architecture: &str, members: &Value) -> Graph {
        let topology: Topology = serde_json::from_value(json!({
            "metadata": {"name": "research", "namespace": "demo"}, "spec": {"architecture": architecture, "members": members},
        }))
        .unwrap();
        let members = [
            pool("planner", 1, &["plan"], "Running"),
            pool("searcher", 3, &["search", "crawl"], "Running"),
            pool("writer", 2, &[], "Suspended"),
            ("crawler".to_owned(), Member::Missing),
            ("reviewer".to_owned(), Member::Elsewhere("older".to_owned())),
        ];
        draw(&Team { topology, members: members.into(), drafted: false })
    }

    pub(in super::super) fn members() -> Value {
        json!([
            {"pool": "reviewer", "manager": "planner", "peers": ["writer"]},
            {"pool": "crawler", "manager": "searcher"},
            {"pool": "searcher", "manager": "planner"},
            {"pool": "planner"},
            {"pool": "writer", "manager": "planner"},
        ])
    }

    #[test]
    fn a_person_sees_the_tree_and_why_there_is_an_edge() {
        assert_eq!(
            text(&graph("Hierarchical", &members())),
            "\
topology demo/research (Hierarchical): 5 pools, 6 agents, 10 edges
POOL           AGENTS                     CAPABILITIES
planner        1 agent                    plan
├─ reviewer    belongs to topology older
├─ searcher    3 agents                   search, crawl
│  └─ crawler  does not exist
└─ writer      2 agents, suspended
  planner delegates down to reviewer, searcher, writer
  reviewer reports up to planner
  searcher delegates down to crawler
  searcher reports up to planner
  crawler reports up to searcher
  writer reports up to planner
  reviewer coordinates sideways with writer, and back
"
        );
    }

    #[test]
    fn a_flat_team_is_no_page_of_pairs() {
        let flat = text(&graph("Flat", &json!([{"pool": "planner"}, {"pool": "searcher"}, {"pool": "writer"}])));
        assert!(flat.ends_with("writer    2 agents, suspended\n  every pool coordinates sideways with every other one\n"), "{flat}");
        let two = text(&graph("Flat", &json!([{"pool": "planner"}, {"pool": "searcher"}])));
        assert!(two.ends_with("\n  planner coordinates sideways with searcher, and back\n"), "{two}");
    }
}
