//! How a controller goes through its objects: one queue, one reconcile per object at a time, backoff per
//! object that starts again after a success, and error classes that say whether trying again can help.
//!
//! Both controllers run through [`drive`]; what a reconcile does is theirs. Which objects wait for one is
//! [`Requests`]' business.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::Resource;
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config, Error as Failed};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::context::Context;
use super::requests::Requests;
use crate::kubernetes::{self, Class};
use crate::lock::lock;
use crate::resilience::backoff::Backoff;

/// How many objects of one kind are worked on at a time.
const CONCURRENCY: u16 = 16;
/// Without any change, an object is looked at again after this time or up to half as much more. A look
/// at an object where nothing has changed reads stores only.
const RESYNC: Duration = Duration::from_secs(600);
/// How soon to look again after a conflict: the stores will have heard of the other writer by then.
const AFTER_CONFLICT: Duration = Duration::from_millis(200);
/// How long to wait after an error.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), factor: 2.0, max: Duration::from_secs(60), jitter: 0.2 };
/// How long to wait after a refusal: somebody must change something, and we do not learn of everything
/// that can be changed, such as a quota.
const BACKOFF_REFUSED: Backoff = Backoff { first: Duration::from_secs(5), factor: 2.0, max: Duration::from_secs(60), jitter: 0.2 };

/// How a reconcile ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something changes.
    Done,
    /// Look again after this time even when nothing changes.
    After(Duration),
}

impl Outcome {
    /// The same, with a look after this time at the latest.
    #[must_use]
    pub fn sooner(self, after: Option<Duration>) -> Self {
        match (self, after) {
            (outcome, None) => outcome,
            (Self::Done, Some(after)) => Self::After(after),
            (Self::After(before), Some(after)) => Self::After(before.min(after)),
        }
    }
}

/// How a reconcile failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What helps.
    pub class: Class,
    /// What went wrong, in one sentence.
    pub message: String,
    /// When to try again, where the reconcile knows better than the class tells.
    pub after: Option<Duration>,
}

impl Error {
    /// An error of a class.
    #[must_use]
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), after: None }
    }
}

impl From<kubernetes::Error> for Error {
    fn from(error: kubernetes::Error) -> Self {
        Self { class: error.class(), message: error.to_string(), after: None }
    }
}

/// The store and the requests of the kind that a controller is for.
pub type Of<K> = fn(&Context) -> (&Store<K>, &Requests<K>);

