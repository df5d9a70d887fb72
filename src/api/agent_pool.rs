//! `AgentPool`: interchangeable agents that run one program.

#![allow(unreachable_pub, reason = "KubeSchema repeats each struct inside a function")]

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{rules, schema};

/// An AgentPool runs a number of interchangeable agents from one pod template. Each agent is a pod with a stable name, `<pool>-<ordinal>`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "skein.dev",
    version = "v1alpha1",
    kind = "AgentPool",
    plural = "agentpools",
    shortname = "ap",
    category = "skein",
    namespaced,
    status = "AgentPoolStatus",
    derive = "PartialEq",
    doc = "AgentPool runs a number of interchangeable agents from one pod template. Each agent is a pod with a stable name, <pool>-<ordinal>.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 50")
        .message(rules::POOL_NAME),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "agents that are ready on the bus"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas", description = "agents that should be"),
    printcolumn(name = "Busy", type_ = "integer", json_path = ".status.busyReplicas", description = "agents that work on a task"),
    printcolumn(name = "Queue", type_ = "integer", json_path = ".status.queue.pending", description = "tasks that wait for an agent"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "why the pool is ready or not"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Topology", type_ = "string", json_path = ".status.topology", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct AgentPoolSpec {
    /// replicas is the number of agents. Default 1.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: i32,

    /// capabilities are what the agents can do. A task may be sent to a capability instead of a pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub capabilities: Vec<String>,

    /// template describes the pods, as in a Deployment. Skein adds its sidecar, probes and identity.
    #[schemars(schema_with = "schema::pod_template")]
    pub template: PodTemplateSpec,

    /// agent says how the agent in the pod is reached and how much work it takes.
    #[serde(default)]
    pub agent: AgentSpec,

    /// health says how often an agent is heard and when its silence means that it is lost.
    #[serde(default)]
    pub health: HealthSpec,

    /// queue says how tasks wait for this pool.
    #[serde(default)]
    pub queue: QueueSpec,

    /// supervision is the budget for replacing agents.
    #[serde(default)]
    pub supervision: SupervisionSpec,

    /// updateStrategy says how a new template is rolled out.
    #[serde(default)]
    pub update_strategy: UpdateStrategySpec,

    /// drainTimeoutSeconds is how long an agent may go on with its tasks once it is told to end. Default 600.
    #[serde(default = "default_drain_timeout_seconds")]
    #[schemars(range(min = 0, max = 86_400))]
    pub drain_timeout_seconds: i32,

    /// operatingMode Suspended drains and ends all agents and keeps the queue; Running brings them back. Default Running.
    #[serde(default)]
    pub operating_mode: OperatingMode,
}

/// How the agent in the pod is reached and how much work it takes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// container is the name of the agent's container in the template. Default: the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,

    /// port is where the agent listens for tasks. Without a port the agent pulls its tasks from the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,

    /// path is where tasks are POSTed. Default /.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub path: String,

    /// healthPath is asked with GET: 2xx is healthy, 5xx is not; 404, 405 and 501 mean that the agent has no check of its own. Default /healthz.
    #[serde(default = "default_health_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub health_path: String,

    /// concurrency is the number of tasks that one agent works on at a time. Default 1.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: i32,

    /// timeoutSeconds is how long one attempt at a task may take. Default 60.
    #[serde(default = "default_timeout_seconds")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: i32,
}

/// How often an agent is heard and when its silence means that it is lost.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.staleSeconds >= 2 * self.heartbeatSeconds")
    .message(rules::STALE))]
pub struct HealthSpec {
    /// heartbeatSeconds is the time between two heartbeats. Default 5.
    #[serde(default = "default_heartbeat_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub heartbeat_seconds: i32,

    /// staleSeconds is how long an agent may be silent before it is replaced. Default 30.
    #[serde(default = "default_stale_seconds")]
    #[schemars(range(min = 5, max = 3600))]
    pub stale_seconds: i32,
}

/// How tasks wait for this pool.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// maxDeliveries is how often a task is given to an agent before it is dead. Default 3.
    #[serde(default = "default_max_deliveries")]
    #[schemars(range(min = 1, max = 100))]
    pub max_deliveries: i32,
}

