//! `explain`: why one pool of a topology may send to another, or why not, and what to change.

use serde::Serialize;

use super::team::{self, Team};
use super::{Answer, Exit, json};
use crate::api::agent_pool::OperatingMode;
use crate::cli::{ExplainArgs, Output};
use crate::topology::{Relation, explain};

/// What `-o json` prints.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    from: String,
    to: String,
    /// Whether the one can send to the other.
    allowed: bool,
    /// Why the topology allows it, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    relation: Option<Relation>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
    /// The pools on the way there, when there is one and no edge.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    way: Vec<String>,
}

pub(super) async fn run(args: ExplainArgs) -> Answer {
    let team = match team::find(Some(&args.topology), &args.team).await {
        Ok(team) => team,
        // Not 1, which says that there is no edge.
        Err(notes) => return Answer { out: Vec::new(), notes, exit: Exit::Usage },
    };
    let said = say(&team, &args.from, &args.to);
    let out = match args.output {
        Output::Json => json(&said),
        Output::Table => text(&said).into_bytes(),
    };
    Answer::printed(out, if said.allowed { Exit::Well } else { Exit::Failed })
}

fn say(team: &Team, from: &str, to: &str) -> Said {
    let found = explain(&team.topology.spec, from, to);
    let mut said = Said {
        from: from.to_owned(),
        to: to.to_owned(),
        allowed: found.relation.is_some(),
        relation: found.relation,
        message: found.message,
        change: found.change,
        way: found.way,
    };
    if !said.allowed {
        return said;
    }
    // What is drafted in files may have its pools elsewhere.
    let trouble = |pool: &str| Some((pool.to_owned(), team.trouble(pool).filter(|_| !team.drafted)?));
    if let Some((pool, trouble)) = trouble(from).or_else(|| trouble(to)) {
        said.allowed = false;
        said.message = format!("{}; but pool {pool} {trouble}, so nothing can be sent", said.message);
        said.change = None;
    } else if team.pool(to).is_some_and(|pool| pool.spec.operating_mode == OperatingMode::Suspended) {
        said.message = format!("{}; but {to} is suspended, and takes nothing until its spec.operatingMode is Running", said.message);
    }
    said
}

fn text(said: &Said) -> String {
    let purpose = if said.allowed { "forbid" } else { "allow" };
    let change = said.change.as_ref().map(|change| format!("to {purpose} it: {change}\n"));
    format!("{}\n{}", said.message, change.unwrap_or_default())
}
