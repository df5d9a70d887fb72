//! The topology compiler: from the members of a team to the edges between its pools, and from the
//! edges to the programs that the bus, the sidecars and the gateway enforce.
//!
//! Pure: no client, no clock, no randomness. The same input gives the same output, byte for byte.
//!
//! ```text
//!  TopologySpec ──check──► problems (the YAML is wrong)
//!       │
//!       └──edges──► who may send to whom, and why
//!                     │
//!  facts of the pools ┼──program──► one PoolProgram a pool, one TeamProgram for the gateway
//!                     │               └──delegation──► may this task go on to that pool
//!                     └──findings─► what is weak in the design, and the line that mends it
//! ```
//!
//! [`membership`] says which topology has a pool that several name; [`mod@explain`] says of one edge why it is there or not.

pub mod check;
pub mod delegation;
pub mod edges;
pub mod explain;
pub mod findings;
pub mod membership;
pub mod program;

pub use check::check;
pub use delegation::Delegation;
pub use edges::{Edge, Relation, edges};
pub use explain::{Explanation, explain};
pub use findings::findings;
pub use program::{Hearing, PoolFacts, PoolProgram, Route, TeamProgram, program};
