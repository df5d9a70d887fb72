//! What a `Lease` says to a candidate, and what a candidate writes into it. Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// A lease as it was seen last, and since when it has been so. That is the candidate's own clock, so the clocks
/// of others may say what they like.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    spec: LeaseSpec,
    since: Instant,
}

/// Whose a lease is, to one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody's, or this candidate's own: it may be taken at once.
    Free,
    /// Somebody else's for so much longer, unless it is renewed.
    HeldFor(Duration),
    /// Somebody else's who did not renew it for as long as it lasts.
    Over,
}

impl Sighting {
    /// Notes what a lease says now. Whether that is news.
    pub fn update(seen: &mut Option<Self>, spec: LeaseSpec, now: Instant) -> bool {
        let news = seen.as_ref().is_none_or(|seen| seen.spec != spec);
        if news {
            *seen = Some(Self { spec, since: now });
        }
        news
    }

    /// Whose the lease is. It lasts as long as its holder wrote into it, or `lease` when that says nothing.
    #[must_use]
    pub fn standing(&self, identity: &str, lease: Duration, now: Instant) -> Standing {
        match self.spec.holder_identity.as_deref() {
            None | Some("") => return Standing::Free,
            Some(holder) if holder == identity => return Standing::Free,
            Some(_) => {}
        }
        let written = self.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
        let left = written.map_or(lease, Duration::from_secs).saturating_sub(now.saturating_duration_since(self.since));
        if left.is_zero() { Standing::Over } else { Standing::HeldFor(left) }
    }
}

/// The lease, held by a candidate from now on, or still.
#[must_use]
pub fn taken(lease: Lease, identity: &str, lasts: Duration, now: Timestamp) -> Lease {
    let (now, before) = (MicroTime(now), lease.spec.unwrap_or_default());
    let still = before.holder_identity.as_deref() == Some(identity);
    let spec = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(lasts.as_secs()).ok(),
        acquire_time: if still { before.acquire_time } else { Some(now.clone()) },
        lease_transitions: match before.lease_transitions {
            None => Some(0),
            Some(transitions) => Some(transitions.saturating_add(i32::from(!still))),
        },
        renew_time: Some(now),
        ..LeaseSpec::default()
    };
    Lease { metadata: lease.metadata, spec: Some(spec) }
}

/// The lease, held by nobody.
#[must_use]
pub fn released(lease: Lease) -> Lease {
    let lease_transitions = lease.spec.and_then(|spec| spec.lease_transitions);
    Lease { metadata: lease.metadata, spec: Some(LeaseSpec { lease_transitions, ..LeaseSpec::default() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    const LEASE: Duration = Duration::from_secs(15);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn spec(lease: &Lease) -> LeaseSpec {
        lease.spec.clone().unwrap()
    }

    /// A regression here lets two lead at once, or nobody.
    #[test]
    fn a_lease_is_over_once_it_has_not_changed_for_as_long_as_it_lasts() {
        let (start, mut seen) = (Instant::now(), None);
        let after = |seconds| start + Duration::from_secs(seconds);
        let first = taken(Lease::default(), "a", Duration::from_secs(20), at(1));
        assert!(Sighting::update(&mut seen, spec(&first), start));
        assert!(!Sighting::update(&mut seen, spec(&first), after(5)));
        let standing = |seen: &Option<Sighting>, who: &str, seconds| seen.as_ref().unwrap().standing(who, LEASE, after(seconds));
        assert_eq!(standing(&seen, "b", 5), Standing::HeldFor(LEASE), "it lasts as long as its holder says");
        assert_eq!(standing(&seen, "b", 20), Standing::Over);
        assert_eq!(standing(&seen, "a", 5), Standing::Free, "one's own from before a restart");

        let renewed = taken(first, "a", Duration::from_secs(20), at(2));
        assert!(Sighting::update(&mut seen, spec(&renewed), after(19)));
        assert_eq!(standing(&seen, "b", 20), Standing::HeldFor(Duration::from_secs(19)));
        Sighting::update(&mut seen, spec(&released(renewed)), after(21));
        assert_eq!(standing(&seen, "b", 21), Standing::Free);
    }

    #[test]
    fn who_leads_since_when_and_after_how_many_others_is_written() {
        let first = taken(Lease::default(), "a", LEASE, at(1));
        assert_eq!((spec(&first).lease_transitions, spec(&first).acquire_time), (Some(0), Some(MicroTime(at(1)))));
        let renewed = taken(first, "a", LEASE, at(3));
        assert_eq!((spec(&renewed).lease_transitions, spec(&renewed).acquire_time), (Some(0), Some(MicroTime(at(1)))));
        assert_eq!(spec(&renewed).renew_time, Some(MicroTime(at(3))));
        let next = taken(released(renewed), "b", LEASE, at(5));
        assert_eq!((spec(&next).lease_transitions, spec(&next).acquire_time), (Some(1), Some(MicroTime(at(5)))));
        assert_eq!((spec(&next).holder_identity.as_deref(), spec(&next).lease_duration_seconds), (Some("b"), Some(15)));
    }
}
