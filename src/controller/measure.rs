//! What is counted from time to time for Prometheus: pools and topologies by condition, agents by state,
//! the longest silence. Reads memory only.
//!
//! Counts of the cluster come from the leader alone, or two replicas would count everything twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use prometheus::IntGaugeVec;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::pods::Phase;
use super::roster::PoolKey;
use crate::api::Topology;

/// The time between two counts.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts the whole cluster, on the leader, until told to end.
pub(super) async fn cluster(context: Arc<Context>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    let mut found = BTreeSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                count(&context);
                found = by_finding(&context.metrics.findings, &context.stores.topologies.state(), &found);
            }
            () = shutdown.cancelled() => break,
        }
    }
    // The next leader counts.
    context.metrics.pools.reset();
    context.metrics.topologies.reset();
    context.metrics.findings.reset();
    context.metrics.agents.reset();
    context.metrics.silence.set(0);
}

fn count(context: &Context) {
    let metrics = &context.metrics;
    metrics.waiting.with_label_values(&["agentpool"]).set(number(context.pools.waiting()));
    metrics.waiting.with_label_values(&["topology"]).set(number(context.topologies.waiting()));
    let pools = context.stores.pools.state();
    let topologies = context.stores.topologies.state();
    by_condition(&metrics.pools, pools.iter().filter_map(|pool| Some(pool.status.as_ref()?.conditions.as_slice())));
    by_condition(&metrics.topologies, topologies.iter().filter_map(|topology| Some(topology.status.as_ref()?.conditions.as_slice())));
    let (mut desired, mut present, mut ready, mut busy, mut oldest) = (0, 0, 0, 0, Duration::ZERO);
    for pool in &pools {
        let status = pool.status.clone().unwrap_or_default();
        desired += i64::from(pool.desired_replicas());
        present += i64::from(status.replicas);
        ready += i64::from(status.ready_replicas);
        let key = PoolKey::new(pool.namespace().unwrap_or_default(), pool.name_any());
        let heard = context.roster.pool(&key.namespace, &key.pool);
        let heard: HashMap<_, _> = heard.iter().map(|seen| (seen.heartbeat.pod_uid.as_str(), seen)).collect();
        for pod in context.stores.pods.of(&key).iter().filter(|pod| pod.phase == Phase::Running && pod.ending.is_none()) {
            if let Some(seen) = heard.get(pod.uid.as_str()) {
                oldest = oldest.max(seen.age);
                busy += i64::from(seen.heartbeat.busy > 0);
            }
        }
    }
    for (state, count) in [("desired", desired), ("present", present), ("ready", ready), ("busy", busy)] {
        metrics.agents.with_label_values(&[state]).set(count);
    }
    metrics.silence.set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
}

fn by_condition<'a>(gauge: &IntGaugeVec, all: impl Iterator<Item = &'a [Condition]>) {
    let mut counts: HashMap<(&str, &str), i64> = HashMap::new();
    for condition in all.flatten() {
        *counts.entry((&condition.type_, &condition.status)).or_default() += 1;
    }
    gauge.reset();
    for ((condition, status), count) in counts {
        gauge.with_label_values(&[condition, status]).set(count);
    }
}

/// A topology, by namespace and name, and a type of finding.
type Found = (String, String, String);

/// Shows how many findings of each type each topology has, takes away what was shown `before` and is no
/// longer so, and says what is shown now.
fn by_finding(gauge: &IntGaugeVec, topologies: &[Arc<Topology>], before: &BTreeSet<Found>) -> BTreeSet<Found> {
    let mut counts: BTreeMap<Found, usize> = BTreeMap::new();
    for topology in topologies {
        for finding in topology.status.iter().flat_map(|status| &status.findings) {
            let key = (topology.namespace().unwrap_or_default(), topology.name_any(), finding.type_.clone());
            *counts.entry(key).or_default() += 1;
        }
    }
    for (namespace, topology, type_) in before.iter().filter(|key| !counts.contains_key(key)) {
        // It is there: it was set in the count before.
        let _ = gauge.remove_label_values(&[namespace, topology, type_]);
    }
    for ((namespace, topology, type_), count) in &counts {
        gauge.with_label_values(&[namespace, topology, type_]).set(number(*count));
    }
    counts.into_keys().collect()
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn topology(name: &str, types: &[&str]) -> Arc<Topology> {
        let finding = |type_: &&str| json!({"type": type_, "member": "a", "members": ["a"], "message": "m", "remedy": "r"});
        let topology = json!({
            "metadata": {"name": name, "namespace": "work"}, "spec": {"architecture": "Flat", "members": [{"pool": "a"}]},
            "status": {"findings": types.iter().map(finding).collect::<Vec<_>>()},
        });
        Arc::new(serde_json::from_value(topology).unwrap())
    }

    /// A regression here shows findings for ever that were mended, or of topologies that are gone.
    #[test]
    fn findings_are_shown_for_as_long_as_they_last() {
        let registry = metrics::registry("controller").unwrap();
        let all = metrics::controller::Metrics::new(&registry).unwrap();
        let shown = || -> Vec<String> {
            let text = metrics::encode(&registry).unwrap();
            text.lines().filter_map(|line| line.strip_prefix("skein_controller_topology_findings")).map(str::to_owned).collect()
        };
        let first = by_finding(&all.findings, &[topology("s", &["A"]), topology("t", &["A", "A", "B"])], &BTreeSet::new());
        assert_eq!(
            shown(),
            [
                r#"{namespace="work",topology="s",type="A"} 1"#,
                r#"{namespace="work",topology="t",type="A"} 2"#,
                r#"{namespace="work",topology="t",type="B"} 1"#,
            ]
        );
        let second = by_finding(&all.findings, &[topology("t", &["B"])], &first);
        assert_eq!(shown(), [r#"{namespace="work",topology="t",type="B"} 1"#]);
        by_finding(&all.findings, &[], &second);
        assert_eq!(shown(), [""; 0]);
    }
}
