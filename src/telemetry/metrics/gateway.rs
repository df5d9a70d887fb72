//! What the gateway measures. Labels are names of topologies and pools, which are as many as the
//! objects in the cluster, and words of a fixed list.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::register;
use crate::bus::{Outcome, Team};

/// The kinds of problems that the gateway answers with, as `docs/reference/problems.md` lists them.
const PROBLEMS: [&str; 25] = [
    "bad-request",
    "no-such-path",
    "no-such-method",
    "too-large",
    "too-slow",
    "unknown-topology",
    "unknown-pool",
    "unknown-capability",
    "pool-suspended",
    "no-ready-agent",
    "no-journal",
    "journal-full",
    "bus-unavailable",
    "bus-refused",
    "perhaps-stored",
    "starting",
    "overloaded",
    "key-reused",
    "key-forgotten",
    "unknown-task",
    "task-failed",
    "task-dead",
    "task-expired",
    "task-cancelled",
    "task-ended",
];

/// The metrics of the role `gateway`.
#[derive(Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    refusals: IntCounterVec,
    tasks: IntCounterVec,
    task_seconds: HistogramVec,
    /// Requests that wait for a result now.
    pub waiting: IntGauge,
    /// Connections that are open now.
    pub connections: IntGauge,
    /// 1 while there is a connection to the bus.
    pub bus_connected: IntGauge,
    /// How often the bus was lost and found again.
    pub bus_reconnects: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When a metric is not well formed or registered twice, which a test of this module excludes.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| register(registry, IntCounterVec::new(Opts::new(name, help), labels));
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let metrics = Self {
            requests: counters("skein_gateway_requests_total", "Requests by route and class of the status.", &["route", "status"])?,
            refusals: counters("skein_gateway_problems_total", "Requests that were answered by a problem, by its kind.", &["problem"])?,
            tasks: counters("skein_gateway_tasks_total", "Tasks that were stored, by pool.", &["namespace", "topology", "pool"])?,
            task_seconds: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "skein_gateway_task_duration_seconds",
                        "From the request to the outcome, of tasks whose outcome was waited for.",
                    )
                    .buckets(vec![0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0]),
                    &["namespace", "topology", "pool", "outcome"],
                ),
            )?,
            waiting: gauge("skein_gateway_waiting", "Requests that wait for a result now.")?,
            connections: gauge("skein_gateway_connections", "Connections that are open now.")?,
            bus_connected: gauge("skein_gateway_bus_connected", "1 while there is a connection to the bus.")?,
            bus_reconnects: register(
                registry,
                IntCounter::new("skein_gateway_bus_reconnects_total", "How often the bus was lost and found again."),
            )?,
        };
        // A series that appears with its first event hides that event from rate().
        for problem in PROBLEMS {
            metrics.refusals.with_label_values(&[problem]);
        }
        Ok(metrics)
    }

    /// A request was answered.
    pub fn answered(&self, route: &str, status: u16, problem: Option<&str>) {
        let class = match status {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
        if let Some(problem) = problem {
            self.refusals.with_label_values(&[problem]).inc();
        }
    }

    /// A task was stored.
    pub fn stored(&self, team: &Team, pool: &str) {
        self.tasks.with_label_values(&[team.namespace.as_str(), &team.topology, pool]).inc();
    }

    /// A task that was waited for has ended.
    pub fn ended(&self, team: &Team, pool: &str, outcome: Outcome, took: Duration) {
        let labels = [team.namespace.as_str(), &team.topology, pool, outcome.as_str()];
        self.task_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics;

    #[test]
    fn every_problem_is_counted_from_the_start() {
        let page = include_str!("../../../docs/reference/problems.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let rows = rows.map(|row| row.split('|').map(|cell| cell.trim().trim_end_matches('`')).collect::<Vec<_>>());
        let said = rows.filter(|row| row[2] == "both" || row[2].contains("gateway")).map(|row| row[0]);
        assert_eq!(said.collect::<Vec<_>>(), PROBLEMS);
        let registry = metrics::registry("gateway").unwrap();
        Metrics::new(&registry).unwrap();
        let text = metrics::encode(&registry).unwrap();
        assert!(text.contains(r#"skein_gateway_problems_total{problem="overloaded"} 0"#), "{text}");
    }

    #[test]
    fn every_metric_registers_once() {
        let registry = metrics::registry("gateway").unwrap();
        let all = Metrics::new(&registry).unwrap();
        all.answered("submit", 503, Some("bus-unavailable"));
        all.stored(&Team::new("n", "t"), "p");
        all.ended(&Team::new("n", "t"), "p", Outcome::Dead, Duration::from_millis(3));
        let text = metrics::encode(&registry).unwrap();
        for line in [
            r#"skein_gateway_requests_total{route="submit",status="5xx"} 1"#,
            r#"skein_gateway_problems_total{problem="bus-unavailable"} 1"#,
            r#"skein_gateway_tasks_total{namespace="n",pool="p",topology="t"} 1"#,
            r#"skein_gateway_task_duration_seconds_count{namespace="n",outcome="dead",pool="p",topology="t"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(Metrics::new(&registry).is_err());
    }
}
