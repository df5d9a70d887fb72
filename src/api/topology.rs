//! `Topology`: which pools form a team, and who may send what to whom.

#![allow(unreachable_pub, reason = "KubeSchema repeats each struct inside a function")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A Topology joins pools into a team and says who may send tasks to whom.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "skein.dev",
    version = "v1alpha1",
    kind = "Topology",
    plural = "topologies",
    shortname = "topo",
    category = "skein",
    namespaced,
    status = "TopologyStatus",
    derive = "PartialEq",
    doc = "Topology joins pools into a team, with one durable journal, and says who may send tasks to whom.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63")
        .message(rules::TOPOLOGY_NAME),
    printcolumn(name = "Architecture", type_ = "string", json_path = ".spec.architecture"),
    printcolumn(name = "Pools", type_ = "integer", json_path = ".status.pools", description = "members whose pool exists and belongs to this topology"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyPools", description = "members with at least one ready agent"),
    printcolumn(name = "Edges", type_ = "integer", json_path = ".status.edges"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.architecture != 'Flat' || self.members.all(m, !has(m.manager) && (!has(m.peers) || size(m.peers) == 0))")
    .message(rules::FLAT))]
pub struct TopologySpec {
    /// architecture says who may delegate to whom: Hierarchical (managers and their reports, and the peers that are named), Flat (everybody to everybody), Hybrid (as Hierarchical, and all reports of one manager are peers).
    pub architecture: Architecture,

    /// members are the pools of the team.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["pool".into()]))]
    pub members: Vec<Member>,

    /// delegation says how far a task may be passed on.
    #[serde(default)]
    pub delegation: DelegationSpec,

    /// journal says how the team's one ordered record is stored.
    #[serde(default)]
    pub journal: JournalSpec,
}

/// Who may delegate to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Architecture {
    /// Managers and their reports, and the peers that are named.
    Hierarchical,
    /// Everybody to everybody.
    Flat,
    /// As Hierarchical, and all reports of one manager are peers of each other.
    Hybrid,
}

/// One pool of the team.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// pool is the name of an AgentPool in the namespace of the topology.
    #[schemars(length(min = 1, max = 50))]
    pub pool: String,

    /// manager is the pool that this pool reports to: it may delegate to this pool, and this pool may escalate to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50))]
    pub manager: Option<String>,

    /// peers are pools that this pool exchanges tasks with, in both directions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 50)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub peers: Vec<String>,
}

/// How far a task may be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DelegationSpec {
    /// maxDepth is how often a task may be passed on: a task from outside has depth 0, what is sent on its behalf has depth 1, and so on. Default 8.
    #[serde(default = "default_max_depth")]
    #[schemars(range(min = 1, max = 64))]
    pub max_depth: i32,

    /// cycles says what becomes of a task that would come back to a pool which works on a task that it is part of: Refused, or Allowed, where that pool may wait for itself. Default Refused.
    #[serde(default)]
    pub cycles: Cycles,
}

/// What becomes of a task that would come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Cycles {
    /// It is refused before it is sent.
    #[default]
    Refused,
    /// It is sent; the depth alone ends the circle.
    Allowed,
}

/// How the team's journal is stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.storage == oldSelf.storage").message("journal.storage cannot be changed: the broker cannot move a journal; make a new topology"))]
pub struct JournalSpec {
    /// storage is File or Memory. It cannot be changed. Default File.
    #[serde(default)]
    pub storage: JournalStorage,

    /// replicas is the number of brokers that hold the journal. Default 1.
    #[serde(default = "default_journal_replicas")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: i32,

    /// maxAgeSeconds is how long the journal remembers work that has ended. Work that has not ended is never dropped. Default one week.
    #[serde(default = "default_max_age_seconds")]
    #[schemars(range(min = 60, max = 315_360_000))]
    pub max_age_seconds: i64,

    /// maxBytes is how large the journal may become. Old work that has ended is dropped from three quarters on; a full journal refuses new tasks. The broker sets this much aside. Default 256 MiB.
    #[serde(default = "default_max_bytes")]
    #[schemars(range(min = 1_048_576))]
    pub max_bytes: i64,
}

/// Where a journal is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum JournalStorage {
    /// On the broker's disk.
    #[default]
    File,
    /// In the broker's memory: lost when the broker restarts.
    Memory,
}

/// What the controller has seen of a topology.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologyStatus {
    /// conditions are Accepted, ResolvedRefs, Programmed, Ready and Degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// observedGeneration is the generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// pools is the number of members whose pool exists and belongs to this topology.
    #[serde(default)]
    pub pools: i32,

    /// readyPools is the number of members with at least one ready agent.
    #[serde(default)]
    pub ready_pools: i32,

    /// edges is the number of directed permissions between members.
    #[serde(default)]
    pub edges: i32,

    /// members is what each member is doing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["pool".into()]))]
    pub members: Vec<MemberStatus>,

    /// findings are weaknesses of the team's design: what is allowed, and will cost its owner. The 64 that weigh most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into(), "member".into()]))]
    pub findings: Vec<Finding>,

    /// appliedRevision names the edges that are in force on the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub applied_revision: Option<String>,
}

/// What one member is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// pool is the name of the member.
    #[schemars(length(max = 63))]
    pub pool: String,
    /// ready is the number of ready agents.
    pub ready: i32,
    /// desired is the number of agents that should be.
    pub desired: i32,
}

/// The number of findings that a status holds at most.
pub const MAX_FINDINGS: usize = 64;

/// A weakness of the team's design.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// type is what was found, one CamelCase word.
    #[serde(rename = "type")]
    #[schemars(length(max = 63))]
    pub type_: String,
    /// member is the pool that it was found of; of several, the first.
    #[schemars(length(max = 63))]
    pub member: String,
    /// members are all pools that it concerns.
    #[schemars(length(max = 100), inner(length(max = 63)))]
    pub members: Vec<String>,
    /// message says in one sentence what was found and what it costs.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// remedy is the line of YAML that mends it, or the first of them.
    #[schemars(length(max = 8192))]
    pub remedy: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; to mend it: {}", self.message, self.remedy)
    }
}

impl Default for DelegationSpec {
    fn default() -> Self {
        Self { max_depth: default_max_depth(), cycles: Cycles::default() }
    }
}

impl Default for JournalSpec {
    fn default() -> Self {
        Self {
            storage: JournalStorage::default(),
            replicas: default_journal_replicas(),
            max_age_seconds: default_max_age_seconds(),
            max_bytes: default_max_bytes(),
        }
    }
}

fn default_max_depth() -> i32 {
    8
}
fn default_journal_replicas() -> i32 {
    1
}
fn default_max_age_seconds() -> i64 {
    604_800
}
fn default_max_bytes() -> i64 {
    268_435_456
}
