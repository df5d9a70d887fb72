//! What can be wrong with a pool by itself. Pure.
//!
//! The API server has checked types, bounds and the rules of the definition. What is here looks into the
//! pod template, which rules of a definition cannot do at a bearable price.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::agent_pool::AgentPool;
use super::labels;
use super::names::SIDECAR_CONTAINER;

/// Where agents find the local API, and where the kubelet finds the sidecar. Both are the sidecar's.
const RESERVED_PORTS: [i32; 2] = [7800, 7801];

/// One mistake in a resource, said so that the reader can mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A CamelCase word, the reason of the `Accepted` condition.
    pub reason: &'static str,
    /// What is wrong, where, and what would be right.
    pub message: String,
}

/// The place of the agent's container in the template; `None` when there is no such container.
#[must_use]
pub fn agent_container(pool: &AgentPool) -> Option<usize> {
    let containers = &pool.spec.template.spec.as_ref()?.containers;
    match &pool.spec.agent.container {
        None => (!containers.is_empty()).then_some(0),
        Some(name) => containers.iter().position(|container| container.name == *name),
    }
}

/// Finds every mistake in a pool. An empty answer means that its agents can be built.
#[must_use]
pub fn check(pool: &AgentPool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |reason, message: String| problems.push(Problem { reason, message });
    let Some(pod) = &pool.spec.template.spec else {
        wrong("NoContainer", "template.spec is missing: give it the container of the agent".to_owned());
        return problems;
    };
    if let (Some(name), None, false) = (&pool.spec.agent.container, agent_container(pool), pod.containers.is_empty()) {
        let there = pod.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        wrong("UnknownContainer", format!("agent.container is {name:?}, and the template has only {there}: name one of them"));
    }
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
    problems
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    /// A pool as the API server would give it; `change` edits its spec.
    pub(crate) fn pool(change: impl FnOnce(&mut Value)) -> AgentPool {
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
        check(&pool(change)).into_iter().map(|problem| problem.reason).collect()
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
