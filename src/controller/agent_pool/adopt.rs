//! Orphans: what carries the labels of a pool and has nobody who controls it, as after
//! `kubectl delete agentpool --cascade=orphan`. When a pool of that name comes again, they become its own, as
//! those of a ReplicaSet or StatefulSet do.
//!
//! What somebody else controls, and what does not carry the labels, is never touched. Nor is anything adopted
//! by a pool that is being deleted itself, which the store may not show yet: what an owner that has gone
//! controls is deleted by Kubernetes, and those who asked for orphans want to keep them.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use super::apply::CONCURRENCY;
use super::memory::Remembered;
use super::observe::selector;
use crate::api::{AgentPool, labels, names};
use crate::controller::context::Context;
use crate::controller::roster::PoolKey;
use crate::kubernetes::write::{self, Object, Written, controller_uid};
use crate::kubernetes::{Class, Error, read};

/// Whether an object is an orphan that a pool of this name may adopt.
#[must_use]
pub fn is_orphan(object: &ObjectMeta, pool: &str) -> bool {
    let label = |key: &str| object.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    controller_uid(object).is_none()
        && object.deletion_timestamp.is_none()
        && label(labels::MANAGED_BY) == Some(labels::MANAGER)
        && label(labels::POOL) == Some(pool)
}

/// Adopts every orphaned pod of a pool, and says which ordinals they have. `None` when the pool itself is
/// going or gone.
///
/// # Errors
/// When a request failed. What somebody else changed in the meantime is left alone, as a conflict. What could
/// be adopted is, and of several errors that is told which trying again may help against.
pub async fn pods(context: &Context, pool: &AgentPool, key: &PoolKey, memory: &mut Remembered) -> Result<Option<BTreeSet<u32>>, Error> {
    if !stays(context, pool).await? {
        return Ok(None);
    }
    let (mut adopted, mut requests) = (BTreeSet::new(), Vec::new());
    for pod in read::list::<Pod>(&context.client, &key.namespace, &selector(key)).await? {
        let Some(ordinal) = names::ordinal(&key.pool, &pod.name_any()) else { continue };
        if controller_uid(&pod.metadata) == pool.metadata.uid.as_deref() {
            // Adopted before, and the store does not show it yet.
            memory.adopted.insert(pod.uid().unwrap_or_default(), Instant::now());
        } else if is_orphan(&pod.metadata, &key.pool) {
            requests.push(async move { (ordinal, pod.uid().unwrap_or_default(), adopt(context, pool, &pod).await) });
        }
    }
    let mut failed: Option<Error> = None;
    let mut results = futures::stream::iter(requests).buffer_unordered(CONCURRENCY);
    while let Some((ordinal, uid, result)) = results.next().await {
        match result {
            Ok(Written::Done) => {
                memory.adopted.insert(uid, Instant::now());
                adopted.insert(ordinal);
            }
            Err(error) if failed.as_ref().is_none_or(|before| before.class() == Class::Refused) => failed = Some(error),
            Ok(Written::Gone) | Err(_) => {}
        }
    }
    failed.map_or(Ok(Some(adopted)), Err)
}

/// Adopts another object of a pool, unless the pool itself is going or gone.
///
/// # Errors
/// When a request failed, or the object was changed meanwhile, as a conflict.
pub async fn object<K: Object>(context: &Context, pool: &AgentPool, orphan: &K) -> Result<(), Error> {
    if stays(context, pool).await? {
        adopt(context, pool, orphan).await?;
    }
    Ok(())
}

async fn adopt<K: Object>(context: &Context, pool: &AgentPool, orphan: &K) -> Result<Written, Error> {
    match pool.controller_owner_ref(&()) {
        Some(owner) => write::adopt(&context.client, orphan, &owner).await,
        None => Ok(Written::Gone),
    }
}

/// Whether this very pool is there and is not being deleted, asked of the API server itself.
async fn stays(context: &Context, pool: &AgentPool) -> Result<bool, Error> {
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    let now = read::metadata::<AgentPool>(&context.client, &namespace, &name).await?;
    Ok(now.is_some_and(|now| now.uid == pool.metadata.uid && now.deletion_timestamp.is_none()))
}
