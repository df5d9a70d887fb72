//! One topology and the pools that it names, out of a cluster or out of files.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::cluster::Cluster;
use super::files::{self, Files};
use super::lint::judge::{Remark, Sound, sound};
use crate::api::{AgentPool, Topology};
use crate::cli::TeamArgs;
use crate::topology::{check, membership};

/// What became of the name of a member.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Member {
    /// The pool is there and belongs to the topology.
    Here(Box<AgentPool>),
    /// There is no such pool, in the cluster or in the files.
    Missing,
    /// The pool belongs to another topology.
    Elsewhere(String),
}

/// A topology that makes sense, and its members by their names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Team {
    pub(super) topology: Topology,
    pub(super) members: BTreeMap<String, Member>,
    /// Whether it comes out of files, which need not hold everything.
    pub(super) drafted: bool,
}

/// Finds a topology. Without a name, the only one of the files.
///
/// # Errors
/// Why there is none, or why it makes no sense, in sentences.
pub(super) async fn find(name: Option<&str>, args: &TeamArgs) -> Result<Team, Vec<String>> {
    if !args.files.is_empty() {
        return in_files(name, files::read(&args.files), args.cluster.namespace.as_deref().unwrap_or("default"));
    }
    let cluster = Cluster::find(&args.cluster).await.map_err(|why| vec![why])?;
    let topologies: Api<Topology> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let pools: Api<AgentPool> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let all = ListParams::default();
    let (topologies, pools) = tokio::join!(topologies.list(&all), pools.list(&all));
    let topologies = topologies.map_err(|error| vec![cluster.explain("list topologies", &error)])?.items;
    let pools = pools.map_err(|error| vec![cluster.explain("list agentpools", &error)])?.items;
    let name = name.unwrap_or_default();
    let Some(topology) = topologies.iter().find(|topology| topology.name_any() == name) else {
        return Err(vec![format!(
            "there is no topology {name:?} in namespace {:?}: `kubectl get topologies -A` lists those that exist",
            cluster.namespace
        )]);
    };
    let problems = check(&topology.spec);
    if !problems.is_empty() {
        let said = |problem: &str| format!("topology {name} is not accepted, and what was accepted before is in force: {problem}");
        return Err(problems.iter().map(|problem| said(&problem.message)).collect());
    }
    Ok(team(topology, &topologies, &pools, false))
}

fn in_files(name: Option<&str>, files: Files, namespace: &str) -> Result<Team, Vec<String>> {
    let Files { documents, unreadable } = files;
    if !unreadable.is_empty() {
        return Err(unreadable);
    }
    let Sound { topologies, pools, errors } = sound(&documents, namespace);
    let fits = |topology: &&Topology| name.is_none_or(|name| topology.name_any() == name);
    let wrong: Vec<_> = errors.iter().filter(|error| is_of(error, name)).map(ToString::to_string).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let found: Vec<_> = topologies.iter().filter(fits).collect();
    let names = || topologies.iter().map(|topology| topology.name_any()).collect::<Vec<_>>().join(", ");
    match (found.as_slice(), name) {
        ([topology], _) => Ok(team(topology, &topologies, &pools, true)),
        ([], _) if topologies.is_empty() => Err(vec!["there is no topology in these files".to_owned()]),
        ([], name) => Err(vec![format!("there is no topology {:?} in these files: they have {}", name.unwrap_or_default(), names())]),
        (_, None) => Err(vec![format!("there are several topologies in these files: name one of {}", names())]),
        (_, Some(name)) => Err(vec![format!("there are several topologies {name:?} in these files: name a namespace")]),
    }
}

/// Whether a mistake is one of the topology that is looked for.
fn is_of(error: &Remark, name: Option<&str>) -> bool {
    error.kind.as_deref() == Some("Topology") && (name.is_none() || error.name.as_deref() == name)
}

fn team(topology: &Topology, topologies: &[Topology], pools: &[AgentPool], drafted: bool) -> Team {
    let namespace = topology.namespace().unwrap_or_default();
    let look = |name: &str| {
        let owner = membership::owner(&namespace, name, topologies).map(|owner| owner.name_any());
        let pool = pools.iter().find(|pool| pool.name_any() == name && pool.namespace().unwrap_or_default() == namespace);
        match (owner, pool) {
            (Some(owner), _) if owner != topology.name_any() => Member::Elsewhere(owner),
            (_, Some(pool)) => Member::Here(Box::new(pool.clone())),
            (_, None) => Member::Missing,
        }
    };
    let members = topology.spec.members.iter().map(|member| (member.pool.clone(), look(&member.pool))).collect();
    Team { topology: topology.clone(), members, drafted }
}

impl Team {
    /// Why nothing can be sent to a member or by it, whatever the topology says; `None` when it can.
    pub(super) fn trouble(&self, pool: &str) -> Option<String> {
        match self.members.get(pool)? {
            Member::Here(_) => None,
            Member::Missing if self.drafted => Some("not in these files".to_owned()),
            Member::Missing => Some("does not exist".to_owned()),
            Member::Elsewhere(other) => Some(format!("belongs to topology {other}")),
        }
    }

    pub(super) fn pool(&self, pool: &str) -> Option<&AgentPool> {
        match self.members.get(pool)? {
            Member::Here(pool) => Some(pool),
            Member::Missing | Member::Elsewhere(_) => None,
        }
    }
}
