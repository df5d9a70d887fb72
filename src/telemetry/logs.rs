//! Logs, to standard error.
//!
//! Of the client of the broker only warnings are wanted: what it reports of every connection and message
//! is said by [`crate::bus::nats`] in words of ours. A filter that names it is obeyed.

use std::io;

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::cli::LogFormat;

/// The client of the broker, as a filter names it.
const CLIENT: &str = "async_nats";

/// Starts logging.
///
/// # Errors
/// When the filter is not of the form `level` or `module=level,…`, or logging has been started before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), String> {
    subscriber(format, filter, io::stderr)?.try_init().map_err(|error| format!("logging could not be started: {error}"))
}

fn subscriber<W>(format: LogFormat, filter: &str, writer: W) -> Result<impl Subscriber + Send + Sync, String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // By module and level only: a filter that knows spans and fields brings regular expressions into every sidecar's memory.
    let mut wanted: Targets =
        filter.parse().map_err(|error| format!("--log {filter:?} is not a filter like \"info\" or \"skein=debug,info\": {error}"))?;
    if !filter.contains(CLIENT) {
        let others = wanted.default_level().unwrap_or(LevelFilter::OFF);
        wanted = wanted.with_target(CLIENT, others.min(LevelFilter::WARN));
    }
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    Ok(Registry::default().with(layer.with_filter(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of the same four events.
    fn logged(format: LogFormat, filter: &str) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "async_nats::connector", "client-info");
            tracing::warn!(target: "async_nats", "client-warning");
            tracing::info!(target: "skein::sidecar", "own-info");
            tracing::debug!(target: "skein::sidecar", "own-debug");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.rsplit([' ', '"']).find(|word| word.contains('-')).unwrap_or(line).to_owned()).collect()
    }

    /// A regression here tells everybody twice of every connection, or hides what somebody asked for.
    #[test]
    fn of_the_brokers_client_only_warnings_are_logged_unless_the_filter_names_it() {
        assert_eq!(logged(LogFormat::Text, "info"), ["client-warning", "own-info"]);
        assert_eq!(logged(LogFormat::Text, "skein=debug,info"), ["client-warning", "own-info", "own-debug"]);
        assert_eq!(logged(LogFormat::Text, "info,async_nats=info"), ["client-info", "client-warning", "own-info"]);
        assert_eq!(logged(LogFormat::Text, "skein=info"), ["own-info"]);
        assert!(logged(LogFormat::Text, "off").is_empty());
    }

    #[test]
    fn logs_for_machines_are_one_object_a_line() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = subscriber(LogFormat::Json, "info", move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || tracing::info!(pool = "coder", "serving"));
        let line: serde_json::Value = serde_json::from_slice(&written.0.lock().unwrap()).unwrap();
        assert_eq!((&line["message"], &line["pool"], &line["level"]), (&"serving".into(), &"coder".into(), &"INFO".into()));
    }

    /// A regression here asks the filter about every event that nobody wants.
    #[test]
    fn what_is_too_fine_costs_a_comparison() {
        let subscriber = subscriber(LogFormat::Text, "info", io::sink).unwrap();
        assert_eq!(Subscriber::max_level_hint(&subscriber), Some(LevelFilter::INFO));
    }

    #[test]
    fn a_filter_that_is_none_is_named() {
        let Err(problem) = subscriber(LogFormat::Text, "skein=loud", io::sink) else { panic!("it is a filter") };
        assert!(problem.starts_with(r#"--log "skein=loud" is not a filter"#), "{problem}");
    }
}
