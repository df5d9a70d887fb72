//! When an agent that has been told to end takes tasks again. Pure: the time is an argument.
//!
//! The kubelet asks for a drain before it ends the agent's container, and as a rule the process ends then.
//! As a rule: the drain may have been asked for by somebody else, and nobody else says that it is over.
//!
//! | since the drain began | the agent takes tasks again |
//! | --- | --- |
//! | its process was gone, and one answers | at once: the kubelet has started the container anew |
//! | it has had no task for a minute, and is well | now: nobody has ended it |
//!
//! An agent whose pod ends takes none, however long it stays: see [`super::state::Drain::Pod`].

use std::time::Duration;

/// How long an agent without a task may stay before nobody is about to end it. The kubelet sends SIGTERM as
/// soon as the drain is over, and gives a container that it restarts because it hangs ten seconds.
const STAYS: Duration = Duration::from_secs(60);

/// An agent that has been told to end, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its process is gone.
    pub gone: bool,
    /// It answers.
    pub answers: bool,
    /// It answers, and counts as healthy.
    pub healthy: bool,
    /// It has no task, and none can come.
    pub idle: bool,
}

/// Why it takes tasks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is another process.
    Anew,
    /// Nobody has ended it.
    Stays,
}

/// What has been seen since the drain began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reprieve {
    gone: bool,
    idle_since: Option<Duration>,
}

impl Reprieve {
    /// Looks at the agent; times are since any fixed moment.
    pub fn look(&mut self, seen: Seen, now: Duration) -> Option<Why> {
        self.gone |= seen.gone;
        self.idle_since = seen.idle.then(|| self.idle_since.unwrap_or(now));
        if self.gone && seen.answers {
            return Some(Why::Anew);
        }
        let stays = self.idle_since.is_some_and(|since| now.saturating_sub(since) >= STAYS);
        (stays && seen.healthy).then_some(Why::Stays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    const WELL: Seen = Seen { gone: false, answers: true, healthy: true, idle: true };
    const BUSY: Seen = Seen { idle: false, ..WELL };
    const SILENT: Seen = Seen { gone: false, answers: false, healthy: false, idle: true };
    const GONE: Seen = Seen { gone: true, ..SILENT };

    fn look(all: &[(u64, Seen)]) -> Vec<Option<Why>> {
        let mut reprieve = Reprieve::default();
        all.iter().map(|(second, seen)| reprieve.look(*seen, Duration::from_secs(*second))).collect()
    }

    #[test]
    fn a_new_process_takes_tasks_at_once() {
        assert_eq!(look(&[(0, WELL), (1, GONE), (2, SILENT), (3, WELL)]), [None, None, None, Some(Why::Anew)]);
    }

    /// A regression here leaves an agent idle for ever that somebody had drained, or gives one a task that
    /// has just been told to exit.
    #[test]
    fn an_agent_that_stays_takes_tasks_a_minute_after_its_last_one() {
        assert_eq!(look(&[(0, WELL), (59, WELL), (60, WELL)]), [None, None, Some(Why::Stays)]);
        assert_eq!(look(&[(0, BUSY), (600, BUSY), (601, WELL), (660, WELL), (661, WELL)]), [None, None, None, None, Some(Why::Stays)]);
        assert_eq!(look(&[(0, WELL), (59, BUSY), (60, WELL), (119, WELL)]), [None; 4], "a pull had still brought a task");
    }

    #[test]
    fn an_agent_that_is_not_well_is_left_alone_until_it_is() {
        let unhealthy = Seen { healthy: false, ..WELL };
        assert_eq!(look(&[(0, WELL), (60, SILENT), (70, unhealthy), (80, WELL)]), [None, None, None, Some(Why::Stays)]);
    }
}
