//! The two resources that a user declares, [`AgentPool`] and [`Topology`], and everything that names
//! them in the cluster: conditions, labels, annotations, field managers.
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
