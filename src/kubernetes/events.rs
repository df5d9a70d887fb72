//! Events: what people read under `kubectl describe`. One per transition.
//!
//! An event that cannot be written is logged and otherwise ignored: it must never stop a controller.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::error;

/// The longest note that the API server takes, less a margin for the ellipsis.
const MAX_NOTE: usize = 1000;

/// Writes events. Repeated ones are counted on the first one, which needs one `Events` per process.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events of a controller; `instance` is the replica.
    #[must_use]
    pub fn new(client: Client, controller: &str, instance: &str) -> Self {
        let reporter = Reporter { controller: controller.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Something went as it should.
    pub async fn normal(&self, about: &ObjectReference, action: &str, reason: &str, note: &str) {
        self.publish(about, EventType::Normal, action, reason, note).await;
    }

    /// Something is wrong; the note says what to do.
    pub async fn warning(&self, about: &ObjectReference, action: &str, reason: &str, note: &str) {
        self.publish(about, EventType::Warning, action, reason, note).await;
    }

    async fn publish(&self, about: &ObjectReference, type_: EventType, action: &str, reason: &str, note: &str) {
        let event = Event { type_, reason: reason.to_owned(), note: Some(shortened(note)), action: action.to_owned(), secondary: None };
        let name = about.name.as_deref().unwrap_or_default();
        if let Err(problem) = error::ask(|| format!("write the event {reason} of {name}"), self.recorder.publish(&event, about)).await {
            tracing::warn!(%problem, "an event is lost");
        }
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= MAX_NOTE {
        return note.to_owned();
    }
    let end = (0..=MAX_NOTE).rev().find(|i| note.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"ä".repeat(900));
        assert!(long.len() <= MAX_NOTE + '…'.len_utf8() && long.ends_with("ä…"));
    }
}
