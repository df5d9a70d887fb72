//! What to do about one pool: a pure function of what is there, what is wanted, and the time.
//!
//! # The algorithm
//!
//! Every pod of the pool is in one standing, the first of these that fits:
//!
//! | standing | when |
//! | --- | --- |
//! | `Ending` | it was told to end, by whomever, also by us a moment ago when the watch has not shown it yet |
//! | `Ended` | its phase is final: evicted, failed, lost with its node |
//! | `Silent` | it runs, nothing that the kubelet knows is wrong with it, silences may be believed, and no heartbeat of this very pod came for `stale`; or none ever came and it has run for longer than the start may take |
//! | `Ready` | the kubelet calls it ready |
//! | `Broken` | it is not ready, and it has not started yet or the kubelet or the scheduler says what is wrong |
//! | `Unready` | it runs and is not ready |
//!
//! *Here* are all pods but those that are `Ending`. The steps, each on what the one before has left here:
//!
//! 1. **Surplus.** While more are here than desired, delete: first what has ended, then what is not ready, then the least
//!    busy, then the highest ordinal. A suspended pool desires none.
//! 2. **Rollout.** Of the pods of another revision, delete
//!    * all that are `Ended` or `Broken`, and all of a pool that is in no topology: nothing is lost by it;
//!    * of those that are `Silent` or `Unready`, highest ordinal first, so many that no more than
//!      `max_unavailable` agents are missing or new and not ready;
//!    * of those that are `Ready`, highest ordinal first, so many that no more than `max_unavailable` of
//!      the desired agents are not ready.
//! 3. **Supervision.** Replace those that are `Ended` or `Silent`, lowest ordinal first, each when its
//!    own backoff is over and the pool's budget has room. The rest is held.
//! 4. **Creation.** As many ordinals are picked as agents are missing, counting from 0, without those that
//!    are here. A picked ordinal is created, unless its name is still taken: by a pod of somebody
//!    else, which is left alone and reported, or by one of ours that is ending. For the latter is waited,
//!    so that agents keep their names; but not for longer than [`NAME_WAIT`], nor when it is `Silent`,
//!    as on a lost node: then the ordinal is passed over and the next one picked.
//! 5. **Haste.** A pod that is ending, whose agent has ended its work and yet does not exit, gets no more
//!    than [`LAST_WORDS`].
//!
//! So, by our own doing: no more are deleted in step 1 than there are too many; step 2 never makes fewer
//! than `desired - max_unavailable` ready; no two pods share an ordinal; replacements stay within the
//! budget; and once everything is as wanted, the plan is empty.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

mod model;
#[cfg(test)]
mod tests;

pub use model::{Agent, Deletion, Heard, Observed, Plan, Standing, Target, Why};

/// How long the name of an agent that is ending is waited for.
pub const NAME_WAIT: Duration = Duration::from_secs(30);
/// How long an agent that has ended its work may take to exit, in seconds. Programs that do not listen
/// to SIGTERM would otherwise hold their name until the time for draining is over.
pub const LAST_WORDS: u32 = 30;
/// How long an agent that has ended its work may take before it gets [`LAST_WORDS`].
const LINGERS: Duration = Duration::from_secs(5);
/// How long the first heartbeat of a pod may take at least.
const START: Duration = Duration::from_secs(60);

/// Decides. See the module's documentation.
#[must_use]
pub fn plan(observed: &Observed, target: &Target, now: Timestamp) -> Plan {
    let mut work = Work::new(observed, target, now);
    work.surplus();
    work.rollout();
    work.supervision();
    work.creation();
    work.haste();
    work.alarms();
    work.plan
}

struct Work<'a> {
    observed: &'a Observed,
    target: &'a Target,
    now: Timestamp,
    here: BTreeMap<u32, (&'a Agent, Standing)>,
    plan: Plan,
}

