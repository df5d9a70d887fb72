//! A graph in the language of Graphviz. Pure.

use super::draw::Graph;
use crate::topology::Relation;

/// The text, for `dot -Tsvg`.
pub(super) fn dot(graph: &Graph) -> String {
    let mut text = format!("digraph {} {{\n  node [shape=box];\n", quoted(&graph.topology));
    for node in &graph.pools {
        let mut label = vec![node.name.clone(), node.staff()];
        label.extend(Some(node.capabilities.join(", ")).filter(|all| !all.is_empty()));
        let style = if node.trouble.is_some() || node.suspended { ", style=dashed" } else { "" };
        text.push_str(&format!("  {} [label={}{style}];\n", quoted(&node.name), quoted(&label.join("\n"))));
    }
    for edge in &graph.edges {
        let how = match edge.relation {
            Relation::Delegate => "label=\"delegates\"",
            // The tree is drawn by what goes down.
            Relation::Escalate => "label=\"reports\", style=dashed, constraint=false",
            Relation::Coordinate => continue,
        };
        text.push_str(&format!("  {} -> {} [{how}];\n", quoted(&edge.from), quoted(&edge.to)));
    }
    for (one, other) in graph.pairs() {
        let how = "label=\"coordinates\", dir=both, style=dotted, constraint=false";
        text.push_str(&format!("  {} -> {} [{how}];\n", quoted(one), quoted(other)));
    }
    text.push_str("}\n");
    text
}

/// A string as Graphviz writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::{graph, members};
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn graphviz_draws_the_tree_downwards() {
        assert_eq!(
            dot(&graph("Hierarchical", &members())),
            r#"digraph "research" {
  node [shape=box];
  "planner" [label="planner\n1 agent\nplan"];
  "reviewer" [label="reviewer\nbelongs to topology older", style=dashed];
  "searcher" [label="searcher\n3 agents\nsearch, crawl"];
  "crawler" [label="crawler\ndoes not exist", style=dashed];
  "writer" [label="writer\n2 agents, suspended", style=dashed];
  "planner" -> "reviewer" [label="delegates"];
  "planner" -> "searcher" [label="delegates"];
  "planner" -> "writer" [label="delegates"];
  "reviewer" -> "planner" [label="reports", style=dashed, constraint=false];
  "searcher" -> "planner" [label="reports", style=dashed, constraint=false];
  "searcher" -> "crawler" [label="delegates"];
  "crawler" -> "searcher" [label="reports", style=dashed, constraint=false];
  "writer" -> "planner" [label="reports", style=dashed, constraint=false];
  "reviewer" -> "writer" [label="coordinates", dir=both, style=dotted, constraint=false];
}
"#
        );
        assert_eq!(quoted("a\"b\\c"), r#""a\"b\\c""#);
    }
}
