//! The two resources that a user declares, [`AgentPool`] and [`Topology`], and everything that names
//! them in the cluster: conditions, labels, annotations, field managers.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`agent_pool`], [`topology`] | the types; their doc comments are what `kubectl explain` says |
//! | `schema` | what the derived schemas need to become good definitions |
//! | [`rules`] | the rules of the definitions, for whoever asks no API server |
//! | [`check`] | what no definition can say: mistakes in a pod template |
//! | [`condition`] | the one rule by which conditions turn |
//! | [`labels`], [`names`] | everything that Skein writes into metadata, and what its objects are called |
//!
//! Types and pure functions only: no client, no async, no clock.

pub mod agent_pool;
pub mod check;
pub mod condition;
pub mod labels;
pub mod names;
pub mod rules;
mod schema;
pub mod topology;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

pub use agent_pool::{AgentPool, AgentPoolSpec, AgentPoolStatus};
pub use check::Problem;
pub use topology::{Topology, TopologySpec, TopologyStatus};

/// The API group of both resources.
pub const GROUP: &str = "skein.dev";
/// The version of both resources.
pub const VERSION: &str = "v1alpha1";

/// Both custom resource definitions, as committed under `crds/`.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![schema::finish(AgentPool::crd()), schema::finish(Topology::crd())]
}