/// Works through requests until told to end; then finishes the reconciles that have begun.
///
/// `forget` is told of objects that were asked for and do not exist, so that memory about them can go.
pub async fn drive<K, F, Reconcile>(
    controller: &'static str,
    of: Of<K>,
    context: Arc<Context>,
    shutdown: CancellationToken,
    reconcile: F,
    forget: impl Fn(&Context, &str, &str),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> Reconcile + Send + Sync + Clone + 'static,
    Reconcile: Future<Output = Result<Outcome, Error>> + Send + 'static,
{
    let failures: Arc<Failures<ObjectRef<K>>> = Arc::default();
    let (store, requests) = of(&context);
    let (store, received) = (store.clone(), requests.receive(store));
    let queue = received.map(Ok::<_, std::convert::Infallible>).take_until(shutdown.clone().cancelled_owned());
    let run = {
        let failures = Arc::clone(&failures);
        move |object: Arc<K>, context: Arc<Context>| {
            let (reconcile, failures) = (reconcile.clone(), Arc::clone(&failures));
            let (store, requests) = of(&context);
            let object = requests.begin(store, object);
            let reference = ObjectRef::from_obj(object.as_ref());
            let work = async move {
                let begun = Instant::now();
                let result = reconcile(object, Arc::clone(&context)).await;
                context.metrics.reconciled(controller, begun.elapsed(), result.as_ref().err().map(|e| e.class));
                match result {
                    Ok(outcome) => {
                        failures.clear(&reference);
                        Ok(Action::requeue(match outcome {
                            Outcome::Done => RESYNC.mul_f64(1.0 + rand::random::<f64>() / 2.0),
                            Outcome::After(after) => after,
                        }))
                    }
                    Err(error) => {
                        let wait = failures.wait(reference, error.class, rand::random());
                        let wait = error.after.unwrap_or(wait);
                        Err(Retry { wait, error })
                    }
                }
            };
            // A task of its own, so that one slow object does not hold up the queue's thread; it ends
            // with the controller.
            Box::pin(joined(AbortOnDropHandle::new(tokio::spawn(work.in_current_span()))))
        }
    };
    let results = applier(
        run,
        |_, retry: &Retry, _| Action::requeue(retry.wait),
        Arc::clone(&context),
        store,
        queue,
        Config::default().concurrency(CONCURRENCY),
    );
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        match result {
            Ok(_) => {}
            Err(Failed::ReconcilerFailed(retry, object)) => {
                let (class, seconds) = (retry.error.class.as_str(), retry.wait.as_secs_f64());
                let namespace = object.namespace.as_deref().unwrap_or_default();
                if retry.error.class == Class::Conflict {
                    tracing::debug!(controller, namespace, name = object.name, class, seconds, "{retry}");
                } else {
                    tracing::warn!(controller, namespace, name = object.name, class, seconds, "{retry}");
                }
            }
            Err(Failed::ObjectNotFound(object)) => {
                let reference = ObjectRef::new(&object.name).within(object.namespace.as_deref().unwrap_or_default());
                failures.clear(&reference);
                forget(&context, object.namespace.as_deref().unwrap_or_default(), &object.name);
                let (store, requests) = of(&context);
                requests.missing(store, reference);
            }
            Err(other) => tracing::error!(controller, problem = %other, "the queue of the controller failed"),
        }
    }
}

async fn joined(task: AbortOnDropHandle<Result<Action, Retry>>) -> Result<Action, Retry> {
    task.await.unwrap_or_else(|ended| {
        let error = Error::new(Class::Transient, format!("the reconcile ended before its time: {ended}"));
        Err(Retry { wait: BACKOFF.max, error })
    })
}

#[derive(Debug, thiserror::Error)]
#[error("{error}")]
struct Retry {
    wait: Duration,
    error: Error,
}

/// How often each object failed in a row.
struct Failures<R>(Mutex<HashMap<R, u32>>);

impl<R> Default for Failures<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R: Eq + Hash> Failures<R> {
    fn clear(&self, object: &R) {
        lock(&self.0).remove(object);
    }

    /// Counts a failure, and says how long to wait. `random` is between 0 and 1.
    fn wait(&self, object: R, class: Class, random: f64) -> Duration {
        let mut failures = lock(&self.0);
        let count = failures.entry(object).or_insert(0);
        *count = count.saturating_add(1);
        match class {
            Class::Conflict if *count <= 3 => AFTER_CONFLICT.mul_f64(0.5 + random),
            Class::Conflict | Class::Transient => BACKOFF.after(*count, random),
            Class::Refused => BACKOFF_REFUSED.after(*count, random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_forgets_the_failures_of_that_object_only() {
        let failures = Failures::default();
        let waits: Vec<_> = (0..3).map(|_| failures.wait("a", Class::Transient, 0.5).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000]);
        assert_eq!(failures.wait("b", Class::Refused, 0.5), Duration::from_secs(5));
        failures.clear(&"a");
        assert_eq!(failures.wait("a", Class::Transient, 0.5).as_millis(), 500);
        assert_eq!(failures.wait("b", Class::Refused, 0.5), Duration::from_secs(10));
    }

    #[test]
    fn a_conflict_is_looked_at_again_at_once_but_not_for_ever() {
        let failures = Failures::default();
        let waits: Vec<_> = (0..6).map(|_| failures.wait("a", Class::Conflict, 0.5).as_millis()).collect();
        assert_eq!(waits[..3], [200, 200, 200]);
        assert!(waits[5] > 2000, "{waits:?}");
    }
}
