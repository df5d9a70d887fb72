//! The gateway before a real broker: every status code that it can answer with, and what becomes of
//! whoever waits when brokers and gateways come and go.

#![allow(unreachable_pub, reason = "a test is a program of its own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails fails its test")]

mod answers;
mod chain;
mod faults;
mod limits;
mod openapi;
mod stage;
#[path = "../support/mod.rs"]
mod support;
