//! What is counted from time to time for Prometheus: pools and topologies by condition, agents by state,
//! the longest silence. Reads memory only.
//!
//! Counts of the cluster come from the leader alone, or two replicas would count everything twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use prometheus::IntGaugeVec;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::pods::Phase;
use super::roster::PoolKey;

/// The time between two counts.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts the whole cluster, on the leader, until told to end.
pub(super) async fn cluster(context: Arc<Context>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            _ = ticks.tick() => count(&context),
            () = shutdown.cancelled() => break,
        }
    }
    // The next leader counts.
    context.metrics.pools.reset();
    context.metrics.topologies.reset();
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

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
