//! What is there: the stores, the roster, and the writes that the stores do not show yet.
//!
//! Reads memory only. [`list`] is the one request: a reconcile that is the first of its process to delete
//! anything of a pool makes it, because a new leader's watch may lag behind the old leader's writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::memory::{Remembered, UNSEEN};
use super::plan::{Agent, Heard, Observed};
use crate::api::agent_pool::{QueueStatus, RestartStatus};
use crate::api::{AgentPool, labels, names};
use crate::bus::Health;
use crate::controller::context::Context;
use crate::controller::pods::{self, PodFacts};
use crate::controller::roster::PoolKey;
use crate::kubernetes::{self, read};
use crate::topology::membership;

/// Everything that a reconcile knows.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What the plan is made of.
    pub observed: Observed,
    /// The ordinals whose name a pod has that is not ours and is ending: they will be free by themselves.
    pub leaving: BTreeSet<u32>,
    /// The ordinals whose name a pod of this pool has that nobody controls: see [`super::adopt`].
    pub orphans: BTreeSet<u32>,
    /// The topology that the pool is a member of.
    pub topology: Option<String>,
    /// What waits for the pool.
    pub queue: Option<QueueStatus>,
    /// What supervision did.
    pub restarts: RestartStatus,
    /// Whether the controller has lost the bus.
    pub bus_away: bool,
}

/// Looks at one pool. `pods` are those of the store, or listed ones.
#[must_use]
pub fn observe(context: &Context, pool: &AgentPool, key: &PoolKey, memory: &mut Remembered, pods: &[Arc<PodFacts>]) -> Seen {
    let stale = Duration::from_secs(u64::try_from(pool.spec.health.stale_seconds).unwrap_or(30));
    let heard: BTreeMap<String, _> =
        context.roster.pool(&key.namespace, &key.pool).into_iter().map(|seen| (seen.heartbeat.agent.clone(), seen)).collect();
    let hear = |pod: &PodFacts| {
        let seen = heard.get(&pod.name).filter(|seen| seen.heartbeat.pod_uid == pod.uid)?;
        Some(Heard {
            age: seen.age,
            busy: seen.heartbeat.busy,
            draining: seen.heartbeat.draining,
            unhealthy: seen.heartbeat.health == Health::Unhealthy,
            reason: seen.heartbeat.reason.clone(),
        })
    };
    let restarts = pool.status.as_ref().and_then(|status| status.restarts.clone()).unwrap_or_default();
    let mut seen = merge(key, &pool.uid().unwrap_or_default(), memory, pods, hear);
    seen.observed.recent = restarts.recent.iter().map(|time| time.0).collect();
    seen.observed.blind = context.roster.blind(stale);
    // A roster that has not lost the bus believes silences of no length at all.
    seen.bus_away = context.roster.blind(Duration::ZERO).is_some();
    let topologies = context.stores.topologies.state();
    seen.topology = membership::owner(&key.namespace, &key.pool, topologies.iter().map(AsRef::as_ref)).map(|topology| topology.name_any());
    seen.queue = context.queue(key);
    seen.restarts = restarts;
    seen
}

/// Lists the pods of a pool, and notes what the store does not show yet.
///
/// # Errors
/// When the API server could not be asked.
pub async fn list(
    context: &Context,
    key: &PoolKey,
    memory: &mut Remembered,
    now: Timestamp,
) -> Result<Vec<Arc<PodFacts>>, kubernetes::Error> {
    let listed = read::list::<Pod>(&context.client, &key.namespace, &selector(key)).await?;
    let listed: Vec<_> = listed.into_iter().filter_map(|pod| pods::facts(&pod.into())).map(|(_, facts)| Arc::new(facts)).collect();
    note_lag(key, memory, &context.stores.pods.of(key), &listed, now);
    Ok(listed)
}

/// Finds all pods that carry the labels of a pool.
pub(super) fn selector(key: &PoolKey) -> String {
    format!("{}={},{}", labels::MANAGED_BY, labels::MANAGER, labels::selector_of_pool(&key.pool))
}

