//! Logs, to standard error.

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Starts logging.
///
/// # Errors
/// When the filter is not of the form `level` or `module=level,…`, or logging has been started before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("--log {filter:?} is not a filter like \"info\" or \"skein=debug,info\": {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| format!("logging could not be started: {error}"))
}
