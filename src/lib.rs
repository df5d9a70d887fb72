//! Skein runs teams of AI agents on Kubernetes and keeps them working when agents, nodes, the message
//! broker or the controller fail.
//!
//! # The map
//!
//! Read it from the top: a module uses only what stands above it.
//!
//! | module | what it is | it uses |
//! | --- | --- | --- |
//! | [`lock`] | locks that are taken although somebody panicked while holding them | |
//! | [`process`] | the signals that tell a role to end | |
//! | [`cli`] | raw arguments | |
//! | [`api`] | the two resources, their conditions, names and labels, and what can be wrong with one; pure | |
//! | [`topology`] | members → edges → programs, and what is weak in a team's design; pure | `api` |
//! | [`resilience`] | restart budget and backoff; pure, clock and randomness are arguments | |
//! | [`bus`] | subjects, envelope, heartbeat (pure), and `bus::nats`, the client of the broker | `api`, `lock`, `topology` |
//! | [`kubernetes`] | effects on the API server that any controller needs: reads, writes, events, leader election | `lock` |
//! | [`http`] | problem documents, and what else both HTTP interfaces share | `bus` |
//! | [`telemetry`] | logs, metrics, the server for probes and metrics | `bus`, `cli`, `kubernetes`, `topology` |
//! | [`controller`] | role: makes the cluster and the bus match the resources | `api`, `bus`, `cli`, `kubernetes`, `lock`, `process`, `resilience`, `telemetry`, `topology` |
//! | [`sidecar`] | role: serves one agent, the only holder of the bus in its pod | `bus`, `cli`, `http`, `lock`, `resilience`, `telemetry`, `topology` |
//! | [`gateway`] | role: takes tasks from outside, without the API server | `bus`, `cli`, `http`, `lock`, `process`, `telemetry`, `topology` |
//! | [`ctl`] | role: `kubectl skein`, for people and scripts | `api`, `cli`, `topology` |
//!
//! Roles never use each other: they meet on the bus and in the API server. `main` parses the command line and
//! becomes one of them. A test holds the code to this map.

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
