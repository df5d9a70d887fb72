//! `graph`: who may send to whom in a topology, as text, as JSON, or for Graphviz.
//!
//! | file | what it does |
//! | --- | --- |
//! | `draw` | the graph of a team (pure) |
//! | `text` | a graph for people (pure) |
//! | `dot` | a graph in the language of Graphviz (pure) |

mod dot;
mod draw;
mod text;

use super::{Answer, Exit, json, team};
use crate::cli::{GraphArgs, GraphOutput};
use draw::draw;

pub(super) async fn run(args: GraphArgs) -> Answer {
    let team = match team::find(args.topology.as_deref(), &args.team).await {
        Ok(team) => team,
        Err(notes) => return Answer { out: Vec::new(), notes, exit: Exit::Failed },
    };
    let graph = draw(&team);
    let out = match args.output {
        GraphOutput::Text => text::text(&graph).into_bytes(),
        GraphOutput::Dot => dot::dot(&graph).into_bytes(),
        GraphOutput::Json => json(&graph),
    };
    Answer::printed(out, Exit::Well)
}