/// The budget for replacing agents.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SupervisionSpec {
    /// maxRestarts is how many agents may be replaced within withinSeconds. Beyond, the pool is Degraded and no agent is replaced until it calms down. Default 5.
    #[serde(default = "default_max_restarts")]
    #[schemars(range(min = 0, max = 100))]
    pub max_restarts: i32,

    /// withinSeconds is the length of the window that maxRestarts speaks of. Default 300.
    #[serde(default = "default_within_seconds")]
    #[schemars(range(min = 1, max = 86_400))]
    pub within_seconds: i32,
}

/// How a new template is rolled out.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategySpec {
    /// maxUnavailable is how many agents may be missing at a time while the pool is updated. Default 1.
    #[serde(default = "default_max_unavailable")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_unavailable: i32,
}

/// Whether a pool runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OperatingMode {
    /// Agents run.
    #[default]
    Running,
    /// No agent runs; the queue is kept.
    Suspended,
}

/// What the controller has seen of a pool.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentPoolStatus {
    /// conditions are Accepted, Ready, Progressing and Degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// observedGeneration is the generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// selector finds the pods of this pool; the scale subresource uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub selector: Option<String>,

    /// topology is the topology that this pool is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub topology: Option<String>,

    /// replicas is the number of pods that exist and are not ending.
    #[serde(default)]
    pub replicas: i32,

    /// desiredReplicas is the number of agents that should be: 0 while the pool is suspended.
    #[serde(default)]
    pub desired_replicas: i32,

    /// readyReplicas is the number of agents that are ready on the bus.
    #[serde(default)]
    pub ready_replicas: i32,

    /// updatedReplicas is the number of pods of the newest revision.
    #[serde(default)]
    pub updated_replicas: i32,

    /// busyReplicas is the number of agents that work on a task.
    #[serde(default)]
    pub busy_replicas: i32,

    /// revision names the template that pods are made of now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub revision: Option<String>,

    /// queue is what waits for this pool; absent while the pool is in no topology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,

    /// restarts is what supervision did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<RestartStatus>,
}

/// What waits for a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// pending is the number of tasks that no agent has taken yet.
    pub pending: i64,
    /// inFlight is the number of tasks that an agent works on or that wait for their next attempt.
    pub in_flight: i64,
}

/// What supervision did.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartStatus {
    /// total is the number of agents that were replaced since the pool was made.
    pub total: i64,
    /// recent are the times of the replacements that still count against the budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub recent: Vec<Time>,
}

impl AgentPool {
    /// The number of agents that should be: none while suspended.
    #[must_use]
    pub fn desired_replicas(&self) -> i32 {
        match self.spec.operating_mode {
            OperatingMode::Running => self.spec.replicas.max(0),
            OperatingMode::Suspended => 0,
        }
    }
}

impl Default for AgentSpec {
    fn default() -> Self {
        Self {
            container: None,
            port: None,
            path: default_path(),
            health_path: default_health_path(),
            concurrency: default_concurrency(),
            timeout_seconds: default_timeout_seconds(),
        }
    }
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self { heartbeat_seconds: default_heartbeat_seconds(), stale_seconds: default_stale_seconds() }
    }
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self { max_deliveries: default_max_deliveries() }
    }
}

impl Default for SupervisionSpec {
    fn default() -> Self {
        Self { max_restarts: default_max_restarts(), within_seconds: default_within_seconds() }
    }
}

impl Default for UpdateStrategySpec {
    fn default() -> Self {
        Self { max_unavailable: default_max_unavailable() }
    }
}

fn default_replicas() -> i32 {
    1
}
fn default_path() -> String {
    "/".to_owned()
}
fn default_health_path() -> String {
    "/healthz".to_owned()
}
fn default_concurrency() -> i32 {
    1
}
fn default_timeout_seconds() -> i32 {
    60
}
fn default_heartbeat_seconds() -> i32 {
    5
}
fn default_stale_seconds() -> i32 {
    30
}
fn default_max_deliveries() -> i32 {
    3
}
fn default_max_restarts() -> i32 {
    5
}
fn default_within_seconds() -> i32 {
    300
}
fn default_max_unavailable() -> i32 {
    1
}
fn default_drain_timeout_seconds() -> i32 {
    600
}
