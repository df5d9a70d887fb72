//! The heartbeat of an agent: a core message, not stored, that its sidecar publishes every few seconds.

use serde::{Deserialize, Serialize};

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
