//! What this process remembers of each pool between two looks: above all the writes that the watches may
//! not have shown yet. All of it may be lost; then the next deletion begins with a list.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::api::{AgentPool, AgentPoolStatus};
use crate::controller::pods::PodFacts;
use crate::controller::roster::PoolKey;
use crate::resilience::Streak;

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
    /// The other objects that we made and that no watch has shown yet, by kind.
    pub made: HashMap<&'static str, Instant>,
    /// The ordinals whose name a pod has that carries none of our labels, and since when we know.
    pub taken: BTreeMap<u32, Instant>,
    /// How often agents were replaced in a row.
    pub streaks: BTreeMap<u32, Streak>,
    /// Whether the pods were listed once: a new leader's watch may lag behind what the old leader wrote.
    pub listed: bool,
    /// When the status was written last.
    pub written: Option<Instant>,
    /// The status as written last, and the version of the pool that the watch showed then.
    status: Option<(Option<String>, AgentPoolStatus)>,
}

impl Remembered {
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
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        remembered.filter(|remembered| remembered.uid == uid).unwrap_or_else(|| Remembered { uid: uid.to_owned(), ..Remembered::default() })
    }

    /// Puts it back.
    pub fn put(&self, key: PoolKey, remembered: Remembered) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, remembered);
    }

    /// The pool is gone.
    pub fn forget(&self, key: &PoolKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
