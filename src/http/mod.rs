//! What the HTTP servers of sidecar and gateway have in common. Knows the words of the bus, but holds
//! no connection to it.

pub mod body;
pub mod problem;

pub use problem::Problem;
