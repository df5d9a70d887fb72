//! Sidecars as processes, on a real broker, with scripted agents.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod delivery;
mod draining;
mod health;
mod pulling;
mod sending;
