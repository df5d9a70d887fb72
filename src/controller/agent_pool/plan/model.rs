//! What a plan is made of and what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{START, since};
use crate::controller::pods::{Phase, PodFacts};
use crate::resilience::{Budget, Streak};

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The pods of the pool, by ordinal.
    pub agents: BTreeMap<u32, Agent>,
    /// The ordinals whose name somebody else's pod has.
    pub foreign: BTreeSet<u32>,
    /// The replacements of late.
    pub recent: Vec<Timestamp>,
    /// How long no silence is believed yet; `None` when silences are true.
    pub blind: Option<Duration>,
}

/// One pod of the pool.
#[derive(Clone, Debug)]
pub struct Agent {
    /// What the API server says of it.
    pub pod: Arc<PodFacts>,
    /// When it was told to end.
    pub ending: Option<Timestamp>,
    /// What it said itself last, if it was this very pod.
    pub heard: Option<Heard>,
    /// How often an agent of this name was replaced in a row.
    pub streak: Option<Streak>,
}

/// What an agent said of itself last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// How long ago.
    pub age: Duration,
    /// The number of tasks that it worked on.
    pub busy: u32,
    /// Whether it takes no new task because it was told to end.
    pub draining: bool,
    /// Whether it said that it is not well.
    pub unhealthy: bool,
    /// Why it is not ready or not well.
    pub reason: Option<String>,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Target {
    /// The number of agents.
    pub desired: u32,
    /// The revision that their pods should be of.
    pub revision: String,
    /// How many may be missing or not ready by our own doing.
    pub max_unavailable: u32,
    /// How long an agent may be silent.
    pub stale: Duration,
    /// How many may be replaced within which time.
    pub budget: Budget,
    /// Whether the pool is a member of a topology: otherwise no agent can be ready, and none has work.
    pub member: bool,
    /// Whether the time for ending is ours: the template sets neither a grace period nor a hook of its own.
    pub ends_by_us: bool,
}

/// How a pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was told to end.
    Ending,
    /// Its phase is final.
    Ended,
    /// It is not heard.
    Silent,
    /// It is ready.
    Ready,
    /// It has not started, or something is known to be wrong with it.
    Broken,
    /// It runs and is not ready.
    Unready,
}

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// There are more than desired.
    Surplus,
    /// It is of another revision.
    Outdated,
    /// Its phase is final. A replacement.
    Ended,
    /// It is not heard. A replacement.
    Silent,
    /// It has ended its work and does not exit.
    Lingers,
}

impl Why {
    /// Whether it counts against the budget.
    #[must_use]
    pub const fn is_replacement(self) -> bool {
        matches!(self, Self::Ended | Self::Silent)
    }
}

/// One pod to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Its ordinal.
    pub ordinal: u32,
    /// The pod as it was seen.
    pub pod: Arc<PodFacts>,
    /// Why.
    pub why: Why,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The ordinals of pods to create.
    pub create: Vec<u32>,
    /// The pods to delete.
    pub delete: Vec<Deletion>,
    /// The ordinals that are wanted and whose name somebody else's pod has.
    pub taken: Vec<u32>,
    /// The ordinals that should be replaced, and are not yet.
    pub held: Vec<u32>,
    /// Whether agents are held because the budget has no room.
    pub exhausted: bool,
    /// When to look again although nothing changes.
    pub again: Option<Duration>,
}

impl Agent {
    /// How the pod stands.
    #[must_use]
    pub fn standing(&self, target: &Target, blind: Option<Duration>, now: Timestamp) -> Standing {
        if self.ending.is_some() {
            Standing::Ending
        } else if matches!(self.pod.phase, Phase::Ended(_)) {
            Standing::Ended
        } else if blind.is_none() && self.silent_in(target.stale, now).is_some_and(|left| left.is_zero()) {
            Standing::Silent
        } else if self.pod.ready {
            Standing::Ready
        } else if self.pod.phase == Phase::Pending || self.pod.trouble(now).is_some() {
            Standing::Broken
        } else {
            Standing::Unready
        }
    }

    /// How long until this agent counts as silent when it goes on saying nothing; `None` when its silence
    /// would mean nothing.
    pub(super) fn silent_in(&self, stale: Duration, now: Timestamp) -> Option<Duration> {
        if self.pod.phase != Phase::Running || self.pod.trouble(now).is_some() {
            return None;
        }
        Some(match &self.heard {
            Some(heard) => stale.saturating_sub(heard.age),
            None => START.max(stale * 2).saturating_sub(since(self.pod.begun, now)),
        })
    }

    pub(super) fn busy(&self) -> u32 {
        self.heard.as_ref().map_or(0, |heard| heard.busy)
    }
}
