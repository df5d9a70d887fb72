//! The tasks that the agent has in hand.
//!
//! The local API looks up the parent of a task here, and finds the lease of an agent that pulls; health
//! and drain ask how much is left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use super::state::State;
use crate::bus::envelope::{Payload, Task, Trace};

/// What an agent that pulls says of its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It is done.
    Complete(Payload),
    /// It cannot be done.
    Fail {
        /// Why.
        reason: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// It takes longer.
    Progress,
}

/// A task in hand.
#[derive(Clone, Debug)]
pub struct InHand {
    /// The task, without its payload.
    pub task: Task,
    /// How often it has been delivered.
    pub attempt: u32,
    /// The trace context that the agent was given.
    pub trace: Trace,
    /// When the agent has to be done.
    pub until: Instant,
    /// Where an agent that pulls reports; `None` for one that is pushed to.
    pub lease: Option<mpsc::Sender<Report>>,
}

/// The tasks in hand, by id. Cheap to clone.
#[derive(Clone)]
pub struct InFlight {
    tasks: Arc<Mutex<HashMap<String, InHand>>>,
    state: State,
}

/// A task is in hand for as long as this lives.
pub struct Hold {
    id: String,
    of: InFlight,
}

impl InFlight {
    /// Nothing is in hand. Counts itself in `state`.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self { tasks: Arc::default(), state }
    }

    /// Takes a task in hand; `None` when it is already.
    #[must_use]
    pub fn take(&self, in_hand: InHand) -> Option<Hold> {
        let id = in_hand.task.id.clone();
        let count = {
            let mut tasks = self.lock();
            if tasks.contains_key(&id) {
                return None;
            }
            tasks.insert(id.clone(), in_hand);
            tasks.len()
        };
        self.count(count);
        Some(Hold { id, of: self.clone() })
    }

    /// The task of an id, when it is in hand.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<InHand> {
        self.lock().get(id).cloned()
    }

    /// Everything in hand, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<InHand> {
        self.lock().values().cloned().collect()
    }

    /// Whether the agent works on a task whose time has not run out.
    #[must_use]
    pub fn working(&self, now: Instant) -> bool {
        self.lock().values().any(|in_hand| in_hand.until > now)
    }

    fn count(&self, count: usize) {
        self.state.update(|snapshot| snapshot.busy = u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, InHand>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Gives the agent until another time.
    pub fn extend(&self, until: Instant) {
        if let Some(in_hand) = self.of.lock().get_mut(&self.id) {
            in_hand.until = until;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let count = {
            let mut tasks = self.of.lock();
            tasks.remove(&self.id);
            tasks.len()
        };
        self.of.count(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::time::Duration;

    fn in_hand(id: &str, until: Instant) -> InHand {
        let task = Task {
            id: id.into(),
            correlation_id: "c".into(),
            parent_id: None,
            from_pool: "p".into(),
            from_agent: "p-0".into(),
            created: 0,
            deadline: None,
            trace: Trace::default(),
            payload: Payload::default(),
        };
        InHand { task, attempt: 1, trace: Trace::default(), until, lease: None }
    }

    #[test]
    fn a_task_is_in_hand_once_and_for_as_long_as_it_is_held() {
        let state = State::default();
        let in_flight = InFlight::new(state.clone());
        let now = Instant::now();
        let hold = in_flight.take(in_hand("a", now + Duration::from_secs(1))).unwrap();
        assert!(in_flight.take(in_hand("a", now)).is_none(), "the same task may be delivered twice");
        let other = in_flight.take(in_hand("b", now)).unwrap();
        assert_eq!(state.now().busy, 2);
        assert!(in_flight.working(now));
        drop(hold);
        assert!(in_flight.get("a").is_none());
        assert!(!in_flight.working(now), "the time of the other has run out");
        other.extend(now + Duration::from_secs(1));
        assert!(in_flight.working(now));
        drop(other);
        assert_eq!(state.now().busy, 0);
    }
}
