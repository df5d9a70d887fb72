//! The ids of tasks: UUIDs of version 7, whose first 48 bits are the time in milliseconds. The time is
//! how the outcome of an old task is found in the journal without a subject of its own.

use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

/// A new id.
#[must_use]
pub fn fresh() -> String {
    Uuid::now_v7().to_string()
}

/// The id of a task that its sender names by a key: the same key of the same sender gives the same id,
/// so that sending twice sends once. `scope` is the task that the sender works on, or else the sender
/// itself; the id takes the time of the former, and of nothing otherwise.
#[must_use]
pub fn keyed(scope: &str, key: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(scope.len().to_be_bytes());
    hash.update(scope);
    hash.update(key);
    let mut random = [0; 10];
    for (to, from) in random.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    let time = time_of(scope).and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(time, &random).into_uuid().to_string()
}

/// When a task was made, in milliseconds since 1970; `None` when the id is not of this form.
#[must_use]
pub fn time_of(id: &str) -> Option<i64> {
    let id = Uuid::try_parse(id).ok()?;
    (id.get_version_num() == 7).then(|| i64::try_from(id.as_u128() >> 80).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_task_is_in_its_id() {
        let now = jiff::Timestamp::now().as_millisecond();
        let of_id = time_of(&fresh()).unwrap();
        assert!((of_id - now).abs() < 1000, "{of_id} {now}");
        assert_eq!(time_of("67e55044-10b1-426f-9247-bb680e5fe0c8"), None);
        assert_eq!(time_of("x"), None);
    }

    /// An agent that is given a task again must find the tasks that it sent the first time.
    #[test]
    fn a_key_names_one_task_of_one_scope() {
        let parent = fresh();
        assert_eq!(keyed(&parent, "a"), keyed(&parent, "a"));
        assert_ne!(keyed(&parent, "a"), keyed(&parent, "b"));
        assert_ne!(keyed(&parent, "a"), keyed(&fresh(), "a"));
        assert_ne!(keyed("ab", "c"), keyed("a", "bc"));
        assert_eq!(time_of(&keyed(&parent, "a")), time_of(&parent));
        assert_eq!(time_of(&keyed("pool/agent", "a")), Some(0));
    }
}
