//! The role `sidecar`.

use std::process::ExitCode;

use crate::cli::SidecarArgs;

/// Runs the role until it is told to end.
#[must_use]
pub fn main(_args: SidecarArgs) -> ExitCode {
    ExitCode::FAILURE
}
