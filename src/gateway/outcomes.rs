//! Waits for the outcomes of tasks, of those that this replica has sent and of those that another has.
//!
//! The outcomes of a replica's own tasks come to it alone. To those of all replicas it listens only while
//! somebody waits for one, because they are everybody's traffic.

use std::sync::{Arc, Mutex, Weak};

use crate::bus::nats::{Bus, Results, Waiting};
use crate::bus::subjects::GATEWAY;
use crate::bus::{Task, TaskResult, Team};
use crate::lock::lock;

/// The outcomes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outcomes {
    bus: Bus,
    identity: String,
    own: Results,
    of_all: Arc<Mutex<Weak<Results>>>,
}

/// The outcome of one task, some day; and the listening that it needs.
pub(super) struct Expected {
    waiting: Waiting,
    _listening: Option<Arc<Results>>,
}

impl Expected {
    /// Waits.
    pub(super) async fn outcome(self) -> TaskResult {
        self.waiting.await
    }
}

impl Outcomes {
    pub(super) fn new(bus: &Bus, identity: &str) -> Self {
        let own = Results::start(bus, GATEWAY, identity);
        Self { bus: bus.clone(), identity: identity.to_owned(), own, of_all: Arc::default() }
    }

    /// The outcome of a task that somebody has sent, or that this replica is about to send.
    pub(super) fn expect(&self, team: &Team, task: &Task) -> Expected {
        if task.from_agent == self.identity {
            return Expected { waiting: self.own.expect(team, &task.id), _listening: None };
        }
        let listening = {
            let mut of_all = lock(&self.of_all);
            of_all.upgrade().unwrap_or_else(|| {
                let listening = Arc::new(Results::start(&self.bus, GATEWAY, "*"));
                *of_all = Arc::downgrade(&listening);
                listening
            })
        };
        Expected { waiting: listening.expect(team, &task.id), _listening: Some(listening) }
    }
}
