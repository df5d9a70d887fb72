//! The one binary: parses its arguments, starts telemetry, and becomes one of the roles.

use std::process::ExitCode;

use skein::cli::Command;
use skein::{cli, controller, ctl, gateway, sidecar, telemetry};

fn main() -> ExitCode {
    let cli = cli::parse();
    if let Err(problem) = telemetry::logs::init(cli.log_format, cli.log_filter()) {
        eprintln!("skein: {problem}");
        return ExitCode::from(2);
    }
    match cli.command {
        Command::Controller(args) => controller::main(args),
        Command::Sidecar(args) => sidecar::main(args),
        Command::Gateway(args) => gateway::main(&args),
        Command::Status(args) => ctl::status(args),
        Command::Submit(args) => ctl::submit(args),
        Command::Cancel(args) => ctl::cancel(args),
        Command::Lint(args) => ctl::lint(&args),
        Command::Graph(args) => ctl::graph(args),
        Command::Explain(args) => ctl::explain(args),
        Command::Crds => ctl::crds(),
        Command::Version(args) => ctl::version(args),
    }
}
