//! Does on the bus what was planned, step by step, and says what was done.

use super::plan::Step;
use crate::bus::Team;
use crate::bus::nats::{Bus, BusError};

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// The steps that were done, in their order.
    pub done: Vec<Step>,
    /// The first step that failed, in words, and why.
    pub failed: Option<(String, BusError)>,
}

/// Does the steps in their order, up to the first that fails and that others need. Each may be done
/// twice without harm.
pub async fn apply(bus: &Bus, team: &Team, steps: Vec<Step>) -> Applied {
    let mut applied = Applied::default();
    for step in steps {
        let result = match &step {
            Step::CreateStream(config) => bus.create_stream(config).await,
            Step::UpdateStream(config) => bus.update_stream(config).await,
            Step::MakeQueue(pool) => bus.make_queue(team, pool).await,
            Step::UpdateQueue(config) => bus.update_queue(team, config).await,
            Step::PutProgram(key, program) => bus.put_program(key, program.clone()).await.map(|_| ()),
            Step::WithdrawProgram(key) => bus.withdraw_program(key, &team.topology).await,
            Step::DeleteQueue(pool) => bus.delete_queue(team, pool).await,
        };
        if let Err(error) = result {
            let fatal = !step.may_fail() || error.is_transient();
            applied.failed.get_or_insert((step.to_string(), error));
            if fatal {
                break;
            }
            continue;
        }
        tracing::info!(namespace = team.namespace, topology = team.topology, "{step}");
        applied.done.push(step);
    }
    applied
}

impl Step {
    /// Whether the rest makes sense without it: a journal that cannot be made larger is still a journal,
    /// and must not keep a new member out.
    fn may_fail(&self) -> bool {
        matches!(self, Self::UpdateStream(_) | Self::UpdateQueue(_))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CreateStream(config) => write!(f, "make stream {}", config.name),
            Self::UpdateStream(config) => write!(f, "change stream {}", config.name),
            Self::MakeQueue(pool) => write!(f, "make the queue of pool {pool}"),
            Self::UpdateQueue(config) => write!(f, "change the queue of pool {}", config.durable_name.as_deref().unwrap_or_default()),
            Self::PutProgram(key, _) => write!(f, "write program {key}"),
            Self::WithdrawProgram(key) => write!(f, "remove program {key}"),
            Self::DeleteQueue(pool) => write!(f, "remove the queue of pool {pool}, which is no longer a member"),
        }
    }
}
