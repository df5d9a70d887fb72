//! What a sidecar measures. The pool is a label of every metric: one sidecar serves one pool.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::register;
use crate::bus::{Health, Outcome};
use crate::topology::delegation;

/// Every way in which a delivery is given up for another one.
const RETRIES: [&str; 6] = ["timeout", "error", "connection", "lease", "lost", "not_begun"];
/// Every end of a request to send a task.
const SENDS: [&str; 11] = [
    "accepted",
    "duplicate",
    "bad_request",
    "no_route",
    "unknown_capability",
    "cycle",
    "depth",
    "cancelled",
    "suspended",
    "too_large",
    "unavailable",
];
/// Who refused to pass a task on: the sidecar of its sender, or that of the pool that it was for.
const SIDES: [&str; 2] = ["sending", "receiving"];

/// The metrics of the role `sidecar`.
#[derive(Clone)]
pub struct Metrics {
    tasks: IntCounterVec,
    /// Tasks that were turned away because their sender has no edge to this pool.
    pub refused_senders: IntCounter,
    refused_delegations: IntCounterVec,
    /// Messages in the queue that are no tasks.
    pub malformed: IntCounter,
    /// Deliveries of tasks that had ended already.
    pub already_ended: IntCounter,
    retries: IntCounterVec,
    /// How often the agent said that it is overloaded.
    pub overloads: IntCounter,
    /// From the making of a task to its arrival at the agent.
    pub delivery_latency: Histogram,
    /// How long the agent took for one attempt.
    pub agent_time: Histogram,
    /// Tasks that the agent works on.
    pub in_flight: IntGauge,
    sends: IntCounterVec,
    /// Requests that wait for an outcome.
    pub results_waiting: IntGauge,
    /// 1 while there is a connection.
    pub bus_connected: IntGauge,
    /// How often the connection was made again.
    pub bus_reconnects: IntCounter,
    /// Heartbeats sent.
    pub heartbeats: IntCounter,
    /// 1 while the agent takes tasks.
    pub ready: IntGauge,
    health: IntGaugeVec,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When a metric is not well formed or registered twice, which a test of this module excludes.
    pub fn new(registry: &Registry, pool: &str) -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("pool", pool);
        let counter = |name: &str, help: &str| register(registry, IntCounter::with_opts(opts(name, help)));
        let gauge = |name: &str, help: &str| register(registry, IntGauge::with_opts(opts(name, help)));
        let counters = |name: &str, help: &str, label: &str| register(registry, IntCounterVec::new(opts(name, help), &[label]));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::new(name, help).const_label("pool", pool).buckets(buckets.to_vec());
            register(registry, Histogram::with_opts(opts))
        };
        let metrics = Self {
            tasks: counters("skein_sidecar_tasks_total", "Tasks that ended here, by outcome.", "outcome")?,
            refused_senders: counter(
                "skein_sidecar_refused_senders_total",
                "Tasks that were turned away because their sender has no edge to this pool.",
            )?,
            refused_delegations: register(
                registry,
                IntCounterVec::new(
                    opts(
                        "skein_sidecar_refused_delegations_total",
                        "Tasks that were not passed on, by reason, and by whether they were to be sent from here or came here.",
                    ),
                    &["reason", "side"],
                ),
            )?,
            malformed: counter("skein_sidecar_malformed_messages_total", "Messages in the queue that are no tasks.")?,
            already_ended: counter("skein_sidecar_already_ended_total", "Deliveries of tasks that had ended already.")?,
            retries: counters("skein_sidecar_retries_total", "Deliveries that were given up for another one, by reason.", "reason")?,
            overloads: counter("skein_sidecar_overloads_total", "How often the agent said that it is overloaded.")?,
            delivery_latency: histogram(
                "skein_sidecar_delivery_latency_seconds",
                "The time from the making of a task to its first arrival at the agent.",
                &[0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0],
            )?,
            agent_time: histogram(
                "skein_sidecar_agent_time_seconds",
                "The time that the agent took for one attempt.",
                &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0],
            )?,
            in_flight: gauge("skein_sidecar_tasks_in_flight", "Tasks that the agent works on.")?,
            sends: counters("skein_sidecar_sends_total", "Requests of the agent to send a task, by result.", "result")?,
            results_waiting: gauge("skein_sidecar_results_waiting", "Requests of the agent that wait for an outcome.")?,
            bus_connected: gauge("skein_sidecar_bus_connected", "1 while there is a connection to the bus.")?,
            bus_reconnects: counter("skein_sidecar_bus_reconnects_total", "How often the connection to the bus was made again.")?,
            heartbeats: counter("skein_sidecar_heartbeats_total", "Heartbeats sent.")?,
            ready: gauge("skein_sidecar_ready", "1 while the agent takes tasks.")?,
            health: register(
                registry,
                IntGaugeVec::new(
                    opts("skein_sidecar_agent_health", "1 for the health that the agent has now, 0 for the others."),
                    &["health"],
                ),
            )?,
        };
        // A series that appears with its first event hides that event from rate().
        for outcome in Outcome::ALL {
            metrics.tasks.with_label_values(&[outcome.as_str()]);
        }
        for reason in RETRIES {
            metrics.retries.with_label_values(&[reason]);
        }
        for (reason, side) in delegation::REASONS.into_iter().flat_map(|reason| SIDES.map(|side| (reason, side))) {
            metrics.refused_delegations.with_label_values(&[reason, side]);
        }
        for result in SENDS {
            metrics.sends.with_label_values(&[result]);
        }
        metrics.health(Health::Unknown);
        Ok(metrics)
    }

    /// A task ended here.
    pub fn ended(&self, outcome: Outcome) {
        self.tasks.with_label_values(&[outcome.as_str()]).inc();
    }

    /// A delivery was given up; `reason` is one of `RETRIES`.
    pub fn retried(&self, reason: &str) {
        self.retries.with_label_values(&[reason]).inc();
    }

    /// A task was not passed on; `side` is one of `SIDES`, and `reason` one of [`delegation::REASONS`].
    pub fn refused_delegation(&self, side: &str, reason: &str) {
        self.refused_delegations.with_label_values(&[reason, side]).inc();
    }

    /// The agent asked to send a task; `result` is one of `SENDS`.
    pub fn sent(&self, result: &str) {
        self.sends.with_label_values(&[result]).inc();
    }

    /// How well the agent is now.
    pub fn health(&self, now: Health) {
        for (health, label) in
            [(Health::Healthy, "healthy"), (Health::Degraded, "degraded"), (Health::Unhealthy, "unhealthy"), (Health::Unknown, "unknown")]
        {
            self.health.with_label_values(&[label]).set(i64::from(health == now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics;
    use pretty_assertions::assert_eq;
    use std::collections::BTreeSet;

    #[test]
    fn the_documentation_lists_every_metric_and_no_other() {
        let registry = metrics::registry("sidecar").unwrap();
        Metrics::new(&registry, "coder").unwrap();
        let exist: BTreeSet<String> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        // Those of every process are the page's beginning.
        let exist: BTreeSet<String> = exist.into_iter().filter(|name| name.starts_with("skein_")).collect();
        let page = include_str!("../../../docs/reference/metrics.md");
        let section = page.split("\n## ").find(|section| section.starts_with("Sidecar")).unwrap();
        let listed = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let listed: BTreeSet<String> = listed.chain(["skein_build_info"]).map(str::to_owned).collect();
        assert_eq!(exist, listed);
    }

    #[test]
    fn every_metric_registers_once_and_knows_its_pool() {
        let registry = metrics::registry("sidecar").unwrap();
        let all = Metrics::new(&registry, "coder").unwrap();
        all.ended(Outcome::Completed);
        all.health(Health::Healthy);
        let text = metrics::encode(&registry).unwrap();
        for line in [
            r#"skein_sidecar_tasks_total{outcome="completed",pool="coder"} 1"#,
            r#"skein_sidecar_tasks_total{outcome="dead",pool="coder"} 0"#,
            r#"skein_sidecar_agent_health{health="healthy",pool="coder"} 1"#,
            r#"skein_sidecar_agent_health{health="unknown",pool="coder"} 0"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(Metrics::new(&registry, "coder").is_err());
    }
}
