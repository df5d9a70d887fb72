//! What this process remembers of each pool between two looks: above all the writes that the watches may
//! not have shown yet. All of it may be lost; then the next deletion begins with a list.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::api::{AgentPool, AgentPoolStatus};
use crate::controller::pods::PodFacts;
use crate::controller::roster::PoolKey;
use crate::lock::lock;
use crate::resilience::{Backoff, Streak};

/// How long a creation is believed although no watch shows it: it may have been undone unseen.
pub const UNSEEN: Duration = Duration::from_secs(10);

/// What this process remembers of one pool.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The UID of the pool: one of its name that came later is another one.
    uid: String,
    /// The pods that we told to end and that no watch has shown as ending yet, by UID.
    pub deleted: HashMap<String, Timestamp>,
    /// The pods that we created and that no watch has shown yet.
    pub created: BTreeMap<u32, (Arc<PodFacts>, Instant)>,
    /// The orphaned pods that we adopted and that no watch has shown as ours yet, by UID.
    pub adopted: HashMap<String, Instant>,
    /// The other objects that we made and that no watch has shown yet, by kind.
    pub made: HashMap<&'static str, Instant>,
    /// The ordinals whose name a pod has that carries none of our labels, and since when we know.
    pub taken: BTreeMap<u32, Instant>,
    /// How often agents were replaced in a row.
    pub streaks: BTreeMap<u32, Streak>,
    /// Whether the pods were listed once: a new leader's watch may lag behind what the old leader wrote.
    pub listed: bool,
    /// What the API server refused last.
    pub refused: Option<Refusal>,
    /// When the status was written last.
    pub written: Option<Instant>,
    /// The status as written last, and the version of the pool that the watch showed then.
    status: Option<(Option<String>, AgentPoolStatus)>,
}

/// A refusal of the API server to make pods. Whatever happens to the pool meanwhile, it is not asked again
/// before some time has passed, unless the pool has changed.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Its words; none when the namespace is being deleted, which is nobody's mistake.
    pub words: Option<String>,
    /// How often it refused in a row.
    count: u32,
    /// When to ask again.
    until: Instant,
    /// The generation of the pool that was refused.
    generation: Option<i64>,
}

/// How long to wait after a refusal: somebody must change something, and we do not learn of everything
/// that can be changed, such as a quota.
const REFUSED: Backoff = Backoff { first: Duration::from_secs(5), factor: 2.0, max: Duration::from_secs(60), jitter: 0.2 };

impl Remembered {
    /// Whether we did anything that no watch has shown yet.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        !(self.created.is_empty() && self.adopted.is_empty() && self.taken.is_empty() && self.made.is_empty())
    }

    /// Notes that pods of a pool were refused. `random` is between 0 and 1.
    pub fn refuse(&mut self, words: Option<String>, generation: Option<i64>, random: f64) {
        let before = self.refused.as_ref().filter(|refused| refused.generation == generation);
        let count = before.map_or(0, |refused| refused.count).saturating_add(1);
        self.refused = Some(Refusal { words, count, until: Instant::now() + REFUSED.after(count, random), generation });
    }

    /// The refusal that still holds for a pool, and for how long.
    #[must_use]
    pub fn refusal(&self, generation: Option<i64>) -> Option<(&Refusal, Duration)> {
        let refused = self.refused.as_ref().filter(|refused| refused.generation == generation)?;
        let left = refused.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some((refused, left))
    }

    /// The pool with the status that was written last, when the watch does not show it yet.
    #[must_use]
    pub fn latest<'a>(&self, pool: &'a AgentPool) -> Cow<'a, AgentPool> {
        match &self.status {
            Some((over, status)) if *over == pool.metadata.resource_version => {
                Cow::Owned(AgentPool { status: Some(status.clone()), ..pool.clone() })
            }
            _ => Cow::Borrowed(pool),
        }
    }

    /// Notes that a status was written over a pool as the watch showed it.
    pub fn wrote(&mut self, pool: &AgentPool, status: AgentPoolStatus) {
        self.status = Some((pool.metadata.resource_version.clone(), status));
        self.written = Some(Instant::now());
    }
}

/// What this process remembers, by pool.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<PoolKey, Remembered>>);

impl Memory {
    /// Takes out what is remembered of a pool. One pool is looked at by one reconcile at a time; one that
    /// is cut off leaves nothing behind.
    #[must_use]
    pub fn take(&self, key: &PoolKey, uid: &str) -> Remembered {
        let remembered = lock(&self.0).remove(key);
        remembered.filter(|remembered| remembered.uid == uid).unwrap_or_else(|| Remembered { uid: uid.to_owned(), ..Remembered::default() })
    }

    /// Puts it back.
    pub fn put(&self, key: PoolKey, remembered: Remembered) {
        lock(&self.0).insert(key, remembered);
    }

    /// The pool is gone.
    pub fn forget(&self, key: &PoolKey) {
        lock(&self.0).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A regression here asks a server that refuses again at each change of any pod.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_holds_for_a_while_or_until_the_pool_changes() {
        let mut memory = Remembered::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            memory.refuse(Some("exceeded quota".to_owned()), Some(1), 0.5);
            let left = memory.refusal(Some(1)).unwrap().1;
            assert!(memory.refusal(Some(2)).is_none(), "the pool has changed");
            waits.push(left.as_secs());
            tokio::time::advance(left).await;
            assert!(memory.refusal(Some(1)).is_none());
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        memory.refuse(None, Some(2), 0.5);
        assert_eq!(memory.refusal(Some(2)).unwrap().1, Duration::from_secs(5));
    }

    /// A regression here applies the writes to a pool that was deleted to the one that has its name now.
    #[test]
    fn a_pool_of_the_same_name_is_another_one() {
        let (memory, key) = (Memory::default(), PoolKey::new("work", "coder"));
        let mut first = memory.take(&key, "one");
        first.listed = true;
        memory.put(key.clone(), first);
        assert!(memory.take(&key, "one").listed);
        assert!(!memory.take(&key, "one").listed, "taken out");
        memory.put(key.clone(), Remembered { uid: "one".to_owned(), listed: true, ..Remembered::default() });
        assert!(!memory.take(&key, "two").listed);
    }
}
