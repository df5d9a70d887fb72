//! What this process remembers of each pool between two looks. All of it may be lost.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::roster::PoolKey;

/// What this process remembers of one pool.
#[derive(Debug, Default)]
pub struct Remembered {}

/// What this process remembers, by pool.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<PoolKey, Remembered>>);

impl Memory {
    /// The pool is gone.
    pub fn forget(&self, key: &PoolKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
