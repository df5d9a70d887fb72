//! Pools and agents for the tests of this folder.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::plan::Target;
use crate::controller::context::Config;
use crate::controller::pods::{Phase, PodFacts};
use crate::resilience::Budget;

/// The revision that is wanted.
pub(super) const NEW: &str = "new";

pub(super) fn at(second: u32) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + i64::from(second)).unwrap()
}

pub(super) fn config() -> Config {
    Config {
        sidecar_image: "example/skein:0.1.0".to_owned(),
        sidecar_image_pull_policy: "IfNotPresent".to_owned(),
        agent_nats_url: "nats://bus.skein:4222".to_owned(),
        identity: "controller-0".to_owned(),
    }
}

pub(super) fn target(desired: u32) -> Target {
    Target {
        desired,
        revision: NEW.to_owned(),
        max_unavailable: 1,
        stale: Duration::from_secs(30),
        budget: Budget { max: 3, within: SignedDuration::from_secs(300) },
        member: true,
        ends_by_us: true,
    }
}

/// A pod of the newest revision that runs and is ready.
pub(super) fn running(pool: &str, ordinal: u32) -> PodFacts {
    PodFacts {
        name: format!("{pool}-{ordinal}"),
        uid: format!("uid-{ordinal}"),
        owner: Some("pool".to_owned()),
        revision: NEW.to_owned(),
        begun: at(0),
        ending: None,
        grace_seconds: None,
        phase: Phase::Running,
        ready: true,
        trouble: None,
    }
}
