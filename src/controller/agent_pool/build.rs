//! The objects of a pool, whole: its pods, their service account, and its disruption budget.
//!
//! No client and no clock: equal pools give equal objects, and the revision of a pod is a hash of what is
//! built here, so a new release of the sidecar rolls out like a new template.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler, ObjectFieldSelector, Pod,
    PodSecurityContext, Probe, ResourceRequirements, SeccompProfile, SecurityContext, ServiceAccount,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource as _;
use sha2::{Digest as _, Sha256};

use super::validate::Validated;
use crate::api::names::SIDECAR_CONTAINER;
use crate::api::{labels, names};
use crate::controller::context::Config;

/// Where the kubelet and Prometheus find the sidecar.
const ADMIN_PORT: i32 = 7801;
/// Where the agent finds its sidecar.
const LOCAL_API: &str = "http://127.0.0.1:7800";
/// The user that the sidecar runs as.
const NOBODY: i64 = 65_532;
/// What is left of the grace period once the time for draining is over: enough to exit.
const EXIT_SECONDS: i64 = 30;
/// How long the kubelet lets an agent exit that it restarts because it hangs.
const HANGING_EXIT_SECONDS: i64 = 10;

/// What all pods of a pool are made of.
#[derive(Clone, Debug)]
pub struct Agents {
    pod: Pod,
    pool: String,
    /// Names what the pods are made of.
    pub revision: String,
}

impl Agents {
    /// Builds what all pods of a pool have in common.
    #[must_use]
    pub fn new(pool: &Validated<'_>, config: &Config) -> Self {
        // Where the pool is and which one it is do not matter: it is the same program, whatever its key.
        let program = common(pool, config, "");
        let content = (&program.metadata.labels, &program.metadata.annotations, &program.spec);
        let bytes = serde_json::to_vec(&content).unwrap_or_default();
        let revision = Sha256::digest(bytes).iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        Self { pod: common(pool, config, &pool.uid), pool: pool.key.pool.clone(), revision }
    }

    /// The pod with an ordinal.
    #[must_use]
    pub fn pod(&self, ordinal: u32) -> Pod {
        let mut pod = self.pod.clone();
        pod.metadata.name = Some(names::agent(&self.pool, ordinal));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(labels::ORDINAL.to_owned(), ordinal.to_string());
        labels.insert(labels::REVISION.to_owned(), self.revision.clone());
        pod
    }
}

/// The pod of any ordinal. The key is for its hooks.
fn common(pool: &Validated<'_>, config: &Config, key: &str) -> Pod {
    let template = pool.pool.spec.template.metadata.clone().unwrap_or_default();
    let mut metadata = meta(pool, None);
    let mut all = template.labels.unwrap_or_default();
    // The user may call the application by its own name; what we find our pods by is ours.
    for (key, value) in metadata.labels.take().unwrap_or_default() {
        if key == labels::APP_NAME || key == labels::APP_INSTANCE {
            all.entry(key).or_insert(value);
        } else {
            all.insert(key, value);
        }
    }
    metadata.labels = Some(all);
    let mut annotations = template.annotations.unwrap_or_default();
    let agent = &pool.pod.containers[pool.container].name;
    for (key, value) in [
        ("kubectl.kubernetes.io/default-container", agent.as_str()),
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "7801"),
        ("prometheus.io/path", "/metrics"),
    ] {
        annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    metadata.annotations = Some(annotations);

    let mut spec = pool.pod.clone();
    let drain = i64::from(pool.pool.spec.drain_timeout_seconds);
    spec.restart_policy = Some("Always".to_owned());
    spec.service_account_name = Some(pool.service_account().0);
    spec.service_account = None;
    spec.automount_service_account_token.get_or_insert(false);
    spec.termination_grace_period_seconds.get_or_insert(drain + EXIT_SECONDS);
    spec.security_context.get_or_insert_with(|| PodSecurityContext {
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    });
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        container.security_context.get_or_insert_with(restricted);
    }
    for (place, container) in spec.containers.iter_mut().enumerate() {
        if place == pool.container {
            complete_agent(container, key);
        }
    }
    // The last of the init containers: it needs none of the others, and stays when they have ended.
    spec.init_containers.get_or_insert_default().push(sidecar(pool, config, key));
    Pod { metadata, spec: Some(spec), status: None }
}

