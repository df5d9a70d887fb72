//! `kubectl skein`, run as a program, before an API server that says what the test wants.

#![allow(unreachable_pub, reason = "a test is a program of its own")]

mod cluster;
mod status;
mod submit;
#[path = "../support/mod.rs"]
mod support;
mod version;
