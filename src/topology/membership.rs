//! Which topology a pool belongs to. A pool is a member of one topology at most: of all that name it,
//! the oldest has it, and of two that are equally old, the one whose name comes first. So a topology
//! that is added later can take no pool away from a team that works, and when the older one goes, the
//! younger one takes over by itself.

use k8s_openapi::jiff::Timestamp;

use crate::api::Topology;

/// A topology's place in the order in which pools are given away: the smaller one has the pool.
fn seniority(topology: &Topology) -> (Timestamp, &str) {
    // A topology without a creation time has not been stored yet, so it is the youngest.
    let created = topology.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
    (created, topology.metadata.name.as_deref().unwrap_or_default())
}

/// The topology that has this pool. `topologies` are those of the pool's namespace; others are not
/// looked at. One that is being deleted keeps its pools until it is gone: its agents end their work first.
#[must_use]
pub fn owner<'a>(namespace: &str, pool: &str, topologies: impl IntoIterator<Item = &'a Topology>) -> Option<&'a Topology> {
    topologies
        .into_iter()
        .filter(|topology| topology.metadata.namespace.as_deref() == Some(namespace))
        .filter(|topology| topology.spec.members.iter().any(|member| member.pool == pool))
        .min_by_key(|topology| seniority(topology))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topology::Architecture;
    use crate::topology::edges::tests::spec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use pretty_assertions::assert_eq;

    fn topology(namespace: &str, name: &str, created: i64, pools: &[&str]) -> Topology {
        let members: Vec<_> = pools.iter().map(|pool| (*pool, None, &[] as &[&str])).collect();
        let mut topology = Topology::new(name, spec(Architecture::Flat, &members));
        topology.metadata.namespace = Some(namespace.into());
        topology.metadata.creation_timestamp = Some(Time(Timestamp::from_second(created).unwrap()));
        topology
    }

    fn owner_of<'a>(pool: &str, all: &'a [Topology]) -> Option<&'a str> {
        owner("default", pool, all).and_then(|t| t.metadata.name.as_deref())
    }

    /// A regression here lets a new topology take a pool out of a team that works.
    #[test]
    fn the_oldest_topology_has_the_pool_and_the_name_decides_between_equals() {
        let all = [
            topology("default", "young", 30, &["a", "b"]),
            topology("default", "zebra", 10, &["a"]),
            topology("default", "aardvark", 10, &["a"]),
            topology("other", "oldest", 1, &["a", "b", "c"]),
        ];
        assert_eq!(owner_of("a", &all), Some("aardvark"));
        assert_eq!(owner_of("b", &all), Some("young"));
        assert_eq!(owner_of("c", &all), None);
        assert_eq!(owner_of("a", &all[..2]), Some("zebra"));
    }
}