/// Notes what a listing shows and the store does not: pods that are ending or gone, and pods that are new.
fn note_lag(key: &PoolKey, memory: &mut Remembered, store: &[Arc<PodFacts>], listed: &[Arc<PodFacts>], now: Timestamp) {
    for pod in store.iter().filter(|pod| pod.ending.is_none()) {
        if !listed.iter().any(|other| other.uid == pod.uid && other.ending.is_none()) {
            memory.deleted.insert(pod.uid.clone(), now);
        }
    }
    for pod in listed {
        let Some(ordinal) = names::ordinal(&key.pool, &pod.name) else { continue };
        if !store.iter().any(|other| other.uid == pod.uid) {
            memory.created.insert(ordinal, (Arc::clone(pod), Instant::now()));
        }
    }
}

/// Merges pods with the writes that they do not show yet, and forgets the writes that they do show.
fn merge(key: &PoolKey, uid: &str, memory: &mut Remembered, pods: &[Arc<PodFacts>], hear: impl Fn(&PodFacts) -> Option<Heard>) -> Seen {
    let mut seen = Seen::default();
    memory.deleted.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid && pod.ending.is_none()));
    let age = |at: &Instant| Instant::now().saturating_duration_since(*at);
    memory.created.retain(|_, (made, at)| age(at) < UNSEEN && !pods.iter().any(|pod| pod.uid == made.uid));
    memory.adopted.retain(|uid, at| age(at) < UNSEEN && pods.iter().any(|pod| pod.uid == *uid && pod.owner.is_none()));
    memory.taken.retain(|_, at| age(at) < UNSEEN);
    memory.made.retain(|_, at| age(at) < UNSEEN);
    let made = memory.created.values().map(|(pod, _)| pod);
    // In this order, because a pod that was made later has the name now.
    for pod in pods.iter().chain(made) {
        let Some(ordinal) = names::ordinal(&key.pool, &pod.name) else { continue };
        let adopted = pod.owner.is_none() && memory.adopted.contains_key(&pod.uid);
        if pod.owner.as_deref() != Some(uid) && !adopted {
            seen.observed.foreign.insert(ordinal);
            if pod.ending.is_some() {
                seen.leaving.insert(ordinal);
            } else if pod.owner.is_none() {
                seen.orphans.insert(ordinal);
            }
            continue;
        }
        let agent = Agent {
            ending: pod.ending.or_else(|| memory.deleted.get(&pod.uid).copied()),
            heard: hear(pod),
            streak: memory.streaks.get(&ordinal).copied(),
            pod: Arc::clone(pod),
        };
        seen.observed.agents.insert(ordinal, agent);
    }
    for ordinal in memory.taken.keys() {
        if !seen.observed.agents.contains_key(ordinal) {
            seen.observed.foreign.insert(*ordinal);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::pods::Phase;
    use pretty_assertions::assert_eq;

    fn pod(name: &str, uid: &str, owner: &str) -> Arc<PodFacts> {
        Arc::new(PodFacts {
            name: name.to_owned(),
            uid: uid.to_owned(),
            owner: Some(owner.to_owned()),
            revision: "r".to_owned(),
            begun: Timestamp::UNIX_EPOCH,
            ending: None,
            grace_seconds: None,
            phase: Phase::Running,
            ready: true,
            trouble: None,
        })
    }

    fn key() -> PoolKey {
        PoolKey::new("work", "coder")
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_900_000_000).unwrap()
    }

    fn look(memory: &mut Remembered, pods: &[Arc<PodFacts>]) -> Seen {
        merge(&key(), "pool", memory, pods, |_| None)
    }

    /// A regression here deletes a second agent because the watch has not shown yet that the first one ends.
    #[tokio::test(start_paused = true)]
    async fn a_deletion_counts_until_the_watch_shows_it() {
        let mut memory = Remembered::default();
        memory.deleted.insert("u1".to_owned(), now());
        let store = [pod("coder-0", "u0", "pool"), pod("coder-1", "u1", "pool")];
        assert_eq!(look(&mut memory, &store).observed.agents[&1].ending, Some(now()));
        assert_eq!(look(&mut memory, &store[..1]).observed.agents.len(), 1);
        assert!(memory.deleted.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_creation_counts_until_the_watch_shows_it_or_it_has_been_too_long() {
        let mut memory = Remembered::default();
        let new = pod("coder-1", "new", "pool");
        memory.created.insert(1, (Arc::clone(&new), Instant::now()));
        let old = pod("coder-1", "old", "pool");
        assert_eq!(look(&mut memory, std::slice::from_ref(&old)).observed.agents[&1].pod.uid, "new", "the name has been free in between");
        tokio::time::advance(UNSEEN).await;
        assert_eq!(look(&mut memory, &[]).observed.agents.len(), 0);
        memory.created.insert(1, (new.clone(), Instant::now()));
        look(&mut memory, &[new]);
        assert!(memory.created.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn pods_of_others_are_seen_as_such() {
        let mut memory = Remembered::default();
        memory.taken.insert(3, Instant::now());
        let mut leaving = (*pod("coder-1", "x", "former pool")).clone();
        leaving.ending = Some(now());
        let seen = look(&mut memory, &[pod("coder-0", "u", "somebody"), Arc::new(leaving), pod("coder-x", "y", "pool")]);
        assert_eq!(seen.observed.foreign, BTreeSet::from([0, 1, 3]));
        assert_eq!(seen.leaving, BTreeSet::from([1]));
        assert_eq!(seen.orphans, BTreeSet::new());
        assert!(seen.observed.agents.is_empty());
    }

    /// A regression here makes a second agent of a name, or adopts a pod again and again.
    #[tokio::test(start_paused = true)]
    async fn an_adoption_counts_until_the_watch_shows_it_or_it_has_been_too_long() {
        let mut memory = Remembered::default();
        let orphan = |ending| Arc::new(PodFacts { owner: None, ending, ..(*pod("coder-0", "u", "")).clone() });
        let ending = look(&mut memory, &[orphan(Some(now()))]);
        assert_eq!((ending.orphans, ending.leaving), (BTreeSet::new(), BTreeSet::from([0])));
        assert_eq!(look(&mut memory, &[orphan(None)]).orphans, BTreeSet::from([0]));
        memory.adopted.insert("u".to_owned(), Instant::now());
        let seen = look(&mut memory, &[orphan(None)]);
        assert!(seen.orphans.is_empty() && seen.observed.foreign.is_empty() && seen.observed.agents.contains_key(&0));
        tokio::time::advance(UNSEEN).await;
        assert_eq!(look(&mut memory, &[orphan(None)]).orphans, BTreeSet::from([0]));
        memory.adopted.insert("u".to_owned(), Instant::now());
        assert!(look(&mut memory, &[pod("coder-0", "u", "pool")]).observed.agents.contains_key(&0));
        assert!(memory.adopted.is_empty());
    }

    /// A regression here lets a new leader delete on top of what the old one has deleted.
    #[tokio::test(start_paused = true)]
    async fn what_a_listing_shows_and_the_store_does_not_is_remembered() {
        let mut memory = Remembered::default();
        let mut ending = (*pod("coder-1", "u1", "pool")).clone();
        ending.ending = Some(now());
        let store = [pod("coder-0", "u0", "pool"), pod("coder-1", "u1", "pool"), pod("coder-2", "u2", "pool")];
        let listed = [store[0].clone(), Arc::new(ending), pod("coder-3", "u3", "pool")];
        note_lag(&key(), &mut memory, &store, &listed, now());
        let seen = look(&mut memory, &store);
        let here: Vec<_> = seen.observed.agents.iter().filter(|(_, agent)| agent.ending.is_none()).map(|(n, _)| *n).collect();
        assert_eq!(here, [0, 3]);
    }
}