/// Gives the agent's container what it lacks: the address of its sidecar, a probe that restarts it when it
/// hangs, and a hook that lets it end its work before it is told to end.
fn complete_agent(container: &mut Container, key: &str) {
    let env = container.env.get_or_insert_default();
    if !env.iter().any(|variable| variable.name == "SKEIN_URL") {
        env.push(plain("SKEIN_URL", LOCAL_API));
    }
    container.liveness_probe.get_or_insert_with(|| Probe {
        http_get: Some(get("/agent/livez")),
        period_seconds: Some(5),
        timeout_seconds: Some(3),
        failure_threshold: Some(2),
        // An agent that hangs does not end by itself, and the pod's own time is for work that goes on.
        termination_grace_period_seconds: Some(HANGING_EXIT_SECONDS),
        ..Probe::default()
    });
    container.lifecycle.get_or_insert_with(Lifecycle::default).pre_stop.get_or_insert_with(|| hook("/agent/drain", key));
}

fn sidecar(pool: &Validated<'_>, config: &Config, key: &str) -> Container {
    let spec = &pool.pool.spec;
    let agent = &spec.agent;
    let mut env = vec![
        plain("SKEIN_NATS_URL", &config.agent_nats_url),
        field("SKEIN_NAMESPACE", "metadata.namespace"),
        plain("SKEIN_POOL", &pool.key.pool),
        field("SKEIN_AGENT", "metadata.name"),
        field("SKEIN_POD_UID", "metadata.uid"),
    ];
    env.extend(agent.port.map(|port| plain("SKEIN_AGENT_PORT", &port.to_string())));
    env.extend([
        plain("SKEIN_AGENT_PATH", &agent.path),
        plain("SKEIN_AGENT_HEALTH_PATH", &agent.health_path),
        plain("SKEIN_CONCURRENCY", &agent.concurrency.to_string()),
        plain("SKEIN_TIMEOUT_SECONDS", &agent.timeout_seconds.to_string()),
        plain("SKEIN_HEARTBEAT_SECONDS", &spec.health.heartbeat_seconds.to_string()),
        plain("SKEIN_DRAIN_TIMEOUT_SECONDS", &spec.drain_timeout_seconds.to_string()),
        plain("SKEIN_HOOK_KEY", key),
    ]);
    let amounts = |all: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        all.iter().map(|(resource, amount)| ((*resource).to_owned(), Quantity((*amount).to_owned()))).collect()
    };
    Container {
        name: SIDECAR_CONTAINER.to_owned(),
        image: Some(config.sidecar_image.clone()),
        image_pull_policy: Some(config.sidecar_image_pull_policy.clone()),
        args: Some(vec!["sidecar".to_owned()]),
        restart_policy: Some("Always".to_owned()),
        env: Some(env),
        ports: Some(vec![ContainerPort {
            name: Some("skein-admin".to_owned()),
            container_port: ADMIN_PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        // The agent starts once its sidecar serves. Readiness cannot be asked for here: it waits for the
        // agent.
        startup_probe: Some(probe("/livez", 1, 60)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        // The kubelet runs the hooks of all containers at once, and ends this one last.
        lifecycle: Some(Lifecycle { pre_stop: Some(hook("/pod/end", key)), ..Lifecycle::default() }),
        resources: Some(ResourceRequirements {
            requests: Some(amounts(&[("cpu", "10m"), ("memory", "16Mi")])),
            limits: Some(amounts(&[("memory", "128Mi")])),
            claims: None,
        }),
        security_context: Some(SecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NOBODY),
            run_as_group: Some(NOBODY),
            read_only_root_filesystem: Some(true),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..restricted()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// The service account of a pool's agents. It may do nothing, and no token of it is mounted.
#[must_use]
pub fn service_account(pool: &Validated<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: meta(pool, Some(names::service_account(&pool.key.pool))),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// The disruption budget of a pool.
#[must_use]
pub fn disruption_budget(pool: &Validated<'_>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: meta(pool, Some(names::disruption_budget(&pool.key.pool))),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(i32::try_from(pool.max_unavailable).unwrap_or(i32::MAX))),
            selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([(labels::POOL.to_owned(), pool.key.pool.clone())])),
                match_expressions: None,
            }),
            // An agent that is not ready does no work: it may not hold up the drain of its node.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

fn meta(pool: &Validated<'_>, name: Option<String>) -> ObjectMeta {
    ObjectMeta {
        name,
        namespace: Some(pool.key.namespace.clone()),
        labels: Some(labels::of_pool(&pool.key.pool)),
        owner_references: pool.pool.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn get(path: &str) -> HTTPGetAction {
    HTTPGetAction { path: Some(path.to_owned()), port: IntOrString::Int(ADMIN_PORT), ..HTTPGetAction::default() }
}

/// A hook that the sidecar hears. The key is what others that reach its port do not know.
fn hook(path: &str, key: &str) -> LifecycleHandler {
    LifecycleHandler { http_get: Some(get(&format!("{path}?key={key}"))), ..LifecycleHandler::default() }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(get(path)),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn plain(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

fn field(name: &str, path: &str) -> EnvVar {
    let source = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(EnvVarSource { field_ref: Some(source), ..EnvVarSource::default() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::check::tests::pool;
    use crate::controller::agent_pool::testing::config;
    use crate::controller::agent_pool::validate::validate;
    use pretty_assertions::assert_eq;
    use serde::Serialize;
    use serde_json::{Value, json};

    /// Compares a whole object with the file that states it. `UPDATE=1 cargo test` writes the files anew;
    /// read the difference before committing it: each changes every agent of every cluster.
    fn golden(file: &str, object: &impl Serialize) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/agent_pool").join(file);
        let built = serde_yaml_ng::to_string(object).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &built).unwrap();
        }
        let stated = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}: run with UPDATE=1", path.display()));
        assert_eq!(stated, built, "{file} is not what is built");
    }

    fn elaborate(spec: &mut Value) {
        spec["capabilities"] = json!(["code.review"]);
        spec["agent"] = json!({"container": "agent", "concurrency": 4, "timeoutSeconds": 300});
        spec["drainTimeoutSeconds"] = json!(60);
        spec["updateStrategy"] = json!({"maxUnavailable": 2});
        spec["template"] = json!({
            "metadata": {"labels": {"app.kubernetes.io/name": "coder", "team": "blue"}, "annotations": {"prometheus.io/scrape": "false"}},
            "spec": {
                "serviceAccountName": "robot",
                "automountServiceAccountToken": true,
                "terminationGracePeriodSeconds": 45,
                "nodeSelector": {"disk": "ssd"},
                "securityContext": {"runAsUser": 1000},
                "initContainers": [{"name": "fetch", "image": "example/fetch:1"}],
                "containers": [
                    {"name": "model", "image": "example/model:1", "securityContext": {"runAsUser": 0}},
                    {"name": "agent", "image": "example/coder:1", "env": [{"name": "SKEIN_URL", "value": "http://localhost:7800"}],
                        "livenessProbe": {"tcpSocket": {"port": 9}}, "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}},
                ],
            },
        });
    }

    #[test]
    fn what_is_built_of_a_minimal_pool() {
        let pool = pool(|_| {});
        let valid = validate(&pool).unwrap();
        golden("minimal-pod.yaml", &Agents::new(&valid, &config()).pod(2));
        golden("minimal-service-account.yaml", &service_account(&valid));
        golden("minimal-disruption-budget.yaml", &disruption_budget(&valid));
    }

    /// A regression here overrides what the user asked for.
    #[test]
    fn what_is_built_of_a_pool_that_says_everything_itself() {
        let pool = pool(elaborate);
        let valid = validate(&pool).unwrap();
        golden("elaborate-pod.yaml", &Agents::new(&valid, &config()).pod(0));
        golden("elaborate-disruption-budget.yaml", &disruption_budget(&valid));
        assert_eq!(valid.service_account(), ("robot".to_owned(), false));
    }

    /// A regression here restarts every agent for nothing, or leaves agents as they were.
    #[test]
    fn the_revision_is_that_of_the_pods_and_of_nothing_else() {
        let revision = |change: &dyn Fn(&mut Value), config: &Config| {
            let pool = pool(|spec| change(spec));
            Agents::new(&validate(&pool).unwrap(), config).revision
        };
        let base = revision(&|_| {}, &config());
        assert_eq!(base.len(), 10);
        assert_eq!(revision(&|spec| spec["replicas"] = json!(7), &config()), base);
        assert_eq!(revision(&|spec| spec["supervision"] = json!({"maxRestarts": 1}), &config()), base);
        assert_ne!(revision(&|spec| spec["agent"]["port"] = json!(9090), &config()), base);
        let mut again = pool(|_| {});
        again.metadata.uid = Some("another".to_owned());
        assert_eq!(Agents::new(&validate(&again).unwrap(), &config()).revision, base, "the same pool, made again");
        assert_ne!(revision(&|_| {}, &Config { sidecar_image: "example/skein:0.2.0".to_owned(), ..config() }), base);
    }

    /// Every variable that the controller sets is one that the sidecar knows: another one would do nothing.
    #[test]
    fn the_sidecar_understands_its_environment() {
        use clap::CommandFactory as _;
        let command = crate::cli::Cli::command();
        let sidecar = command.find_subcommand("sidecar").unwrap();
        let known: Vec<_> = sidecar.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
        let pool = pool(|_| {});
        let built = Agents::new(&validate(&pool).unwrap(), &config()).pod(0).spec.unwrap().init_containers.unwrap().remove(0);
        for variable in built.env.unwrap() {
            assert!(known.contains(&variable.name.as_str()), "{} is no variable of the sidecar", variable.name);
        }
    }
}
