//! The command line of the one binary. Raw arguments only; each role resolves its own.
//!
//! Every flag of a role can also be given in the environment, which is how the chart and the
//! controller set them.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

/// Runs teams of AI agents on Kubernetes and keeps them working.
#[derive(Debug, Parser)]
#[command(name = "skein", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// How logs are written: text for people, json for machines
    #[arg(long, env = "SKEIN_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// What is logged, as `level` or `module=level,…`; nothing by default, and `info` in the cluster. Of
    /// `async_nats`, the client of the bus, only warnings, unless it is named
    #[arg(long, env = "SKEIN_LOG", global = true)]
    pub log: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Reads the command line of this process, and ends it when the line makes no sense or asks for help.
///
/// kubectl runs its plugin `skein` as a program called `kubectl-skein`; help and errors then speak of
/// `kubectl skein`, which is what the user typed.
#[must_use]
pub fn parse() -> Cli {
    parse_from(std::env::args_os().collect()).unwrap_or_else(|error| error.exit())
}

fn parse_from(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let name = typed(arguments.first().map(Path::new));
    let mut command = Cli::command().bin_name(name);
    let matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

impl Cli {
    /// What is logged. A person who runs a command gets an answer, not a log.
    #[must_use]
    pub fn log_filter(&self) -> &str {
        let role = matches!(self.command, Command::Controller(_) | Command::Sidecar(_) | Command::Gateway(_));
        self.log.as_deref().unwrap_or(if role { "info" } else { "off" })
    }
}

/// What the user typed to run this program.
fn typed(program: Option<&Path>) -> &'static str {
    match program.and_then(Path::file_name).and_then(|name| name.to_str()) {
        Some(name) if name.starts_with("kubectl-") => "kubectl skein",
        _ => "skein",
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

/// What the binary can be.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the cluster and the bus match the resources (runs in the cluster)
    #[command(hide = true)]
    Controller(ControllerArgs),
    /// Serve one agent (runs in each agent's pod)
    #[command(hide = true)]
    Sidecar(SidecarArgs),
    /// Take tasks from outside (runs in the cluster)
    #[command(hide = true)]
    Gateway(GatewayArgs),
    /// Show what a topology and its pools are doing
    #[command(after_help = STATUS_CODES)]
    Status(StatusArgs),
    /// Send a task to a pool of a topology
    #[command(after_help = SUBMIT_CODES)]
    Submit(SubmitArgs),
    /// Find mistakes and weaknesses in files, without a cluster
    #[command(after_help = LINT_CODES)]
    Lint(LintArgs),
    /// Print the custom resource definitions
    Crds,
    /// Print the versions of this program and of the controller in the cluster
    Version(VersionArgs),
}

const STATUS_CODES: &str = "\
Exit codes:
  0  everything is ready
  1  the state could not be read
  2  the command line is wrong
  3  something is not ready or is degraded";

const SUBMIT_CODES: &str = "\
Without --wait the id of the task is printed once it is safely stored; with --wait its result.

Exit codes:
  0  the result is printed, or without --wait the task is stored
  1  the task was not taken, or nothing could be learnt of it
  2  the command line is wrong
  4  the task failed, expired, was cancelled or is dead
  5  the task is still pending; its id is printed";

const LINT_CODES: &str = "\
Exit codes:
  0  nothing is wrong or weak
  1  there is an error or a warning
  2  the command line is wrong, a file cannot be read, or nothing in them is ours";

/// Where the bus is.
#[derive(Clone, Debug, Args)]
pub struct BusArgs {
    /// The addresses of the NATS servers, separated by commas
    #[arg(long, env = "SKEIN_NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub nats_url: String,
}

/// Flags of the controller.
#[derive(Clone, Debug, Args)]
pub struct ControllerArgs {
    /// Where the bus is
    #[command(flatten)]
    pub bus: BusArgs,
    /// The address of the bus as agents see it, when it differs
    #[arg(long, env = "SKEIN_AGENT_NATS_URL")]
    pub agent_nats_url: Option<String>,
    /// The image of the sidecar: the controller's own
    #[arg(long, env = "SKEIN_SIDECAR_IMAGE")]
    pub sidecar_image: String,
    /// The pull policy of the sidecar's image
    #[arg(long, env = "SKEIN_SIDECAR_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub sidecar_image_pull_policy: String,
    /// The namespace of the lease by which replicas elect a leader
    #[arg(long, env = "SKEIN_LEASE_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    /// The name of the lease
    #[arg(long, env = "SKEIN_LEASE_NAME", default_value = "skein-controller")]
    pub lease_name: String,
    /// The name of this replica in the lease
    #[arg(long, env = "SKEIN_IDENTITY", default_value = "skein-controller")]
    pub identity: String,
    /// Where probes and metrics are served
    #[arg(long, env = "SKEIN_ADMIN_ADDRESS", default_value_t = any(8081))]
    pub admin_address: SocketAddr,
}

/// Flags of the sidecar. The controller sets them all when it builds a pod.
#[derive(Clone, Debug, Args)]
pub struct SidecarArgs {
    /// Where the bus is
    #[command(flatten)]
    pub bus: BusArgs,
    /// The namespace of the pod
    #[arg(long, env = "SKEIN_NAMESPACE")]
    pub namespace: String,
    /// The pool of the agent
    #[arg(long, env = "SKEIN_POOL")]
    pub pool: String,
    /// The agent: the name of the pod
    #[arg(long, env = "SKEIN_AGENT")]
    pub agent: String,
    /// The UID of the pod
    #[arg(long, env = "SKEIN_POD_UID")]
    pub pod_uid: String,
    /// Where the agent listens for tasks; without it the agent pulls
    #[arg(long, env = "SKEIN_AGENT_PORT")]
    pub agent_port: Option<u16>,
    /// The path that tasks are POSTed to
    #[arg(long, env = "SKEIN_AGENT_PATH", default_value = "/")]
    pub agent_path: String,
    /// The path of the agent's own health check
    #[arg(long, env = "SKEIN_AGENT_HEALTH_PATH", default_value = "/healthz")]
    pub agent_health_path: String,
    /// How many tasks the agent works on at a time
    #[arg(long, env = "SKEIN_CONCURRENCY", default_value_t = 1)]
    pub concurrency: u32,
    /// How long one attempt at a task may take, in seconds
    #[arg(long, env = "SKEIN_TIMEOUT_SECONDS", default_value_t = 60)]
    pub timeout_seconds: u32,
    /// The time between two heartbeats, in seconds
    #[arg(long, env = "SKEIN_HEARTBEAT_SECONDS", default_value_t = 5)]
    pub heartbeat_seconds: u32,
    /// How long tasks may go on once the pod is told to end, in seconds
    #[arg(long, env = "SKEIN_DRAIN_TIMEOUT_SECONDS", default_value_t = 600)]
    pub drain_timeout_seconds: u32,
    /// What the kubelet's requests to drain carry: the UID of the pool
    #[arg(long, env = "SKEIN_HOOK_KEY", hide_env_values = true)]
    pub hook_key: String,
    /// Where the agent finds the local API; loopback only
    #[arg(long, env = "SKEIN_API_ADDRESS", default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7800))]
    pub api_address: SocketAddr,
    /// Where probes and metrics are served, to the kubelet and Prometheus
    #[arg(long, env = "SKEIN_ADMIN_ADDRESS", default_value_t = any(7801))]
    pub admin_address: SocketAddr,
}

/// Flags of the gateway.
#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// Where the bus is
    #[command(flatten)]
    pub bus: BusArgs,
    /// The name of this replica on the bus: letters, digits, dashes
    #[arg(long, env = "SKEIN_IDENTITY", default_value = "gateway")]
    pub identity: String,
    /// How many requests may wait for a result at a time
    #[arg(long, env = "SKEIN_MAX_WAITING", default_value_t = 4096)]
    pub max_waiting: usize,
    /// How long requests may go on waiting once the process is told to end, in seconds
    #[arg(long, env = "SKEIN_DRAIN_SECONDS", default_value_t = 25)]
    pub drain_seconds: u32,
    /// How many MiB of tasks that are being received may be held at a time
    #[arg(long, env = "SKEIN_MAX_RECEIVING_MEBIBYTES", default_value_t = 256)]
    pub max_receiving_mebibytes: usize,
    /// Where tasks are taken
    #[arg(long, env = "SKEIN_GATEWAY_ADDRESS", default_value_t = any(8080))]
    pub address: SocketAddr,
    /// Where probes and metrics are served
    #[arg(long, env = "SKEIN_ADMIN_ADDRESS", default_value_t = any(8081))]
    pub admin_address: SocketAddr,
}

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
    /// The address of the gateway; found through the cluster by default
    #[arg(long, env = "SKEIN_GATEWAY_URL")]
    pub gateway: Option<String>,
    /// The namespace of the gateway, when not every namespace may be searched for it
    #[arg(long, env = "SKEIN_GATEWAY_NAMESPACE", conflicts_with = "gateway")]
    pub gateway_namespace: Option<String>,
    /// Which cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to print
    #[arg(short, long, default_value = "table")]
    pub output: Output,
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

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        parse_from(arguments.iter().map(OsString::from).collect()).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wait_takes_a_number_only_after_an_equals_sign() {
        let submit = |arguments: &[&str]| match parsed(&[&["skein", "submit", "team"], arguments].concat()) {
            Ok(Command::Submit(submit)) => submit,
            other => panic!("{other:?}"),
        };
        assert_eq!(submit(&["--to", "a"]).wait, None);
        assert_eq!(submit(&["--to", "a", "--wait"]).wait, Some(60));
        assert_eq!(submit(&["--wait=5", "--to", "a"]).wait, Some(5));
    }

    #[test]
    fn a_task_has_exactly_one_target() {
        assert!(parsed(&["skein", "submit", "team"]).unwrap_err().contains("--to"));
        assert!(parsed(&["skein", "submit", "team", "--to", "a", "--capability", "b"]).is_err());
        assert!(parsed(&["skein", "submit", "team", "--capability", "b"]).is_ok());
    }

    /// kubectl starts its plugins by their path.
    #[test]
    fn help_says_what_the_user_typed() {
        let help = |program| parsed(&[program, "status", "--help"]).unwrap_err();
        assert!(help("/usr/local/bin/kubectl-skein").contains("Usage: kubectl skein status"));
        assert!(help("/skein").contains("Usage: skein status"));
        assert!(help("skein").contains("  3  something is not ready"));
    }
}
