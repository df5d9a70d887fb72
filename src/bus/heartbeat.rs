//! The heartbeat of an agent: a core message, not stored, that its sidecar publishes every few seconds.

use serde::{Deserialize, Serialize};

use super::subjects;

/// How well an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Health {
    /// It answers.
    Healthy,
    /// It answers, and says or shows that it does less than it should.
    Degraded,
    /// It does not answer, or says that it is not well.
    Unhealthy,
    /// Nothing is known yet.
    Unknown,
}

/// What a sidecar says of its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// The namespace of the pod.
    pub namespace: String,
    /// The pool.
    pub pool: String,
    /// The agent, which is the name of the pod.
    pub agent: String,
    /// The UID of the pod: an agent of the same name may have been another pod.
    pub pod_uid: String,
    /// The topology whose program the sidecar holds; `None` before it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<String>,
    /// How well the agent is.
    pub health: Health,
    /// Whether the agent takes tasks now.
    pub ready: bool,
    /// Why it is not ready or not healthy, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the agent has been told to end and takes no new task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The number of tasks that it works on.
    pub busy: u32,
    /// The number of tasks that it can work on at a time.
    pub concurrency: u32,
}

impl Heartbeat {
    /// Where it is published.
    #[must_use]
    pub fn subject(&self) -> String {
        subjects::heartbeat(&self.namespace, &self.pool, &self.agent)
    }

    /// Reads a heartbeat off the bus. The subject says who speaks, for it is what the broker can guard; a body
    /// that says something else is no heartbeat.
    #[must_use]
    pub fn read(subject: &str, body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().filter(|heartbeat: &Self| heartbeat.subject() == subject)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    /// What an idle agent that is well says.
    pub(crate) fn beat(pool: &str, agent: &str) -> Heartbeat {
        Heartbeat {
            namespace: "default".into(),
            pool: pool.into(),
            agent: agent.into(),
            pod_uid: "u".into(),
            topology: None,
            health: Health::Healthy,
            ready: true,
            reason: None,
            draining: false,
            busy: 0,
            concurrency: 1,
        }
    }

    /// A regression here lets one pod speak for another once the broker guards subjects.
    #[test]
    fn the_subject_says_who_speaks() {
        let beat = beat("a", "a-0");
        let body = serde_json::to_vec(&beat).unwrap();
        assert_eq!(beat.subject(), "skein.heartbeat.default.a.a-0");
        assert_eq!(Heartbeat::read("skein.heartbeat.default.a.a-0", &body), Some(beat));
        assert_eq!(Heartbeat::read("skein.heartbeat.default.b.b-0", &body), None);
        assert_eq!(Heartbeat::read("skein.heartbeat.default.a.a-0", b"{}"), None);
    }
}
