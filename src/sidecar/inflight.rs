//! What the agent has in hand: its tasks, and how many there are.
//!
//! The local API looks up the parent of a task here, and finds the lease of an agent that pulls; health,
//! heartbeat and drain ask how much is left. The number changes with every task, so it is no part of
//! [`super::state`], which everybody watches: a task wakes nobody whom it does not concern.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use prometheus::IntGauge;
use tokio::sync::{mpsc, watch};

use crate::bus::envelope::{Payload, Task, Trace};
use crate::lock::lock;

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
    /// The task.
    pub task: Arc<Task>,
    /// How often it has been delivered.
    pub attempt: u32,
    /// The trace context that the agent was given.
    pub trace: Trace,
    /// When the agent has to be done.
    pub until: Instant,
    /// Where an agent that pulls reports; `None` for one that is pushed to.
    pub lease: Option<mpsc::Sender<Report>>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The number of tasks in hand.
    pub busy: u32,
    /// The number of pulls that may still bring a task.
    pub pulling: u32,
}

impl Load {
    /// Whether nothing is in hand, and nothing can come.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.busy == 0 && self.pulling == 0
    }
}

/// The tasks in hand, by id. Cheap to clone.
#[derive(Clone)]
pub struct InFlight(Arc<Inner>);

struct Inner {
    tasks: Mutex<HashMap<String, InHand>>,
    load: watch::Sender<Load>,
    gauge: IntGauge,
}

/// A task is in hand for as long as this lives.
pub struct Hold {
    task: Arc<Task>,
    of: InFlight,
}

/// A pull may bring a task for as long as this lives.
pub struct Pulling(InFlight);

impl InFlight {
    /// Nothing is in hand. Shows the number of tasks in `gauge`.
    #[must_use]
    pub fn new(gauge: IntGauge) -> Self {
        Self(Arc::new(Inner { tasks: Mutex::default(), load: watch::Sender::default(), gauge }))
    }

    /// Takes a task in hand; `None` when it is already.
    #[must_use]
    pub fn take(&self, in_hand: InHand) -> Option<Hold> {
        let task = Arc::clone(&in_hand.task);
        {
            let mut tasks = self.tasks();
            if tasks.contains_key(&task.id) {
                return None;
            }
            tasks.insert(task.id.clone(), in_hand);
        }
        self.0.load.send_modify(|load| load.busy += 1);
        self.0.gauge.inc();
        Some(Hold { task, of: self.clone() })
    }

    /// Begins to pull.
    #[must_use]
    pub fn pulling(&self) -> Pulling {
        self.0.load.send_modify(|load| load.pulling += 1);
        Pulling(self.clone())
    }

    /// The task of an id, when it is in hand.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<InHand> {
        self.tasks().get(id).cloned()
    }

    /// Everything in hand, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<InHand> {
        self.tasks().values().cloned().collect()
    }

    /// Whether the agent works on a task whose time has not run out.
    #[must_use]
    pub fn working(&self, now: Instant) -> bool {
        self.tasks().values().any(|in_hand| in_hand.until > now)
    }

    /// How much there is now.
    #[must_use]
    pub fn load(&self) -> Load {
        *self.0.load.borrow()
    }

    /// Follows how much there is.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Load> {
        self.0.load.subscribe()
    }

    /// Resolves as soon as nothing is in hand and nothing can come.
    pub async fn idle(&self) {
        // The sender lives as long as `self`, so this ends only when it is so.
        let _ = self.watch().wait_for(Load::idle).await;
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, InHand>> {
        lock(&self.0.tasks)
    }
}

impl Hold {
    /// Gives the agent until another time.
    pub fn extend(&self, until: Instant) {
        if let Some(in_hand) = self.of.tasks().get_mut(&self.task.id) {
            in_hand.until = until;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.of.tasks().remove(&self.task.id);
        self.of.0.load.send_modify(|load| load.busy = load.busy.saturating_sub(1));
        self.of.0.gauge.dec();
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.0.0.load.send_modify(|load| load.pulling = load.pulling.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use pretty_assertions::assert_eq;
    use std::time::Duration;

    fn in_flight() -> InFlight {
        InFlight::new(IntGauge::new("tasks", "tasks").unwrap())
    }

    fn in_hand(id: &str, until: Instant) -> InHand {
        let task = Task {
            id: id.into(),
            correlation_id: "c".into(),
            parent_id: None,
            ancestry: vec![],
            from_pool: "p".into(),
            from_agent: "p-0".into(),
            created: 0,
            deadline: None,
            trace: Trace::default(),
            payload: Payload::default(),
        };
        InHand { task: Arc::new(task), attempt: 1, trace: Trace::default(), until, lease: None }
    }

    #[test]
    fn a_task_is_in_hand_once_and_for_as_long_as_it_is_held() {
        let in_flight = in_flight();
        let now = Instant::now();
        let hold = in_flight.take(in_hand("a", now + Duration::from_secs(1))).unwrap();
        assert!(in_flight.take(in_hand("a", now)).is_none(), "the same task may be delivered twice");
        let other = in_flight.take(in_hand("b", now)).unwrap();
        assert_eq!((in_flight.load().busy, in_flight.0.gauge.get()), (2, 2));
        assert!(in_flight.working(now));
        drop(hold);
        assert!(in_flight.get("a").is_none());
        assert!(!in_flight.working(now), "the time of the other has run out");
        other.extend(now + Duration::from_secs(1));
        assert!(in_flight.working(now));
        drop(other);
        assert_eq!((in_flight.load().busy, in_flight.0.gauge.get()), (0, 0));
    }

    /// A drain that ends too early cuts a task off; one that never ends holds its pod for the whole grace
    /// period.
    #[test]
    fn idle_means_that_nothing_is_in_hand_and_nothing_can_come() {
        let in_flight = in_flight();
        assert!(in_flight.idle().now_or_never().is_some());
        let pulling = in_flight.pulling();
        let idle = in_flight.idle();
        futures::pin_mut!(idle);
        assert!(idle.as_mut().now_or_never().is_none(), "a pull may bring a task");
        let hold = in_flight.take(in_hand("a", Instant::now())).unwrap();
        drop(pulling);
        assert!(idle.as_mut().now_or_never().is_none(), "it has brought one");
        drop(hold);
        assert!(idle.now_or_never().is_some());
    }
}
