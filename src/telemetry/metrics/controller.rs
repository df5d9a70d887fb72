//! What the controller measures.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::register;
use crate::kubernetes::Class;

/// What may be mended on the bus.
const REPAIRS: [&str; 5] = ["journal", "bucket", "queue", "program", "configuration"];

/// The metrics of the role `controller`.
#[derive(Clone)]
pub struct Metrics {
    reconciles: IntCounterVec,
    reconcile_seconds: HistogramVec,
    errors: IntCounterVec,
    /// Objects that wait for their turn, by controller.
    pub waiting: IntGaugeVec,
    /// Pools by condition and its status.
    pub pools: IntGaugeVec,
    /// Topologies by condition and its status.
    pub topologies: IntGaugeVec,
    /// What was found of the design of each topology.
    pub findings: IntGaugeVec,
    /// Agents by what they are: desired, present, ready, busy.
    pub agents: IntGaugeVec,
    /// Agents that were replaced, by reason.
    pub restarts: IntCounterVec,
    /// The time since the heartbeat before, at each heartbeat.
    pub heartbeat_age: Histogram,
    /// How long the agent that has been silent longest has not been heard.
    pub silence: IntGauge,
    /// How often the bus was lost and found again.
    pub bus_reconnects: IntCounter,
    /// What was lost or changed on the bus, and has been mended, by `REPAIRS`.
    pub bus_repairs: IntCounterVec,
    /// Tasks that wait for a pool or are in flight, by pool.
    pub queue_tasks: IntGaugeVec,
    /// The size of each topology's journal.
    pub journal_bytes: IntGaugeVec,
    /// The number of messages in each topology's journal.
    pub journal_messages: IntGaugeVec,
    /// Messages that were dropped from journals because they were old or in the way.
    pub trimmed: IntCounter,
    /// Journals on the bus whose topology does not exist.
    pub orphans: IntGauge,
    /// 1 on the replica that acts.
    pub leader: IntGauge,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When a metric is not well formed or registered twice, which a test of this module excludes.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| register(registry, IntCounterVec::new(Opts::new(name, help), labels));
        let gauges = |name: &str, help: &str, labels: &[&str]| register(registry, IntGaugeVec::new(Opts::new(name, help), labels));
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let metrics = Self {
            reconciles: counters(
                "skein_controller_reconciles_total",
                "Looks at one object, by controller and by how they ended.",
                &["controller", "result"],
            )?,
            reconcile_seconds: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new("skein_controller_reconcile_duration_seconds", "How long looking at one object and acting took.")
                        .buckets(vec![0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0]),
                    &["controller"],
                ),
            )?,
            errors: counters(
                "skein_controller_reconcile_errors_total",
                "Looks at one object that failed, by what helps: transient, conflict or refused.",
                &["controller", "class"],
            )?,
            waiting: gauges("skein_controller_queue_depth", "Objects that wait for their turn.", &["controller"])?,
            pools: gauges("skein_controller_pools", "Pools by condition and its status.", &["condition", "status"])?,
            topologies: gauges("skein_controller_topologies", "Topologies by condition and its status.", &["condition", "status"])?,
            findings: gauges(
                "skein_controller_topology_findings",
                "Weaknesses that were found in the design of a topology, by type.",
                &["namespace", "topology", "type"],
            )?,
            agents: gauges("skein_controller_agents", "Agents of all pools by state: desired, present, ready, busy.", &["state"])?,
            restarts: counters("skein_controller_agent_restarts_total", "Agents that were replaced, by reason.", &["reason"])?,
            heartbeat_age: register(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "skein_controller_heartbeat_age_seconds",
                        "The time since the agent's heartbeat before, at each heartbeat.",
                    )
                    .buckets(vec![0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 300.0]),
                ),
            )?,
            silence: gauge(
                "skein_controller_longest_silence_seconds",
                "How long the agent that has been silent longest has not been heard, of those that run.",
            )?,
            bus_reconnects: counter("skein_controller_bus_reconnects_total", "How often the bus was lost and found again.")?,
            bus_repairs: counters(
                "skein_controller_bus_repairs_total",
                "What was lost or changed on the bus and has been mended: journal, bucket, queue, program or configuration.",
                &["kind"],
            )?,
            queue_tasks: gauges(
                "skein_controller_pool_tasks",
                "Tasks that wait for an agent of the pool (pending) or that an agent has (in_flight).",
                &["namespace", "pool", "state"],
            )?,
            journal_bytes: gauges("skein_controller_journal_bytes", "The size of the journal of a topology.", &["namespace", "topology"])?,
            journal_messages: gauges(
                "skein_controller_journal_messages",
                "The number of messages in the journal of a topology.",
                &["namespace", "topology"],
            )?,
            trimmed: counter(
                "skein_controller_journal_trimmed_messages_total",
                "Messages that were dropped from journals because they were old or in the way.",
            )?,
            orphans: gauge(
                "skein_controller_orphaned_journals",
                "Journals on the bus whose topology does not exist, as after its finalizer was removed by hand.",
            )?,
            leader: gauge("skein_controller_leader", "1 on the replica that acts, 0 on those that stand by.")?,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// Shows what has not happened yet as 0, so that its first time is seen as one.
    fn begin(&self) {
        for controller in ["agentpool", "topology"] {
            self.waiting.with_label_values(&[controller]).set(0);
            for result in ["success", "error"] {
                self.reconciles.with_label_values(&[controller, result]).reset();
            }
            for class in [Class::Transient, Class::Conflict, Class::Refused] {
                self.errors.with_label_values(&[controller, class.as_str()]).reset();
            }
        }
        for reason in ["ended", "silent"] {
            self.restarts.with_label_values(&[reason]).reset();
        }
        for kind in REPAIRS {
            self.bus_repairs.with_label_values(&[kind]).reset();
        }
    }

    /// How many looks at objects a controller has had.
    #[must_use]
    pub fn reconciles(&self, controller: &str) -> u64 {
        ["success", "error"].iter().map(|result| self.reconciles.with_label_values(&[controller, result]).get()).sum()
    }

    /// One look at an object is over.
    pub fn reconciled(&self, controller: &str, took: Duration, failed: Option<Class>) {
        self.reconcile_seconds.with_label_values(&[controller]).observe(took.as_secs_f64());
        let result = if failed.is_none() { "success" } else { "error" };
        self.reconciles.with_label_values(&[controller, result]).inc();
        if let Some(class) = failed {
            self.errors.with_label_values(&[controller, class.as_str()]).inc();
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
        let registry = metrics::registry("controller").unwrap();
        let all = Metrics::new(&registry).unwrap();
        all.reconciled("agentpool", Duration::ZERO, None);
        // What has no value yet is not shown.
        for gauge in [&all.pools, &all.topologies] {
            gauge.with_label_values(&["Ready", "True"]).set(1);
        }
        for gauge in [&all.journal_bytes, &all.journal_messages] {
            gauge.with_label_values(&["work", "team"]).set(1);
        }
        all.findings.with_label_values(&["work", "team", "IsolatedMember"]).set(1);
        all.agents.with_label_values(&["ready"]).set(1);
        all.queue_tasks.with_label_values(&["work", "coder", "pending"]).set(1);
        let exist: BTreeSet<String> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        let exist: BTreeSet<String> = exist.into_iter().filter(|name| name.starts_with("skein_controller_")).collect();
        let page = include_str!("../../../docs/reference/metrics.md");
        let section = page.split("\n## ").find(|section| section.starts_with("Controller")).unwrap();
        let listed: BTreeSet<String> =
            section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect();
        assert_eq!(exist, listed);
    }

    #[test]
    fn every_metric_registers_once() {
        let registry = metrics::registry("controller").unwrap();
        let all = Metrics::new(&registry).unwrap();
        all.reconciled("agentpool", Duration::from_millis(2), Some(Class::Conflict));
        let text = metrics::encode(&registry).unwrap();
        assert!(text.contains(r#"skein_controller_reconcile_errors_total{class="conflict",controller="agentpool"} 1"#), "{text}");
        assert!(Metrics::new(&registry).is_err());
    }
}
