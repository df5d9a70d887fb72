//! Leader election: of all replicas one holds a `Lease` and acts; the others stand by.
//!
//! The protocol is that of Kubernetes' own components, so `kubectl get lease` shows what one is used to. The
//! leader writes the lease again and again. Who stands by judges by its own clock alone, never by the times in
//! the lease: a lease that has not changed for as long as it lasts has no leader any more.
//!
//! Those that stand by *watch* the lease. So they know to the moment when it changed last, take it as soon as
//! it is given back or is over, and send no request while there is a leader. A watch may fall silent without
//! ending, so they do not trust a silence: they read the lease when no renewal was heard for a while, and
//! before they take it.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{self, Either};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

use super::error::{Error, ask};
use super::lease::{Sighting, Standing, released, taken};

#[cfg(test)]
mod tests;

/// How much later than the end of a lease it is taken at most: several that stand by shall not all try at once.
const JITTER: Duration = Duration::from_millis(250);

/// How long things take in an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease lasts that is not renewed; whole seconds.
    pub lease: Duration,
    /// How long the leader goes on without having been able to renew. Must be less than a lease lasts: who
    /// leads must know that it does not any more before another one begins.
    pub give_up: Duration,
    /// The time between two renewals.
    pub renew: Duration,
}

/// One candidate in the election by one lease. The identity must be that of no other candidate.
#[derive(Clone)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    timing: Timing,
}

/// A lease that is ours.
struct Held {
    lease: Lease,
    /// When it was written, or a little before: it is over for others no sooner than counted from here.
    since: Instant,
}

impl Election {
    /// A candidate.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, timing: Timing) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity: identity.to_owned(), timing }
    }

    /// Waits until the lease is ours, then does the work while renewing it. Gives the lease back once the work
    /// is done.
    ///
    /// `None` when the lease was lost before: the work was dropped where it stood. What it has spawned goes on,
    /// so whoever calls should end its process.
    pub async fn with_lease<F: Future>(&self, work: F) -> Option<F::Output> {
        tracing::info!(lease = self.name, identity = self.identity, "this replica stands by");
        let held = self.acquire().await;
        match future::select(pin!(work), pin!(self.hold(held))).await {
            Either::Left((output, _)) => {
                self.release().await;
                Some(output)
            }
            Either::Right(((), _)) => None,
        }
    }

    /// How long no word of the lease is waited for before it is read.
    fn patience(&self) -> Duration {
        self.timing.renew.mul_f64(1.5)
    }

    /// Waits until the lease is ours.
    async fn acquire(&self) -> Held {
        let mut seen: Option<Sighting> = None;
        loop {
            // Dropped and begun anew when it turns out to be silent.
            let mut changes = pin!(watch_object(self.api.clone(), &self.name).default_backoff());
            let (mut silent, mut broken) = (false, false);
            let mut look = Instant::now() + self.patience();
            while !silent {
                let (found, asked) = tokio::select! {
                    change = changes.next() => match change {
                        Some(Ok(lease)) => {
                            broken = false;
                            (lease, false)
                        }
                        Some(Err(problem)) => {
                            tracing::warn!(lease = self.name, %problem, "the lease cannot be watched; it is read every few seconds instead");
                            broken = true;
                            continue;
                        }
                        None => break,
                    },
                    () = sleep_until(look) => match self.read().await {
                        Ok(lease) => (lease, true),
                        Err(problem) => {
                            tracing::warn!(%problem, "whether there is a leader cannot be told");
                            look = Instant::now() + self.patience();
                            continue;
                        }
                    },
                };
                let now = Instant::now();
                let spec = found.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
                let news = Sighting::update(&mut seen, spec, now);
                silent = asked && news && !broken;
                let standing = seen.as_ref().map_or(Standing::Free, |seen| seen.standing(&self.identity, self.timing.lease, now));
                look = now + self.patience();
                match standing {
                    Standing::HeldFor(left) if left < self.patience() => look = now + left + JITTER.mul_f64(rand::random()),
                    Standing::HeldFor(_) => {}
                    // What a watch says may be old, and then the leader may have renewed since.
                    Standing::Over if !asked => look = now,
                    Standing::Over | Standing::Free => match self.take(found, now).await {
                        Ok(Some(held)) => return held,
                        Ok(None) => {}
                        Err(problem) => tracing::warn!(%problem, "the lease cannot be taken"),
                    },
                }
            }
        }
    }

    /// Takes the lease as it was found. `None` when somebody else was faster.
    async fn take(&self, found: Option<Lease>, since: Instant) -> Result<Option<Held>, Error> {
        let written = match found {
            Some(lease) => self.replace(taken(lease, &self.identity, self.timing.lease, Timestamp::now())).await,
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(LeaseSpec::default()) };
                let lease = taken(lease, &self.identity, self.timing.lease, Timestamp::now());
                ask(|| format!("create the lease {}", self.name), self.api.create(&PostParams::default(), &lease)).await
            }
        };
        match written {
            Ok(lease) => Ok(Some(Held { lease, since })),
            Err(late) if matches!(late.code(), Some(404 | 409)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Renews the lease until it is lost.
    async fn hold(&self, mut held: Held) {
        let mut ticks = interval(self.timing.renew);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await;
        loop {
            let renewed = async {
                ticks.tick().await;
                (Instant::now(), self.renew(&held.lease).await)
            };
            match timeout_at(held.since + self.timing.give_up, renewed).await {
                Ok((since, Ok(Some(lease)))) => held = Held { lease, since },
                Ok((_, Ok(None))) => {
                    tracing::warn!(lease = self.name, "somebody else has taken the lease");
                    return;
                }
                Ok((_, Err(problem))) => tracing::warn!(%problem, "the lease is not renewed"),
                Err(_) => {
                    let seconds = self.timing.give_up.as_secs();
                    tracing::warn!(lease = self.name, seconds, "the lease was not renewed for too long");
                    return;
                }
            }
        }
    }

    /// Writes the lease again. `None` when it is not ours any more.
    async fn renew(&self, held: &Lease) -> Result<Option<Lease>, Error> {
        let again = |lease| taken(lease, &self.identity, self.timing.lease, Timestamp::now());
        match self.replace(again(held.clone())).await {
            Ok(lease) => Ok(Some(lease)),
            Err(gone) if gone.code() == Some(404) => Ok(None),
            // It may still be ours: we may have written it without having heard of it.
            Err(conflict) if conflict.code() == Some(409) => match self.read().await? {
                Some(lease) if self.is_ours(&lease) => self.replace(again(lease)).await.map(Some),
                _ => Ok(None),
            },
            Err(other) => Err(other),
        }
    }

    /// Gives the lease back, so that nobody need wait until it is over. When that fails, it will be over.
    async fn release(&self) {
        let released = match self.read().await {
            Ok(Some(lease)) if self.is_ours(&lease) => self.replace(released(lease)).await.map(|_| ()),
            Ok(_) => return,
            Err(problem) => Err(problem),
        };
        match released {
            Ok(()) => tracing::info!(lease = self.name, "the lease is given back"),
            Err(problem) => tracing::warn!(%problem, "the lease cannot be given back"),
        }
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.identity)
    }

    async fn read(&self) -> Result<Option<Lease>, Error> {
        ask(|| format!("read the lease {}", self.name), self.api.get_opt(&self.name)).await
    }

    /// Writes the lease over the version that it was made of, and no other.
    async fn replace(&self, lease: Lease) -> Result<Lease, Error> {
        ask(|| format!("write the lease {}", self.name), self.api.replace(&self.name, &PostParams::default(), &lease)).await
    }
}
