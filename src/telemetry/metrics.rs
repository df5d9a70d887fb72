//! The registry of metrics that each role has, and what all roles measure.
//!
//! Names and units follow the Prometheus conventions: prefix `skein_`, base units, `_total` for
//! counters. Labels are bounded: never the id of a task, and on the controller never the name of a pod.
//! The metrics of a role are one struct in `telemetry/metrics/<role>.rs`; every metric that exists is
//! listed in `docs/reference/metrics.md`, and a test compares the two.

pub mod controller;
pub mod gateway;
pub mod sidecar;

use prometheus::core::Collector;
use prometheus::{IntGauge, Opts, Registry, TextEncoder};

/// Makes the registry of a process and puts `skein_build_info` and, on Linux, the standard `process_*`
/// metrics into it.
///
/// # Errors
/// When a metric is not well formed, which a test of this module excludes.
pub fn registry(role: &str) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let info = IntGauge::with_opts(
        Opts::new("skein_build_info", "The version of this program; the value is always 1.")
            .const_label("version", env!("CARGO_PKG_VERSION"))
            .const_label("role", role),
    )?;
    info.set(1);
    registry.register(Box::new(info))?;
    #[cfg(target_os = "linux")]
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    Ok(registry)
}

/// Puts a metric into a registry and gives it back, for its role to count with.
///
/// # Errors
/// When the metric is not well formed or its name is taken.
fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> prometheus::Result<M> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Everything in a registry, in the text format of Prometheus.
///
/// # Errors
/// When two metrics of one name disagree, which registration excludes.
pub fn encode(registry: &Registry) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_info_names_version_and_role() {
        let text = encode(&registry("sidecar").unwrap()).unwrap();
        assert!(text.contains(r#"skein_build_info{role="sidecar",version="0.1.0"} 1"#), "{text}");
    }
}