impl<'a> Work<'a> {
    fn new(observed: &'a Observed, target: &'a Target, now: Timestamp) -> Self {
        let standing = |agent: &'a Agent| (agent, agent.standing(target, observed.blind, now));
        let here = observed.agents.iter().map(|(ordinal, agent)| (*ordinal, standing(agent)));
        let here = here.filter(|(_, (_, standing))| *standing != Standing::Ending).collect();
        Self { observed, target, now, here, plan: Plan::default() }
    }

    fn desired(&self) -> usize {
        usize::try_from(self.target.desired).unwrap_or(usize::MAX)
    }

    fn delete(&mut self, ordinal: u32, why: Why) {
        if let Some((agent, _)) = self.here.remove(&ordinal) {
            self.plan.delete.push(Deletion { ordinal, pod: Arc::clone(&agent.pod), why });
        }
    }

    fn again(&mut self, after: Duration) {
        self.plan.again = Some(self.plan.again.map_or(after, |before| before.min(after)));
    }

    fn surplus(&mut self) {
        let mut order: Vec<_> = self
            .here
            .iter()
            .map(|(ordinal, (agent, standing))| {
                let use_of_it = match standing {
                    Standing::Ended | Standing::Ending => 0,
                    Standing::Silent | Standing::Broken | Standing::Unready => 1,
                    Standing::Ready => 2,
                };
                (use_of_it, agent.busy(), Reverse(*ordinal))
            })
            .collect();
        order.sort_unstable();
        let surplus = self.here.len().saturating_sub(self.desired());
        for (_, _, Reverse(ordinal)) in order.into_iter().take(surplus) {
            self.delete(ordinal, Why::Surplus);
        }
    }

    fn rollout(&mut self) {
        let outdated = |work: &Self, wanted: &dyn Fn(Standing) -> bool| -> Vec<u32> {
            let all = work.here.iter().rev();
            let all = all.filter(|(_, (agent, standing))| agent.pod.revision != work.target.revision && wanted(*standing));
            all.map(|(ordinal, _)| *ordinal).collect()
        };
        let member = self.target.member;
        for ordinal in outdated(self, &|standing| !member || matches!(standing, Standing::Ended | Standing::Broken)) {
            self.delete(ordinal, Why::Outdated);
        }
        let max_unavailable = usize::try_from(self.target.max_unavailable).unwrap_or(usize::MAX);
        // A name that somebody else has is missing by nobody's doing here, and must not stop a rollout.
        let wanted = self.desired().saturating_sub(self.picks().iter().filter(|(_, pick)| *pick == Pick::Taken).count());
        let missing = wanted.saturating_sub(self.here.len());
        let new = |(agent, standing): &(&Agent, Standing)| agent.pod.revision == self.target.revision && *standing != Standing::Ready;
        let changing = missing + self.here.values().filter(|here| new(here)).count();
        let room = max_unavailable.saturating_sub(changing);
        let idle = outdated(self, &|standing| matches!(standing, Standing::Silent | Standing::Unready));
        let ready = self.here.values().filter(|(_, standing)| *standing == Standing::Ready).count();
        for ordinal in idle.into_iter().take(room) {
            self.delete(ordinal, Why::Outdated);
        }
        let room = max_unavailable.saturating_sub(wanted.saturating_sub(ready));
        for ordinal in outdated(self, &|standing| standing == Standing::Ready).into_iter().take(room) {
            self.delete(ordinal, Why::Outdated);
        }
    }

    fn supervision(&mut self) {
        let lost: Vec<_> = self
            .here
            .iter()
            .filter_map(|(ordinal, (agent, standing))| {
                let why = match standing {
                    Standing::Ended => Why::Ended,
                    Standing::Silent => Why::Silent,
                    Standing::Ending | Standing::Ready | Standing::Broken | Standing::Unready => return None,
                };
                Some((*ordinal, agent.streak.map_or(Duration::ZERO, |streak| streak.wait(chance(&agent.pod.uid), self.now)), why))
            })
            .collect();
        let budget = self.target.budget;
        let mut recent = self.observed.recent.clone();
        for (ordinal, wait, why) in lost {
            if !wait.is_zero() {
                self.plan.held.push(ordinal);
                self.again(wait);
            } else if budget.left(&recent, self.now) > 0 {
                recent.push(self.now);
                self.delete(ordinal, why);
            } else {
                self.plan.held.push(ordinal);
                self.plan.exhausted = true;
                if let Some(wait) = budget.wait(&recent, self.now) {
                    self.again(wait);
                }
            }
        }
    }

