//! The controller before a real API server and a real broker. A small kubelet of the tests starts and
//! ends pods, which are only objects here.

#![allow(unreachable_pub, reason = "a test is a program of its own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails fails its test")]

mod crashes;
mod idle;
mod kubelet;
mod leaders;
mod pools;
mod rights;
mod stage;
#[path = "../support/mod.rs"]
mod support;
