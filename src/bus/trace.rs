//! W3C Trace Context: every hop of a task belongs to one trace, and has a span id of its own.
//!
//! Pure; ids are arguments.

use crate::bus::envelope::Trace;

/// The parts of a `traceparent` that outlive a hop.
struct Parent<'a> {
    trace: &'a str,
    flags: &'a str,
}

/// The context of the next hop: the same trace and flags with another span id, or a new trace when the
/// context is missing or not well formed. A state without its parent means nothing and is dropped.
#[must_use]
pub fn child(of: &Trace, new_trace: u128, new_span: u64) -> Trace {
    match of.parent.as_deref().and_then(parse) {
        Some(parent) => {
            Trace { parent: Some(format!("00-{}-{:016x}-{}", parent.trace, new_span.max(1), parent.flags)), state: of.state.clone() }
        }
        // Sampled: a trace that begins here is as wanted as one that any other service begins.
        None => Trace { parent: Some(format!("00-{:032x}-{:016x}-01", new_trace.max(1), new_span.max(1))), state: None },
    }
}

/// Whether a `traceparent` is well formed.
#[must_use]
pub fn is_valid(parent: &str) -> bool {
    parse(parent).is_some()
}

/// Reads a `traceparent`. A version that is not known yet may have further fields at its end.
fn parse(parent: &str) -> Option<Parent<'_>> {
    let mut fields = parent.split('-');
    let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let sound = hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && !zero(trace)
        && hex(span, 16)
        && !zero(span)
        && hex(flags, 2)
        && (version != "00" || fields.next().is_none());
    sound.then_some(Parent { trace, flags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn trace(parent: &str) -> Trace {
        Trace { parent: Some(parent.to_owned()), state: Some("vendor=1".to_owned()) }
    }

    #[test]
    fn a_hop_keeps_trace_flags_and_state() {
        let child = child(&trace(PARENT), 1, 0xabc);
        assert_eq!(child.parent.as_deref(), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000abc-00"));
        assert_eq!(child.state.as_deref(), Some("vendor=1"));
    }

    #[test]
    fn what_is_not_well_formed_begins_a_new_trace_without_its_state() {
        for wrong in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            let child = child(&trace(wrong), 5, 6);
            assert_eq!(child.parent.as_deref(), Some("00-00000000000000000000000000000005-0000000000000006-01"), "{wrong}");
            assert_eq!(child.state, None);
        }
        assert!(is_valid("42-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"), "a later version may say more");
    }

    proptest! {
        /// A context that the next hop cannot read cuts the trace in two.
        #[test]
        fn a_child_is_always_well_formed(parent in prop::option::of("\\PC{0,60}"), trace in any::<u128>(), span in any::<u64>()) {
            let child = child(&Trace { parent, state: None }, trace, span);
            prop_assert!(is_valid(child.parent.as_deref().unwrap()));
        }
    }
}
