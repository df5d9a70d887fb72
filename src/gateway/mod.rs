//! The role `gateway`.

use std::process::ExitCode;

use crate::cli::GatewayArgs;

/// Runs the role until it is told to end.
#[must_use]
pub fn main(_args: GatewayArgs) -> ExitCode {
    ExitCode::FAILURE
}
