//! Locks that are taken although somebody panicked while holding them.
//!
//! The standard library calls such a lock poisoned, because what it guards may have been left half changed.
//! Nothing here is ever half changed: whoever holds one of our locks makes one change to a map, a set or a
//! value, and calls nothing that may fail between two changes that belong together. So there is nothing to
//! fear, and one task's panic stays that task's. A lock for which this does not hold must not be taken by
//! these functions.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Takes a lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a lock for reading.
pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a lock for writing.
pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A regression here lets the panic of one task take down every other one that shares something with it.
    #[test]
    #[allow(clippy::panic, reason = "it is what the test is about")]
    fn a_panic_elsewhere_does_not_spread() {
        let (mutex, shared) = (Mutex::new(1), RwLock::new(1));
        let panicked = std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let (_one, _other) = (lock(&mutex), write(&shared));
                panic!("on purpose");
            });
            holder.join().is_err()
        });
        assert!(panicked && mutex.is_poisoned() && shared.is_poisoned());
        *lock(&mutex) += 1;
        *write(&shared) += 1;
        assert_eq!((*lock(&mutex), *read(&shared)), (2, 2));
    }
}
