//! What can be wrong with a pool by itself, and what is left when nothing is.
//!
//! The API server has checked types, bounds and the rules of the definition. What is here looks into the
//! pod template, which rules of a definition cannot do at a bearable price.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt as _;

use crate::api::agent_pool::OperatingMode;
use crate::api::names::SIDECAR_CONTAINER;
use crate::api::{AgentPool, labels, names};
use crate::controller::roster::PoolKey;
use crate::resilience::Budget;

/// Where agents find the local API, and where the kubelet finds the sidecar. Both are the sidecar's.
pub const RESERVED_PORTS: [i32; 2] = [7800, 7801];

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

/// One mistake, said so that the reader can mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A CamelCase word, the reason of the `Accepted` condition.
    pub reason: &'static str,
    /// What is wrong, where, and what would be right.
    pub message: String,
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

/// Finds every mistake in a pool, or what is needed to run it.
///
/// # Errors
/// All mistakes, so that they can be mended at once.
pub fn validate(pool: &AgentPool) -> Result<Validated<'_>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut wrong = |reason, message: String| problems.push(Problem { reason, message });
    let Some(pod) = &pool.spec.template.spec else {
        wrong("NoContainer", "template.spec is missing: give it the container of the agent".to_owned());
        return Err(problems);
    };
    let container = match &pool.spec.agent.container {
        None => (!pod.containers.is_empty()).then_some(0),
        Some(name) => {
            let place = pod.containers.iter().position(|container| container.name == *name);
            if place.is_none() && !pod.containers.is_empty() {
                let there = pod.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
                wrong("UnknownContainer", format!("agent.container is {name:?}, and the template has only {there}: name one of them"));
            }
            place
        }
    };
    if pod.containers.is_empty() {
        wrong("NoContainer", "template.spec.containers is empty: give it the container of the agent".to_owned());
    }
    if pod.host_network == Some(true) {
        let message = "template.spec.hostNetwork is true, and two agents on one node would share the sidecar's ports: remove it";
        wrong("HostNetwork", message.to_owned());
    }
    if let Some(policy) = pod.restart_policy.as_deref().filter(|policy| *policy != "Always") {
        wrong(
            "RestartPolicy",
            format!("template.spec.restartPolicy is {policy:?}, and agents run until they are told to end: remove it or use Always"),
        );
    }
    if let Some(port) = pool.spec.agent.port.filter(|port| RESERVED_PORTS.contains(port)) {
        wrong("ReservedPort", format!("agent.port is {port}, which is the sidecar's: let the agent listen on another port"));
    }
    let mut names = BTreeSet::new();
    for container in containers(pod) {
        let name = &container.name;
        if name == SIDECAR_CONTAINER {
            wrong(
                "ReservedName",
                format!("a container of the template is called {name:?}, which is the sidecar's name: call it something else"),
            );
        } else if !names.insert(name) {
            wrong("DuplicateContainer", format!("two containers of the template are called {name:?}: rename one of them"));
        }
        for port in container.ports.iter().flatten() {
            for number in [Some(port.container_port), port.host_port].into_iter().flatten() {
                if RESERVED_PORTS.contains(&number) {
                    wrong("ReservedPort", format!("container {name:?} has port {number}, which is the sidecar's: use another one"));
                }
            }
        }
    }
    let template_labels = pool.spec.template.metadata.iter().flat_map(|meta| meta.labels.iter().flatten());
    for (key, _) in template_labels.filter(|(key, _)| key.starts_with("skein.dev/") || *key == labels::MANAGED_BY) {
        wrong("ReservedLabel", format!("template.metadata.labels has {key:?}, by which Skein finds its pods: remove it"));
    }
    let (Some(container), true) = (container, problems.is_empty()) else { return Err(problems) };
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

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
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
pub(super) mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    /// A pool as the API server would give it; `change` edits its spec.
    pub(in super::super) fn pool(change: impl FnOnce(&mut Value)) -> AgentPool {
        let mut spec = json!({
            "replicas": 3,
            "template": {"spec": {"containers": [{"name": "agent", "image": "example/coder:1"}]}},
            "agent": {"port": 8080},
        });
        change(&mut spec);
        serde_json::from_value(json!({
            "apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool",
            "metadata": {"name": "coder", "namespace": "work", "uid": "pool-uid", "generation": 4},
            "spec": spec,
        }))
        .unwrap()
    }

    fn reasons(change: impl FnOnce(&mut Value)) -> Vec<&'static str> {
        let pool = pool(change);
        validate(&pool).err().into_iter().flatten().map(|problem| problem.reason).collect()
    }

    #[test]
    fn a_minimal_pool_is_valid() {
        let pool = pool(|_| {});
        let valid = validate(&pool).unwrap();
        assert_eq!((valid.desired, valid.max_unavailable, valid.container), (3, 1, 0));
        assert_eq!(valid.service_account(), ("coder-agent".to_owned(), true));
        assert!(valid.ends_by_us());
    }

    /// A regression here builds pods that never start, and leaves the reader to find out why.
    #[test]
    fn every_mistake_in_the_template_is_named() {
        let containers = |spec: &mut Value, all: Value| spec["template"]["spec"]["containers"] = all;
        assert_eq!(reasons(|s| s["agent"]["container"] = json!("other")), ["UnknownContainer"]);
        assert_eq!(reasons(|s| s["agent"]["port"] = json!(7800)), ["ReservedPort"]);
        assert_eq!(reasons(|s| s["template"]["spec"]["hostNetwork"] = json!(true)), ["HostNetwork"]);
        assert_eq!(reasons(|s| s["template"]["spec"]["restartPolicy"] = json!("Never")), ["RestartPolicy"]);
        assert_eq!(reasons(|s| s["template"] = json!({})), ["NoContainer"]);
        assert_eq!(reasons(|s| containers(s, json!([]))), ["NoContainer"]);
        assert_eq!(reasons(|s| containers(s, json!([{"name": "skein"}]))), ["ReservedName"]);
        assert_eq!(reasons(|s| containers(s, json!([{"name": "a"}, {"name": "a"}]))), ["DuplicateContainer"]);
        assert_eq!(reasons(|s| containers(s, json!([{"name": "a", "ports": [{"containerPort": 7801}]}]))), ["ReservedPort"]);
        assert_eq!(reasons(|s| s["template"]["metadata"] = json!({"labels": {"skein.dev/pool": "x"}})), ["ReservedLabel"]);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let both = reasons(|s| {
            s["agent"]["port"] = json!(7801);
            s["template"]["spec"]["hostNetwork"] = json!(true);
        });
        assert_eq!(both, ["HostNetwork", "ReservedPort"]);
    }
}
