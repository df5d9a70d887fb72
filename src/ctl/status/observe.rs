//! Reads the resources that `status` speaks of. Reads only, decides nothing.

use kube::api::{Api, ListParams};

use super::super::cluster::Cluster;
use crate::api::{AgentPool, Topology};

/// The resources of one namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The topologies that were asked for.
    pub(super) topologies: Vec<Topology>,
    /// All pools.
    pub(super) pools: Vec<AgentPool>,
}

/// Reads one topology or all of them, and all pools of the namespace.
///
/// # Errors
/// In one sentence, when the API server refuses or there is no such topology.
pub(super) async fn observe(cluster: &Cluster, topology: Option<&str>) -> Result<Seen, String> {
    let wanted = match topology {
        Some(name) => ListParams::default().fields(&format!("metadata.name={name}")),
        None => ListParams::default(),
    };
    let topologies: Api<Topology> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let pools: Api<AgentPool> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let all = ListParams::default();
    let (topologies, pools) = tokio::join!(topologies.list(&wanted), pools.list(&all));
    let topologies = topologies.map_err(|error| cluster.explain("list topologies", &error))?.items;
    let pools = pools.map_err(|error| cluster.explain("list agentpools", &error))?.items;
    match topology {
        Some(name) if topologies.is_empty() => Err(format!(
            "there is no topology {name:?} in namespace {:?}: `kubectl get topologies -A` lists those that exist",
            cluster.namespace
        )),
        _ => Ok(Seen { topologies, pools }),
    }
}
