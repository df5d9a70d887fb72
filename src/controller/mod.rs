//! The role `controller`.

pub mod roster;

use std::process::ExitCode;

use crate::cli::ControllerArgs;

/// Runs the role until it is told to end.
#[must_use]
pub fn main(_args: ControllerArgs) -> ExitCode {
    ExitCode::FAILURE
}
