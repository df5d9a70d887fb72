//! What the roles tell the outside of themselves: logs, metrics, and the server for probes and metrics.

pub mod admin;
pub mod logs;
pub mod metrics;
