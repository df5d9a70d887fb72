//! The names of what a pool owns, and what can be read back out of them.

/// The name of the sidecar's container in every agent's pod.
pub const SIDECAR_CONTAINER: &str = "skein";

/// The name of an agent, which is the name of its pod.
#[must_use]
pub fn agent(pool: &str, ordinal: u32) -> String {
    format!("{pool}-{ordinal}")
}

/// The ordinal in the name of an agent of this pool. `None` when it is not a name of this pool.
#[must_use]
pub fn ordinal(pool: &str, agent: &str) -> Option<u32> {
    let digits = agent.strip_prefix(pool)?.strip_prefix('-')?;
    let canonical = digits == "0" || (digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0'));
    if canonical { digits.parse().ok() } else { None }
}

/// The name of the ServiceAccount of a pool's agents, when the template names none.
#[must_use]
pub fn service_account(pool: &str) -> String {
    format!("{pool}-agent")
}

/// The name of a pool's PodDisruptionBudget.
#[must_use]
pub fn disruption_budget(pool: &str) -> String {
    pool.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinal_is_read_back_only_from_names_of_the_same_pool() {
        assert_eq!(ordinal("coder", "coder-12"), Some(12));
        assert_eq!(ordinal("coder", "coder-0"), Some(0));
        for foreign in ["coder", "coder-", "coder-01", "coder-x", "coder-small-1", "code-1", "coder--1", "coder-+1"] {
            assert_eq!(ordinal("coder", foreign), None, "{foreign}");
        }
    }
}
