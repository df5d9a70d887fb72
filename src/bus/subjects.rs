//! Every subject, stream, consumer and key of the bus, in one place.
//!
//! ```text
//! skein.journal.<namespace>.<topology>.task.<to pool>.<from pool>            stored
//! skein.journal.<namespace>.<topology>.result.<to pool>.<to agent>.<from>    stored, then republished as
//! skein.live.<namespace>.<topology>.result.<to pool>.<to agent>.<from>       to whoever waits right now
//! skein.journal.<namespace>.<topology>.cancel.<to pool>.<from pool>          stored: a task is no longer wanted
//! skein.live.<namespace>.<topology>.cancel.<to pool>                         not stored: there is a new one of these
//! skein.journal.<namespace>.<topology>.dead.<pool>                           stored
//! skein.heartbeat.<namespace>.<pool>.<agent>                                 not stored
//! ```
//!
//! Names are DNS labels: they hold no dot, no underscore and no space, so they are tokens of a subject
//! as they are, and a name that starts with an underscore is never a pool's. No subject holds the id
//! of a task: a subject costs the broker memory for as long as its stream lives.

/// The sender of tasks that come from outside the team.
pub const GATEWAY: &str = "_gateway";
/// The key-value bucket in which the controller publishes programs.
pub const PROGRAMS: &str = "skein-programs";
/// The subject that receives every heartbeat of the cluster.
pub const ALL_HEARTBEATS: &str = "skein.heartbeat.*.*.*";

/// A topology on the bus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Team {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub topology: String,
}

impl Team {
    /// A topology of a namespace.
    #[must_use]
    pub fn new(namespace: impl Into<String>, topology: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), topology: topology.into() }
    }

    /// The name of the journal's stream. An underscore is in no name, so no two teams share a stream.
    #[must_use]
    pub fn stream(&self) -> String {
        format!("skein_{}_{}", self.namespace, self.topology)
    }

    /// The team whose journal has this name.
    #[must_use]
    pub fn of_stream(stream: &str) -> Option<Self> {
        let (namespace, topology) = stream.strip_prefix("skein_")?.split_once('_')?;
        Some(Self::new(namespace, topology))
    }

    /// Everything that the journal stores.
    #[must_use]
    pub fn journal(&self) -> String {
        format!("skein.journal.{}.{}.>", self.namespace, self.topology)
    }

    /// Where a task is published.
    #[must_use]
    pub fn task(&self, to_pool: &str, from_pool: &str) -> String {
        format!("skein.journal.{}.{}.task.{to_pool}.{from_pool}", self.namespace, self.topology)
    }

    /// Every task for one pool: the filter of the pool's consumer, whose name is the pool's.
    #[must_use]
    pub fn tasks_for(&self, pool: &str) -> String {
        self.task(pool, "*")
    }

    /// Where the outcome of a task is published, for the agent that sent the task.
    #[must_use]
    pub fn result(&self, to_pool: &str, to_agent: &str, from_pool: &str) -> String {
        format!("skein.journal.{}.{}.result.{to_pool}.{to_agent}.{from_pool}", self.namespace, self.topology)
    }

    /// Every outcome for one agent, as stored.
    #[must_use]
    pub fn results_for(&self, pool: &str, agent: &str) -> String {
        self.result(pool, agent, "*")
    }

    /// Every outcome for one agent, at the moment when it has been stored.
    #[must_use]
    pub fn live_results_for(&self, pool: &str, agent: &str) -> String {
        format!("skein.live.{}.{}.result.{pool}.{agent}.*", self.namespace, self.topology)
    }

    /// What the stream republishes once it is stored, and as what.
    #[must_use]
    pub fn republished(&self) -> (String, String) {
        (
            format!("skein.journal.{}.{}.result.>", self.namespace, self.topology),
            format!("skein.live.{}.{}.result.>", self.namespace, self.topology),
        )
    }

    /// Where it is published that a task is no longer wanted.
    #[must_use]
    pub fn cancellation(&self, to_pool: &str, from_pool: &str) -> String {
        format!("skein.journal.{}.{}.cancel.{to_pool}.{from_pool}", self.namespace, self.topology)
    }

    /// Every cancellation for one pool.
    #[must_use]
    pub fn cancellations_for(&self, pool: &str) -> String {
        self.cancellation(pool, "*")
    }

    /// Where the sidecars of a pool hear that there is a new one.
    #[must_use]
    pub fn live_cancellations_for(&self, pool: &str) -> String {
        format!("skein.live.{}.{}.cancel.{pool}", self.namespace, self.topology)
    }

    /// Where the tasks are copied that a pool could not do.
    #[must_use]
    pub fn dead(&self, pool: &str) -> String {
        format!("skein.journal.{}.{}.dead.{pool}", self.namespace, self.topology)
    }

    /// The key of the team's program for the gateway.
    #[must_use]
    pub fn program_key(&self) -> String {
        format!("team.{}.{}", self.namespace, self.topology)
    }
}

/// The key of a pool's program for its sidecars.
#[must_use]
pub fn pool_program_key(namespace: &str, pool: &str) -> String {
    format!("pool.{namespace}.{pool}")
}

/// Where an agent's heartbeats are published.
#[must_use]
pub fn heartbeat(namespace: &str, pool: &str, agent: &str) -> String {
    format!("skein.heartbeat.{namespace}.{pool}.{agent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_two_teams_never_meet() {
        assert_ne!(Team::new("a-b", "c").stream(), Team::new("a", "b-c").stream());
        assert_eq!(Team::of_stream("skein_a-b_c"), Some(Team::new("a-b", "c")));
        assert_eq!(Team::of_stream("KV_skein-programs"), None);
    }
}
