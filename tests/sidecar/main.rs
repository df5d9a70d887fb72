//! Sidecars as processes, on a real broker, with scripted agents.

#[path = "../support/mod.rs"]
mod support;

mod delivery;
