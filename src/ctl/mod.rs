//! `kubectl skein`.

use std::process::ExitCode;

use crate::api;
use crate::cli::{StatusArgs, SubmitArgs, VersionArgs};

/// `skein status`.
#[must_use]
pub fn status(_args: StatusArgs) -> ExitCode {
    ExitCode::FAILURE
}

/// `skein submit`.
#[must_use]
pub fn submit(_args: SubmitArgs) -> ExitCode {
    ExitCode::FAILURE
}

/// `skein crds`.
#[must_use]
pub fn crds() -> ExitCode {
    for crd in api::crds() {
        match serde_yaml_ng::to_string(&crd) {
            Ok(text) => print!("---\n{text}"),
            Err(error) => {
                eprintln!("skein: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// `skein version`.
#[must_use]
pub fn version(_args: VersionArgs) -> ExitCode {
    ExitCode::FAILURE
}
