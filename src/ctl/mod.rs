//! `kubectl skein`: what a person or a script asks of a cluster.
//!
//! | file | what it does |
//! | --- | --- |
//! | `cluster` | finds the API server, and says in one sentence what went wrong with it |
//! | `explain` | `explain`: why there is an edge or not |
//! | `files` | reads resources out of files |
//! | `graph` | `graph`: who may send to whom |
//! | `lint` | `lint`: judges files without a cluster |
//! | `status` | `status`: reads the resources, judges them (pure), prints |
//! | `submit` | `submit`: finds the gateway, sends, waits, prints; and `cancel` |
//! | `team` | one topology with its pools, out of a cluster or out of files |
//! | `version` | `version`: this program's, and those of the roles in the cluster |
//! | `table` | columns for people |
//!
//! It reads the API server and talks to the gateway; it never writes a resource and knows no bus.
//! Answers go to standard output and everything else to standard error, so that scripts may pipe.

mod cluster;
mod explain;
mod files;
mod graph;
mod lint;
mod status;
mod submit;
mod table;
mod team;
mod version;

use std::io::Write as _;
use std::process::ExitCode;

use crate::api;
use crate::cli::{CancelArgs, ExplainArgs, GraphArgs, LintArgs, StatusArgs, SubmitArgs, VersionArgs};

/// How a command ends. The numbers are part of the command line and listed in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// All is well.
    Well = 0,
    /// The command could not do what it was asked. `lint`: a mistake or a weakness was found.
    /// `explain`: there is no edge.
    Failed = 1,
    /// The command line is wrong. `lint`: a file cannot be read. `explain`: nothing can be learnt.
    Usage = 2,
    /// `status`: something is not ready or is degraded.
    NotReady = 3,
    /// `submit`: the task ended, and not with a result.
    TaskFailed = 4,
    /// `submit`: the task has not ended yet.
    Pending = 5,
}

/// What a command prints and how it ends.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// For standard output, as it is.
    out: Vec<u8>,
    /// For standard error, one sentence a line.
    notes: Vec<String>,
    /// The exit code.
    exit: Exit,
}

impl Answer {
    fn printed(out: impl Into<Vec<u8>>, exit: Exit) -> Self {
        Self { out: out.into(), notes: Vec::new(), exit }
    }

    fn refused(exit: Exit, why: impl Into<String>) -> Self {
        Self { out: Vec::new(), notes: vec![why.into()], exit }
    }
}

/// `skein status`.
#[must_use]
pub fn status(args: StatusArgs) -> ExitCode {
    run(status::run(args))
}

/// `skein cancel`.
#[must_use]
pub fn cancel(args: CancelArgs) -> ExitCode {
    run(submit::cancel::run(args))
}

/// `skein submit`.
#[must_use]
pub fn submit(args: SubmitArgs) -> ExitCode {
    run(submit::run(args))
}

/// `skein version`.
#[must_use]
pub fn version(args: VersionArgs) -> ExitCode {
    run(version::run(args))
}

/// `skein lint`.
#[must_use]
pub fn lint(args: &LintArgs) -> ExitCode {
    print(lint::run(args))
}

/// `skein graph`.
#[must_use]
pub fn graph(args: GraphArgs) -> ExitCode {
    run(graph::run(args))
}

/// `skein explain`.
#[must_use]
pub fn explain(args: ExplainArgs) -> ExitCode {
    run(explain::run(args))
}

/// `skein crds`.
#[must_use]
pub fn crds() -> ExitCode {
    let mut text = String::new();
    for crd in api::crds() {
        match serde_yaml_ng::to_string(&crd) {
            Ok(document) => {
                text.push_str("---\n");
                text.push_str(&document);
            }
            Err(error) => return print(Answer::refused(Exit::Failed, format!("the definitions cannot be written: {error}"))),
        }
    }
    print(Answer::printed(text, Exit::Well))
}

fn run(command: impl Future<Output = Answer>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => print(runtime.block_on(command)),
        Err(error) => print(Answer::refused(Exit::Failed, format!("the program could not be started: {error}"))),
    }
}

/// Prints an answer. A reader that has gone away (`| head`) is no error of ours.
fn print(answer: Answer) -> ExitCode {
    let Answer { out, notes, exit } = answer;
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&out).and_then(|()| stdout.flush());
    for note in notes {
        eprintln!("skein: {note}");
    }
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("skein: the answer cannot be written to standard output: {error}");
            ExitCode::from(Exit::Failed as u8)
        }
        _ => ExitCode::from(exit as u8),
    }
}

/// A document for programs, with the line break that a terminal wants.
fn json(document: &impl serde::Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(document).unwrap_or_default();
    text.push(b'\n');
    text
}
