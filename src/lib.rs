//! Skein runs teams of AI agents on Kubernetes and keeps them working when agents, nodes, the message
//! broker or the controller fail.
//!
//! # The map
//!
//! | module | what it is | it may use |
//! | --- | --- | --- |
//! | [`api`] | the two resources, their conditions, names and labels; pure | |
//! | [`topology`] | members → edges → programs; pure | `api` |
//! | [`resilience`] | restart budget, backoff, health; pure, clock and randomness are arguments | `api` |
//! | [`bus`] | envelope, subjects, heartbeat (pure), and the client of the broker | `topology` |
//! | [`kubernetes`] | effects on the API server that any controller needs | `api` |
//! | [`http`] | problem documents, and what else both HTTP interfaces share | `bus` |
//! | [`telemetry`] | logs, metrics, the server for probes | |
//! | [`lock`] | locks that are taken although somebody panicked while holding them; whoever has a lock uses it | |
//! | [`process`] | the signals that tell a role to end | |
//! | [`controller`] | role: makes the cluster and the bus match the resources | all of the above |
//! | [`sidecar`] | role: serves one agent, the only holder of the bus | `bus`, `http`, `resilience`, `telemetry` |
//! | [`gateway`] | role: takes tasks from outside | `bus`, `http`, `process`, `telemetry` |
//! | [`ctl`] | `kubectl skein` | `api`, `topology` |
//! | [`cli`] | raw arguments | |
//!
//! Roles never use each other: they meet on the bus and in the API server.

pub mod api;
pub mod bus;
pub mod cli;
pub mod controller;
pub mod ctl;
pub mod gateway;
pub mod http;
pub mod kubernetes;
pub mod lock;
pub mod process;
pub mod resilience;
pub mod sidecar;
pub mod telemetry;
pub mod topology;
