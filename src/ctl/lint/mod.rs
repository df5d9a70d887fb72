//! `lint`: what is wrong or weak in files, before anything of it runs. Asks no cluster.
//!
//! | file | what it does |
//! | --- | --- |
//! | `schema` | what the schema of a definition refuses (pure) |
//! | `judge` | from documents to remarks: schema, rules, checks, findings, and what several documents say together (pure) |

pub(super) mod judge;
mod schema;

use super::files::{self, Files};
use super::{Answer, Exit, json};
use crate::cli::{LintArgs, Output};
use judge::{Report, Severity, judge};

pub(super) fn run(args: &LintArgs) -> Answer {
    answer(files::read(&args.files), args.namespace.as_deref().unwrap_or("default"), args.output)
}

fn answer(files: Files, namespace: &str, output: Output) -> Answer {
    let Files { documents, unreadable } = files;
    let report = judge(&documents, namespace);
    let out = match output {
        Output::Json => json(&report),
        Output::Table => report.remarks.iter().map(|remark| format!("{remark}\n")).collect::<String>().into_bytes(),
    };
    let bad = report.remarks.iter().any(|remark| remark.severity != Severity::Info);
    // Whoever names the wrong folder must not hear that all is well.
    let nothing = report.pools + report.topologies + report.remarks.len() == 0;
    let exit = match bad {
        _ if nothing || !unreadable.is_empty() => Exit::Usage,
        true => Exit::Failed,
        false => Exit::Well,
    };
    let mut notes = unreadable;
    notes.push(if nothing { "there is no AgentPool and no Topology to judge".to_owned() } else { summary(&report) });
    Answer { out, notes, exit }
}

fn summary(report: &Report) -> String {
    let count = |severity| report.remarks.iter().filter(|remark| remark.severity == severity).count();
    let of = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let seen = format!("{} and {}", of(report.pools, "AgentPool", "AgentPools"), of(report.topologies, "Topology", "Topologies"));
    let said: Vec<_> = [(Severity::Error, "error", "errors"), (Severity::Warning, "warning", "warnings")]
        .into_iter()
        .filter(|(severity, ..)| count(*severity) > 0)
        .map(|(severity, one, many)| of(count(severity), one, many))
        .collect();
    format!("{seen}: {}", if said.is_empty() { "nothing is wrong or weak".to_owned() } else { said.join(", ") })
}
