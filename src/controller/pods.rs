//! The pods of all pools, reduced to what the controller must know of each: a whole pod in memory would
//! cost several kilobytes, and ten thousand of them are watched.
//!
//! [`Slim`] is what is read of a pod at all; [`facts`] reduces it; [`Pods`] keeps the facts by pool and is
//! filled by the watch alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Resource;
use kube::runtime::watcher::Event;
use serde::{Deserialize, Deserializer};
use tokio::sync::watch;

use super::roster::PoolKey;
use super::trouble::{self, Trouble};
use crate::api::labels;
use crate::kubernetes::write::controller_uid;
use crate::lock::{read, write};

/// What the controller must know of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Its name: the agent.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The UID of the object that controls it.
    pub owner: Option<String>,
    /// The revision of the template that it was made of.
    pub revision: String,
    /// When the last of its containers was started, or the pod was created while none is.
    pub begun: Timestamp,
    /// When it was told to end.
    pub ending: Option<Timestamp>,
    /// How long it may take to end, in seconds, when it was told to.
    pub grace_seconds: Option<i64>,
    /// How far it is.
    pub phase: Phase,
    /// Whether the kubelet calls it ready.
    pub ready: bool,
    /// What is wrong with it, as the kubelet or the scheduler said; see [`PodFacts::trouble()`].
    pub trouble: Option<Trouble>,
}

/// How far a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all of its containers have been started yet.
    Pending,
    /// Its containers have been started.
    Running,
    /// It has ended for good, and says why: `Evicted`, `Error`, `Completed`.
    Ended(String),
}

impl PodFacts {
    /// What is wrong with the pod now.
    #[must_use]
    pub fn trouble(&self, now: Timestamp) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|trouble| trouble.fades.is_none_or(|at| now < at))
    }
}

/// The part of a pod that facts come from. The rest of what the API server sends, which is most of it, is
/// never put into memory.
#[derive(Clone, Debug, Deserialize)]
pub struct Slim {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    status: Option<PodStatus>,
}

impl From<Pod> for Slim {
    fn from(pod: Pod) -> Self {
        Self { metadata: pod.metadata, status: pod.status }
    }
}

impl Resource for Slim {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(dyntype: &()) -> Cow<'_, str> {
        Pod::kind(dyntype)
    }

    fn group(dyntype: &()) -> Cow<'_, str> {
        Pod::group(dyntype)
    }

    fn version(dyntype: &()) -> Cow<'_, str> {
        Pod::version(dyntype)
    }

    fn plural(dyntype: &()) -> Cow<'_, str> {
        Pod::plural(dyntype)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Reads metadata without annotations and managed fields.
fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        labels: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        deletion_grace_period_seconds: Option<i64>,
    }
    let meta = Meta::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        labels: meta.labels,
        owner_references: meta.owner_references,
        creation_timestamp: meta.creation_timestamp,
        deletion_timestamp: meta.deletion_timestamp,
        deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
        ..ObjectMeta::default()
    })
}

/// Reduces a pod to its pool and facts. `None` when it carries no label of a pool.
#[must_use]
pub fn facts(pod: &Slim) -> Option<(PoolKey, PodFacts)> {
    let meta = &pod.metadata;
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key));
    let key = PoolKey::new(meta.namespace.clone()?, label(labels::POOL)?.clone());
    let status = pod.status.as_ref();
    let phase = match status.and_then(|s| s.phase.as_deref()) {
        Some(ended @ ("Failed" | "Succeeded")) => {
            let reason = status.and_then(|s| s.reason.clone()).filter(|reason| !reason.is_empty());
            Phase::Ended(reason.unwrap_or_else(|| ended.to_owned()))
        }
        Some("Running") => Phase::Running,
        _ => Phase::Pending,
    };
    let ready = status.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready"));
    let grace_seconds = meta.deletion_grace_period_seconds;
    // The API server writes the time by which the pod should be gone, not the time of the request.
    let ending = meta.deletion_timestamp.as_ref().map(|until| {
        let grace = SignedDuration::from_secs(grace_seconds.unwrap_or(0));
        until.0.checked_sub(grace).unwrap_or(until.0)
    });
    let facts = PodFacts {
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        owner: controller_uid(meta).map(str::to_owned),
        revision: label(labels::REVISION).cloned().unwrap_or_default(),
        begun: begun(pod),
        ending,
        grace_seconds,
        phase,
        ready: ready.is_some_and(|c| c.status == "True"),
        trouble: status.and_then(trouble::of),
    };
    Some((key, facts))
}

