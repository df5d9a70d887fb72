//! What is needed to run a pool that nothing is wrong with. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt as _;

use crate::api::agent_pool::OperatingMode;
use crate::api::check::{agent_container, check};
use crate::api::{AgentPool, Problem, names};
use crate::controller::roster::PoolKey;
use crate::resilience::Budget;

/// A pool that makes sense.
#[derive(Clone, Debug)]
pub struct Validated<'a> {
    /// Its namespace and name.
    pub key: PoolKey,
    /// Its UID.
    pub uid: String,
    /// The pool itself.
    pub pool: &'a AgentPool,
    /// The template's pod.
    pub pod: &'a PodSpec,
    /// The place of the agent's container in the template.
    pub container: usize,
    /// The number of agents.
    pub desired: u32,
    /// How many may be missing or not ready by our own doing.
    pub max_unavailable: u32,
    /// How long an agent may be silent.
    pub stale: Duration,
    /// How many may be replaced within which time.
    pub budget: Budget,
}

/// The number of agents that a pool wants, also when the rest of it makes no sense.
#[must_use]
pub fn desired(pool: &AgentPool) -> u32 {
    u32::try_from(pool.desired_replicas()).unwrap_or(0)
}

/// Whether the pool is suspended.
#[must_use]
pub fn suspended(pool: &AgentPool) -> bool {
    pool.spec.operating_mode == OperatingMode::Suspended
}

/// What is needed to run a pool.
///
/// # Errors
/// All mistakes, so that they can be mended at once.
pub fn validate(pool: &AgentPool) -> Result<Validated<'_>, Vec<Problem>> {
    let problems = check(pool);
    let (Some(pod), Some(container), true) = (&pool.spec.template.spec, agent_container(pool), problems.is_empty()) else {
        return Err(problems);
    };
    let number = |value: i32| u32::try_from(value).unwrap_or(0);
    Ok(Validated {
        key: PoolKey::new(pool.namespace().unwrap_or_default(), pool.name_any()),
        uid: pool.uid().unwrap_or_default(),
        pool,
        pod,
        container,
        desired: desired(pool),
        max_unavailable: number(pool.spec.update_strategy.max_unavailable).max(1),
        stale: Duration::from_secs(number(pool.spec.health.stale_seconds).into()),
        budget: Budget {
            max: usize::try_from(pool.spec.supervision.max_restarts).unwrap_or(0),
            within: SignedDuration::from_secs(pool.spec.supervision.within_seconds.into()),
        },
    })
}

impl Validated<'_> {
    /// The name of the service account of the agents, and whether it is ours to make.
    #[must_use]
    pub fn service_account(&self) -> (String, bool) {
        let named = self.pod.service_account_name.clone().or_else(|| self.pod.service_account.clone());
        match named.filter(|name| !name.is_empty()) {
            Some(name) => (name, false),
            None => (names::service_account(&self.key.pool), true),
        }
    }

    /// Whether ending takes its time from us: the template has neither a grace period nor a hook of its own.
    #[must_use]
    pub fn ends_by_us(&self) -> bool {
        let hooked = self.pod.containers.get(self.container).and_then(|agent| agent.lifecycle.as_ref()?.pre_stop.as_ref()).is_some();
        self.pod.termination_grace_period_seconds.is_none() && !hooked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::check::tests::pool;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_minimal_pool_is_valid() {
        let pool = pool(|_| {});
        let valid = validate(&pool).unwrap();
        assert_eq!((valid.desired, valid.max_unavailable, valid.container), (3, 1, 0));
        assert_eq!(valid.service_account(), ("coder-agent".to_owned(), true));
        assert!(valid.ends_by_us());
    }
}
