//! The command line of the one binary. Raw arguments only; each role resolves its own.
//!
//! Every flag of a role can also be given in the environment, which is how the chart and the
//! controller set them.

mod commands;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

pub use commands::{
    CancelArgs, ClusterArgs, DoorArgs, ExplainArgs, GraphArgs, GraphOutput, LintArgs, Output, StatusArgs, SubmitArgs, TeamArgs, VersionArgs,
};
use commands::{EXPLAIN_CODES, GRAPH_CODES, LINT_CODES, STATUS_CODES, SUBMIT_CODES};

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
    /// Cancel a task that was submitted, with everything that agents have sent on its behalf
    Cancel(CancelArgs),
    /// Find mistakes and weaknesses in files, without a cluster
    #[command(after_help = LINT_CODES)]
    Lint(LintArgs),
    /// Show who may send to whom in a topology, and why
    #[command(after_help = GRAPH_CODES)]
    Graph(GraphArgs),
    /// Say why one pool may send to another or not, and what to change
    #[command(after_help = EXPLAIN_CODES)]
    Explain(ExplainArgs),
    /// Print the custom resource definitions
    Crds,
    /// Print the versions of this program and of what runs in the cluster
    Version(VersionArgs),
}

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

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

#[cfg(test)]
mod tests;
