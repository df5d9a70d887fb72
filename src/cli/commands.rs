//! The flags of the commands for people and scripts, and what their exit codes mean.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(super) const STATUS_CODES: &str = "\
Exit codes:
  0  everything is ready
  1  the state could not be read
  2  the command line is wrong
  3  something is not ready or is degraded";

pub(super) const SUBMIT_CODES: &str = "\
Without --wait the id of the task is printed once it is safely stored; with --wait its result.

Exit codes:
  0  the result is printed, or without --wait the task is stored
  1  the task was not taken, or nothing could be learnt of it
  2  the command line is wrong
  4  the task failed, expired, was cancelled or is dead
  5  the task is still pending; its id is printed";

pub(super) const LINT_CODES: &str = "\
Exit codes:
  0  nothing is wrong or weak
  1  there is an error or a warning
  2  the command line is wrong, a file cannot be read, or nothing in them is ours";

pub(super) const GRAPH_CODES: &str = "\
`kubectl skein graph my-team -o dot | dot -Tsvg` draws it.

Exit codes:
  0  the graph is printed
  1  the topology could not be read, or makes no sense
  2  the command line is wrong";

pub(super) const EXPLAIN_CODES: &str = "\
Exit codes:
  0  the one may send to the other
  1  it may not
  2  the command line is wrong, or the topology could not be read";

/// Which cluster and namespace a command speaks of, as in kubectl.
#[derive(Clone, Debug, Default, Args)]
pub struct ClusterArgs {
    /// The namespace; that of the context by default
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// The context of the kubeconfig
    #[arg(long)]
    pub context: Option<String>,
    /// The path of the kubeconfig
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// How a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// One JSON document for programs.
    Json,
}

/// Flags of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The topology; all of the namespace when left out
    pub topology: Option<String>,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to print
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}

/// Flags of `submit`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["to", "capability"]))]
pub struct SubmitArgs {
    /// The topology
    pub topology: String,
    /// The pool that the task is for
    #[arg(long)]
    pub to: Option<String>,
    /// What the agent must be able to do, instead of a pool
    #[arg(long)]
    pub capability: Option<String>,
    /// The file with the input; `-` or none is standard input
    #[arg(short = 'f', long = "file")]
    pub file: Option<PathBuf>,
    /// The input itself
    #[arg(short = 'd', long = "data", conflicts_with = "file")]
    pub data: Option<String>,
    /// The media type of the input
    #[arg(long, default_value = "application/octet-stream")]
    pub content_type: String,
    /// Wait for the result, for this many seconds at most (60 when no number is given)
    #[arg(long, num_args = 0..=1, default_missing_value = "60", require_equals = true, value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub wait: Option<u32>,
    /// Give the task up when it has not been started after this many seconds
    #[arg(long)]
    pub deadline: Option<u32>,
    /// Which gateway
    #[command(flatten)]
    pub door: DoorArgs,
    /// How to print
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}

/// Which gateway is meant.
#[derive(Clone, Debug, Args)]
pub struct DoorArgs {
    /// The address of the gateway; found through the cluster by default
    #[arg(long, env = "SKEIN_GATEWAY_URL")]
    pub gateway: Option<String>,
    /// The namespace of the gateway, when not every namespace may be searched for it
    #[arg(long, env = "SKEIN_GATEWAY_NAMESPACE", conflicts_with = "gateway")]
    pub gateway_namespace: Option<String>,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Flags of `cancel`.
#[derive(Clone, Debug, Args)]
pub struct CancelArgs {
    /// The topology
    pub topology: String,
    /// The id of the task, as `submit` printed it
    pub id: String,
    /// Which gateway
    #[command(flatten)]
    pub door: DoorArgs,
}

/// Flags of `lint`.
#[derive(Clone, Debug, Args)]
pub struct LintArgs {
    /// A file with AgentPools and Topologies, or a folder of such files; `-` is standard input. May be given again
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The namespace of what names none
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// How to print
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}

/// Where a topology and its pools are read.
#[derive(Clone, Debug, Args)]
pub struct TeamArgs {
    /// A file, or a folder of files, to look into instead of a cluster; `-` is standard input. May be given again
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with_all = ["context", "kubeconfig"])]
    pub files: Vec<PathBuf>,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// How `graph` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphOutput {
    /// For people
    Text,
    /// For Graphviz
    Dot,
    /// One JSON document for programs
    Json,
}

/// Flags of `graph`.
#[derive(Clone, Debug, Args)]
pub struct GraphArgs {
    /// The topology; with --file it may be left out when there is only one
    #[arg(required_unless_present = "files")]
    pub topology: Option<String>,
    /// Where to look
    #[command(flatten)]
    pub team: TeamArgs,
    /// How to print
    #[arg(short, long, default_value = "text")]
    pub output: GraphOutput,
}

/// Flags of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The topology
    pub topology: String,
    /// The pool that sends
    pub from: String,
    /// The pool that is sent to
    pub to: String,
    /// Where to look
    #[command(flatten)]
    pub team: TeamArgs,
    /// How to print
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}

/// Flags of `version`.
#[derive(Clone, Debug, Args)]
pub struct VersionArgs {
    /// Only the version of this program: ask no cluster
    #[arg(long)]
    pub client: bool,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to print
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}
