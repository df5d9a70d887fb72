//! The client of the broker.

pub mod journal;
pub mod trim;
