//! From the queue to the agent to the outcome.
//!
//! [`decide`] says what becomes of a task and does nothing; [`slot`] pulls for an agent that is pushed to;
//! [`work`] does what has been decided. The order at the end of a task is what makes it end exactly once:
//! publish the outcome, see the journal's acknowledgement, then acknowledge the task. Whoever is lost in
//! between leaves a task that is delivered again, and whose outcome is found in the journal.

pub mod decide;
pub mod slot;
pub mod work;