    fn creation(&mut self) {
        for (ordinal, pick) in self.picks() {
            match pick {
                Pick::Free => self.plan.create.push(ordinal),
                Pick::Taken => self.plan.taken.push(ordinal),
                Pick::Later(left) => self.again(left),
            }
        }
    }

    /// The ordinals that the missing agents should have.
    fn picks(&self) -> Vec<(u32, Pick)> {
        let missing = self.desired().saturating_sub(self.here.len());
        let all = (0..).filter(|ordinal| !self.here.contains_key(ordinal)).filter_map(|ordinal| {
            let just_deleted = self.plan.delete.iter().find(|deletion| deletion.ordinal == ordinal);
            let pick = if self.observed.foreign.contains(&ordinal) {
                Pick::Taken
            } else if let Some(deletion) = just_deleted {
                Pick::Later(if deletion.why == Why::Silent { Duration::ZERO } else { NAME_WAIT })
            } else if let Some(agent) = self.observed.agents.get(&ordinal) {
                Pick::Later(self.name_wait(agent))
            } else {
                Pick::Free
            };
            (pick != Pick::Later(Duration::ZERO)).then_some((ordinal, pick))
        });
        all.take(missing).collect()
    }

    /// How much longer the name of an agent that is ending is waited for.
    fn name_wait(&self, agent: &Agent) -> Duration {
        let silent = self.observed.blind.is_none() && agent.silent_in(self.target.stale, self.now).is_some_and(|left| left.is_zero());
        if silent {
            return Duration::ZERO;
        }
        NAME_WAIT.saturating_sub(agent.ending.map_or(Duration::ZERO, |ending| since(ending, self.now)))
    }

    fn haste(&mut self) {
        if !self.target.ends_by_us {
            return;
        }
        let mut again = None;
        for (ordinal, agent) in &self.observed.agents {
            let done = agent.heard.as_ref().is_some_and(|heard| heard.draining && heard.busy == 0);
            let slow = agent.pod.grace_seconds.is_some_and(|grace| grace > i64::from(LAST_WORDS));
            let Some(ending) = agent.pod.ending.filter(|_| done && slow) else { continue };
            let left = LINGERS.saturating_sub(since(ending, self.now));
            if !left.is_zero() {
                again = Some(again.map_or(left, |before: Duration| before.min(left)));
            } else {
                self.plan.delete.push(Deletion { ordinal: *ordinal, pod: Arc::clone(&agent.pod), why: Why::Lingers });
            }
        }
        if let Some(again) = again {
            self.again(again);
        }
    }

    /// Heartbeats make no noise, and so does their absence: somebody must look.
    fn alarms(&mut self) {
        let silent = self.here.values().filter_map(|(agent, _)| agent.silent_in(self.target.stale, self.now));
        let fading = self.here.values().filter_map(|(agent, _)| agent.pod.trouble(self.now)?.fades).map(|at| since(self.now, at));
        let next = silent.map(|left| left.max(self.observed.blind.unwrap_or_default())).chain(fading).filter(|left| !left.is_zero()).min();
        if let Some(next) = next {
            self.again(next.max(Duration::from_secs(1)));
        }
    }
}

/// What becomes of an ordinal that a missing agent should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    /// It is created.
    Free,
    /// Somebody else's pod has the name.
    Taken,
    /// An agent that is ending has the name, for which is waited so long.
    Later(Duration),
}

/// A number between 0 and 1 that is always the same for one pod.
fn chance(uid: &str) -> f64 {
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    f64::from(u32::try_from(hash >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// The time from one moment to a later one; none when it is not later.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    let span: SignedDuration = to.duration_since(from);
    Duration::try_from(span).unwrap_or(Duration::ZERO)
}