fn begun(pod: &Slim) -> Timestamp {
    let status = pod.status.as_ref();
    let inits = status.and_then(|status| status.init_container_statuses.as_ref());
    let mains = status.and_then(|status| status.container_statuses.as_ref());
    let containers = inits.into_iter().chain(mains).flatten();
    let started = containers.filter_map(|container| container.state.as_ref()?.running.as_ref()?.started_at.as_ref()).map(|time| time.0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    started.chain(created).max().unwrap_or(Timestamp::UNIX_EPOCH)
}

type ByPool = HashMap<PoolKey, BTreeMap<String, Arc<PodFacts>>>;

/// The facts of all pods, by pool. Clones share them.
#[derive(Clone, Debug)]
pub struct Pods {
    by_pool: Arc<RwLock<ByPool>>,
    complete: watch::Receiver<bool>,
}

/// The one that fills [`Pods`].
#[derive(Debug)]
pub struct Writer {
    by_pool: Arc<RwLock<ByPool>>,
    complete: watch::Sender<bool>,
    listed: ByPool,
}

/// An empty store and its writer.
#[must_use]
pub fn store() -> (Pods, Writer) {
    let (sender, complete) = watch::channel(false);
    let by_pool: Arc<RwLock<ByPool>> = Arc::default();
    (Pods { by_pool: Arc::clone(&by_pool), complete }, Writer { by_pool, complete: sender, listed: ByPool::new() })
}

impl Pods {
    /// The pods of one pool, by name.
    #[must_use]
    pub fn of(&self, key: &PoolKey) -> Vec<Arc<PodFacts>> {
        let by_pool = read(&self.by_pool);
        by_pool.get(key).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Waits until the first listing is complete. Fails when the watch has ended before.
    pub async fn wait_until_ready(&mut self) -> bool {
        self.complete.wait_for(|complete| *complete).await.is_ok()
    }
}

impl Writer {
    /// Takes in what the watch says, and returns the pools of which something changed that matters.
    pub fn apply(&mut self, event: Event<Slim>) -> Vec<PoolKey> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(pod) => {
                if let Some((key, facts)) = facts(&pod) {
                    self.listed.entry(key).or_default().insert(facts.name.clone(), Arc::new(facts));
                }
                Vec::new()
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let mut by_pool = write(&self.by_pool);
                let before = std::mem::replace(&mut *by_pool, listed);
                let mut changed: Vec<PoolKey> = before.keys().filter(|key| !by_pool.contains_key(*key)).cloned().collect();
                changed.extend(by_pool.iter().filter(|(key, pods)| before.get(*key) != Some(*pods)).map(|(key, _)| key.clone()));
                drop(by_pool);
                self.complete.send_replace(true);
                changed
            }
            Event::Apply(pod) => {
                let Some((key, facts)) = facts(&pod) else { return Vec::new() };
                let mut by_pool = write(&self.by_pool);
                let facts = Arc::new(facts);
                let before = by_pool.entry(key.clone()).or_default().insert(facts.name.clone(), Arc::clone(&facts));
                drop(by_pool);
                // The kubelet writes often; most of it tells nothing.
                if before.as_ref() == Some(&facts) { Vec::new() } else { vec![key] }
            }
            Event::Delete(pod) => {
                let Some((key, facts)) = facts(&pod) else { return Vec::new() };
                let mut by_pool = write(&self.by_pool);
                if let Some(pods) = by_pool.get_mut(&key) {
                    pods.remove(&facts.name);
                    if pods.is_empty() {
                        by_pool.remove(&key);
                    }
                }
                vec![key]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn pod(name: &str, version: &str, status: &serde_json::Value) -> Slim {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "work", "uid": format!("uid-{name}"), "resourceVersion": version,
                "labels": {"skein.dev/pool": "coder", "skein.dev/revision": "r1"}},
            "status": status,
        }))
        .unwrap()
    }

    fn key() -> PoolKey {
        PoolKey::new("work", "coder")
    }

    fn names(pods: &Pods) -> Vec<String> {
        pods.of(&key()).iter().map(|p| p.name.clone()).collect()
    }

    /// A regression here reconciles the pool at each of the many writes of the kubelet, or hides from the
    /// controller that a pod became ready.
    #[test]
    fn only_facts_are_news() {
        let (pods, mut writer) = store();
        assert_eq!(writer.apply(Event::Apply(pod("coder-0", "1", &json!({})))), [key()]);
        assert_eq!(writer.apply(Event::Apply(pod("coder-0", "2", &json!({"hostIP": "10.0.0.1"})))), []);
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(writer.apply(Event::Apply(pod("coder-0", "3", &ready))), [key()]);
        assert!(pods.of(&key())[0].ready);
    }

    /// A regression here keeps pods that vanished while the watch was away, so they are never made again.
    #[test]
    fn a_new_listing_replaces_everything_at_once() {
        let (pods, mut writer) = store();
        writer.apply(Event::Apply(pod("coder-0", "1", &json!({}))));
        writer.apply(Event::Init);
        writer.apply(Event::InitApply(pod("coder-1", "2", &json!({}))));
        assert_eq!(names(&pods), ["coder-0"]);
        assert_eq!(writer.apply(Event::InitDone), [key()]);
        assert_eq!(names(&pods), ["coder-1"]);
        writer.apply(Event::Init);
        assert_eq!(writer.apply(Event::InitDone), [key()]);
        assert_eq!(names(&pods), Vec::<String>::new());
    }

    /// A regression here calls an agent lost in the moment in which it starts, because its image took long.
    #[test]
    fn a_pod_begins_when_its_last_container_starts() {
        let started = |at: &str| json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": at}}});
        let status = json!({
            "initContainerStatuses": [started("2030-01-01T00:00:00Z")], "containerStatuses": [started("2030-01-01T00:05:00Z")],
        });
        let (_, facts) = facts(&pod("coder-0", "1", &status)).unwrap();
        assert_eq!(facts.begun, "2030-01-01T00:05:00Z".parse().unwrap());
    }

    #[test]
    fn the_time_of_the_request_to_end_is_read_back() {
        let mut ending = pod("coder-0", "1", &json!({"phase": "Failed", "reason": "Evicted"}));
        ending.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2030-01-01T00:10:30Z")).unwrap());
        ending.metadata.deletion_grace_period_seconds = Some(630);
        let (_, facts) = facts(&ending).unwrap();
        assert_eq!(facts.ending, Some("2030-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(facts.phase, Phase::Ended("Evicted".to_owned()));
    }
}
