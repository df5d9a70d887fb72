//! Makes a queue again out of its journal, when somebody deleted the consumer or a pool comes back into
//! its team. The journal knows what was done: a task with an outcome in it is done.
//!
//! A consumer can only be told where to start. So when every task from the first unfinished one on is
//! unfinished, it starts there. Otherwise it starts behind everything, and the unfinished tasks are put
//! into the journal once more, behind it: what is done is not done again, and what is not done is.
//!
//! This may be given up at any point and done again: copies that lie before the start are never
//! delivered, and a copy is the same task as its original, so the two have one outcome.

use std::collections::{BTreeMap, HashSet};

use async_nats::Message;
use tracing::info;

use super::connection::Bus;
use super::direct::{Start, number, text};
use super::error::BusError;
use super::journal;
use crate::bus::envelope::{Task, header};
use crate::bus::subjects::Team;

/// How many messages are read at a time.
const BATCH: usize = 1000;

/// From where a queue goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The first message that the consumer looks at; `None` when the journal never held a task for the pool.
    pub from: Option<u64>,
    /// The tasks that have to be put into the journal again.
    pub again: Vec<u64>,
}

/// Decides from where a queue goes on. `tasks` are the numbers and ids of the pool's tasks, in the order
/// of the journal; `ended` the ids of those that have an outcome; `last` the newest message.
#[must_use]
pub fn resume(tasks: &[(u64, String)], ended: &HashSet<String>, last: u64) -> Resume {
    // A task that was put in again counts once, at its last place.
    let places: BTreeMap<&str, u64> = tasks.iter().map(|(sequence, id)| (id.as_str(), *sequence)).collect();
    let mut open: Vec<u64> = places.iter().filter(|(id, _)| !ended.contains(**id)).map(|(_, sequence)| *sequence).collect();
    open.sort_unstable();
    let behind_all = last.saturating_add(1);
    let Some(first) = open.first().copied() else {
        return Resume { from: (!tasks.is_empty()).then_some(behind_all), again: Vec::new() };
    };
    let contiguous = tasks.iter().filter(|(sequence, _)| *sequence >= first).count() == open.len();
    if contiguous { Resume { from: Some(first), again: Vec::new() } } else { Resume { from: Some(behind_all), again: open } }
}

impl Bus {
    /// Makes the queue of a pool, from where the journal says that it stands.
    ///
    /// # Errors
    /// When the broker does not answer, or refuses. Nothing has been lost; it may be tried again.
    pub async fn make_queue(&self, team: &Team, pool: &str) -> Result<(), BusError> {
        let Some(stream) = self.journal(team).await? else { return Err(BusError::NoJournal) };
        let last = stream.held.last;
        // Tasks first: an outcome that comes in between is then seen, and its task not done again.
        let tasks: Vec<_> =
            self.ids(team, &team.tasks_for(pool), last).await?.into_iter().filter_map(|(sequence, id)| Some((sequence?, id))).collect();
        let ended = if tasks.is_empty() {
            HashSet::new()
        } else {
            self.ids(team, &team.result("*", "*", pool), u64::MAX).await?.into_iter().map(|(_, id)| id).collect()
        };
        let mut resume = resume(&tasks, &ended, last);
        match self.put_again(team, pool, &resume.again, last).await {
            Ok(()) => {}
            // Better done twice than never: a full journal is trimmed only once its queues are there.
            Err(BusError::Full) => resume.from = resume.again.first().copied(),
            Err(error) => return Err(error),
        }
        if resume.from.is_some() {
            info!(
                namespace = team.namespace,
                topology = team.topology,
                pool,
                from = resume.from,
                again = resume.again.len(),
                "the queue is made again out of the journal"
            );
        }
        self.create_queue(team, &journal::consumer(team, pool, resume.from)).await
    }

    /// The numbers of all messages that match a filter, up to `last`, and the tasks that they speak of.
    async fn ids(&self, team: &Team, filter: &str, last: u64) -> Result<Vec<(Option<u64>, String)>, BusError> {
        let (mut found, mut start) = (Vec::new(), 1);
        loop {
            let batch = self.next_of(&team.stream(), filter, Start::Sequence(start), BATCH).await?;
            let spoken = batch.messages.iter().map(|message| (number(message, "Nats-Sequence"), message));
            found.extend(
                spoken
                    .filter(|(sequence, _)| sequence.is_some_and(|sequence| sequence <= last))
                    .filter_map(|(sequence, message)| Some((sequence, text(message, header::TASK_ID)?.to_owned()))),
            );
            match batch.next {
                Some(next) if batch.more && next <= last => start = next,
                _ => return Ok(found),
            }
        }
    }

    async fn put_again(&self, team: &Team, pool: &str, tasks: &[u64], last: u64) -> Result<(), BusError> {
        for sequence in tasks {
            let batch = self.next_of(&team.stream(), &team.tasks_for(pool), Start::Sequence(*sequence), 1).await?;
            let Some(task) = batch.messages.first().and_then(read) else { continue };
            let mut headers = task.headers();
            for (name, value) in &mut headers {
                if *name == header::MESSAGE_ID {
                    // Another id in each attempt: a copy of an earlier one lies before the new start.
                    *value = format!("{}:again:{last}", task.id);
                }
            }
            self.store(team.task(pool, &task.from_pool), headers, task.payload.body.clone()).await?;
        }
        Ok(())
    }
}

fn read(message: &Message) -> Option<Task> {
    Task::parse(|name| text(message, name), message.payload.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn tasks(all: &[(u64, &str)]) -> Vec<(u64, String)> {
        all.iter().map(|(sequence, id)| (*sequence, (*id).to_owned())).collect()
    }

    fn ended(ids: &[&str]) -> HashSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_pool_that_the_journal_does_not_know_starts_at_the_beginning() {
        assert_eq!(resume(&[], &ended(&[]), 9), Resume { from: None, again: vec![] });
    }

    /// A regression here does everything again that the pool ever did.
    #[test]
    fn what_is_done_is_not_done_again() {
        let all = tasks(&[(1, "a"), (4, "b")]);
        assert_eq!(resume(&all, &ended(&["a", "b"]), 9), Resume { from: Some(10), again: vec![] });
    }

    #[test]
    fn what_nobody_has_begun_is_delivered_from_where_it_lies() {
        let all = tasks(&[(1, "a"), (4, "b"), (6, "c")]);
        assert_eq!(resume(&all, &ended(&["a"]), 9), Resume { from: Some(4), again: vec![] });
    }

    /// A regression here loses the tasks that were overtaken, or does the others twice.
    #[test]
    fn what_was_overtaken_is_put_in_again_behind_everything() {
        let all = tasks(&[(1, "a"), (4, "b"), (6, "c"), (7, "d")]);
        assert_eq!(resume(&all, &ended(&["a", "c"]), 9), Resume { from: Some(10), again: vec![4, 7] });
    }

    #[test]
    fn a_copy_counts_once() {
        let all = tasks(&[(1, "a"), (2, "b"), (3, "a")]);
        assert_eq!(resume(&all, &ended(&["b"]), 3), Resume { from: Some(3), again: vec![] });
    }
}
