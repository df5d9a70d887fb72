//! `kubectl skein`, run as a program, before an API server that says what the test wants.

#![allow(unreachable_pub, reason = "a test is a program of its own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails fails its test")]

mod cluster;
mod graph;
mod guide;
mod lint;
mod status;
mod submit;
#[path = "../support/mod.rs"]
mod support;
mod version;
