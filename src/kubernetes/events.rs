//! Events: what people read under `kubectl describe`. One per transition; the same one is not written
//! again for a while.
//!
//! An event that cannot be written is logged and otherwise ignored: it must never stop a controller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use super::error::ask;
use crate::lock::lock;

/// The longest note that the API server takes, less a margin for the ellipsis.
const MAX_NOTE: usize = 1000;
/// How long an event is not written again.
const QUIET: Duration = Duration::from_secs(600);

/// What an event is for its readers. Equal news are told once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct News {
    /// Whether something is wrong.
    pub warning: bool,
    /// What was done or tried: one CamelCase word.
    pub action: &'static str,
    /// Why: one CamelCase word for programs.
    pub reason: String,
    /// One sentence for people; of a warning, also what to do.
    pub note: String,
}

impl News {
    /// Something went as it should.
    #[must_use]
    pub fn normal(action: &'static str, reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { warning: false, action, reason: reason.into(), note: note.into() }
    }

    /// Something is wrong.
    #[must_use]
    pub fn warning(action: &'static str, reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { warning: true, action, reason: reason.into(), note: note.into() }
    }
}

/// What was told of which object, and when.
type Told = HashMap<(Option<String>, News), Instant>;

/// Writes events. One per process, so that the same news is told once.
#[derive(Clone)]
pub struct Events {
    client: Client,
    controller: String,
    instance: String,
    told: Arc<Mutex<Told>>,
}

impl Events {
    /// Events of a controller; `instance` is the replica.
    #[must_use]
    pub fn new(client: Client, controller: &str, instance: &str) -> Self {
        Self { client, controller: controller.to_owned(), instance: instance.to_owned(), told: Arc::default() }
    }

    /// Tells news about an object of a namespace.
    pub async fn tell(&self, about: &ObjectReference, news: News) {
        if !self.is_new(about, &news) {
            return;
        }
        let (name, now) = (about.name.clone().unwrap_or_default(), Timestamp::now());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: about.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some(news.action.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(shortened(&news.note)),
            reason: Some(news.reason.clone()),
            regarding: Some(about.clone()),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if news.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"));
        let written = ask(|| format!("write the event {} of {name}", news.reason), api.create(&PostParams::default(), &event)).await;
        if let Err(problem) = written
            && !problem.namespace_is_ending()
        {
            tracing::warn!(%problem, "an event is lost");
        }
    }

    fn is_new(&self, about: &ObjectReference, news: &News) -> bool {
        let now = Instant::now();
        let mut told = lock(&self.told);
        told.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        told.insert((about.uid.clone(), news.clone()), now).is_none()
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

    /// A regression here floods the API server with what everybody knows, or hides the second pool's trouble.
    #[tokio::test(start_paused = true)]
    async fn the_same_news_is_told_once_for_a_while() {
        let (service, _) = tower_test::mock::pair::<http::Request<kube::client::Body>, http::Response<kube::client::Body>>();
        let events = Events::new(Client::new(service, "work"), "test", "test-0");
        let about = |uid: &str| ObjectReference { uid: Some(uid.to_owned()), ..ObjectReference::default() };
        let news = News::warning("Create", "NameTaken", "coder-0");
        assert!(events.is_new(&about("a"), &news));
        assert!(!events.is_new(&about("a"), &news));
        assert!(events.is_new(&about("b"), &news));
        assert!(events.is_new(&about("a"), &News::warning("Create", "NameTaken", "coder-1")));
        tokio::time::advance(QUIET).await;
        assert!(events.is_new(&about("a"), &news));
    }
}
