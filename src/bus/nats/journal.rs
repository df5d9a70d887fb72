//! The configuration of everything that Skein keeps on the broker: a team's journal, the consumer of a
//! pool, and the bucket of the programs. And how what is found there becomes what is wanted.
//!
//! Pure. Only the controller applies it; sidecars and the gateway take what is there.
//!
//! * The journal keeps what it is told to keep until the controller trims it: the broker's own limits
//!   (`discard: old`, `max_age`) would drop tasks that nobody has done yet, without a word.
//! * A consumer delivers for ever: the sidecar counts deliveries and ends a task that nobody can do.
//!   If the broker stopped delivering, the task would never end, and trimming would pass over it.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::stream::{self, DiscardPolicy, Republish, RetentionPolicy, StorageType};

use crate::api::topology::{JournalSpec, JournalStorage};
use crate::bus::subjects::{PROGRAMS, Team};

/// How long the broker waits for a sign of life from whoever has a task before it gives it to another.
pub const ACK_WAIT: Duration = Duration::from_secs(10);
/// How long the journal knows a message again. More than any retry of a publisher takes, and more than
/// the deliveries of a task that is lost over and over.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// How many tasks of one pool may be in flight. Slots bound the work; this must only never be reached,
/// because a task that waits for its next attempt counts as in flight.
const MAX_ACK_PENDING: i64 = 100_000;
/// How many pulls of one pool may be open: one a slot. The broker cannot change it later.
const MAX_WAITING: i64 = 65_536;

/// The metadata of a stream that names the namespace of its topology.
const META_NAMESPACE: &str = "skein.dev/namespace";
/// The metadata of a stream that names its topology.
const META_TOPOLOGY: &str = "skein.dev/topology";
/// The metadata of a stream that names the UID of its topology.
const META_UID: &str = "skein.dev/uid";

/// What has to happen so that something on the broker becomes what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// It is not there.
    Create(T),
    /// It is there and as it should be.
    Keep,
    /// It is there and differs in ways that the broker can change in place.
    Update(T),
    /// It differs in a way that the broker cannot change. One sentence says how, and what to do.
    Conflict(String),
}

/// The journal of a team.
#[must_use]
pub fn stream(team: &Team, uid: &str, spec: &JournalSpec) -> stream::Config {
    let (source, destination) = team.republished();
    stream::Config {
        name: team.stream(),
        description: Some(format!("The journal of topology {}/{}.", team.namespace, team.topology)),
        subjects: vec![team.journal()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_age: Duration::ZERO,
        max_bytes: spec.max_bytes,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        storage: match spec.storage {
            JournalStorage::File => StorageType::File,
            JournalStorage::Memory => StorageType::Memory,
        },
        num_replicas: usize::try_from(spec.replicas).unwrap_or(1),
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        allow_atomic_publish: true,
        deny_delete: true,
        republish: Some(Republish { source, destination, headers_only: false }),
        metadata: [
            (META_NAMESPACE.to_owned(), team.namespace.clone()),
            (META_TOPOLOGY.to_owned(), team.topology.clone()),
            (META_UID.to_owned(), uid.to_owned()),
        ]
        .into(),
        ..stream::Config::default()
    }
}

/// The bucket that holds the programs: one value a key.
#[must_use]
pub fn bucket(replicas: usize) -> stream::Config {
    stream::Config {
        name: format!("KV_{PROGRAMS}"),
        description: Some("The programs of Skein: who may send what to whom.".to_owned()),
        subjects: vec![format!("$KV.{PROGRAMS}.>")],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_age: Duration::ZERO,
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: 1,
        max_consumers: -1,
        storage: StorageType::File,
        num_replicas: replicas,
        duplicate_window: Duration::from_secs(120),
        allow_rollup: true,
        allow_direct: true,
        deny_delete: true,
        ..stream::Config::default()
    }
}

/// The consumer from which the agents of a pool take their tasks. `from` is the first message of the
/// journal that it looks at; a pool that is new to the journal looks at all.
#[must_use]
pub fn consumer(team: &Team, pool: &str, from: Option<u64>) -> consumer::Config {
    consumer::Config {
        durable_name: Some(pool.to_owned()),
        name: Some(pool.to_owned()),
        description: Some(format!("The queue of pool {}/{pool}.", team.namespace)),
        filter_subject: team.tasks_for(pool),
        deliver_policy: from.map_or(DeliverPolicy::All, |start_sequence| DeliverPolicy::ByStartSequence { start_sequence }),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        max_waiting: MAX_WAITING,
        replay_policy: ReplayPolicy::Instant,
        ..consumer::Config::default()
    }
}

/// Compares a stream that was found with the one that is wanted. What Skein says nothing about stays
/// as it was found: placement, compression, and what a newer broker knows.
#[must_use]
pub fn compare_stream(found: Option<&stream::Config>, wanted: &stream::Config) -> Change<stream::Config> {
    let Some(found) = found else { return Change::Create(wanted.clone()) };
    let name = &wanted.name;
    if found.storage != wanted.storage {
        return Change::Conflict(format!(
            "stream {name} is stored in {:?} and should be in {:?}, which the broker cannot change: set storage back, or delete the topology and make it anew",
            found.storage, wanted.storage
        ));
    }
    let foreign = [
        (found.retention != wanted.retention, "has another retention than limits"),
        (found.sealed, "is sealed"),
        (found.deny_purge, "denies purges, so it could not be trimmed"),
        (found.mirror.is_some() || found.sources.is_some(), "is fed by another stream"),
        (
            found.max_messages_per_subject != wanted.max_messages_per_subject && wanted.max_messages_per_subject < 0,
            "limits the messages of a subject",
        ),
    ];
    if let Some((_, problem)) = foreign.iter().find(|(wrong, _)| *wrong) {
        return Change::Conflict(format!("stream {name} {problem}, which Skein did not set up: delete the stream or rename the topology"));
    }
    let mut changed = found.clone();
    changed.description.clone_from(&wanted.description);
    changed.subjects.clone_from(&wanted.subjects);
    changed.discard = wanted.discard;
    changed.discard_new_per_subject = false;
    changed.max_age = wanted.max_age;
    changed.max_bytes = wanted.max_bytes;
    changed.max_messages = wanted.max_messages;
    changed.max_messages_per_subject = wanted.max_messages_per_subject;
    changed.max_consumers = wanted.max_consumers;
    changed.num_replicas = wanted.num_replicas;
    changed.no_ack = false;
    changed.duplicate_window = wanted.duplicate_window;
    changed.allow_direct = wanted.allow_direct;
    changed.allow_rollup = wanted.allow_rollup || found.allow_rollup;
    changed.allow_atomic_publish = wanted.allow_atomic_publish || found.allow_atomic_publish;
    changed.deny_delete = wanted.deny_delete;
    changed.republish.clone_from(&wanted.republish);
    for (key, value) in &wanted.metadata {
        changed.metadata.insert(key.clone(), value.clone());
    }
    if changed == *found { Change::Keep } else { Change::Update(changed) }
}

/// Compares a pool's consumer that was found with the one that is wanted. Where it starts is history:
/// only a consumer that is made anew has to know.
#[must_use]
pub fn compare_consumer(found: Option<&consumer::Config>, wanted: &consumer::Config) -> Change<consumer::Config> {
    let Some(found) = found else { return Change::Create(wanted.clone()) };
    let name = wanted.durable_name.as_deref().unwrap_or_default();
    let foreign = [
        (found.deliver_subject.is_some(), "is a push consumer"),
        (found.ack_policy != wanted.ack_policy, "does not want explicit acknowledgements"),
        (found.replay_policy != wanted.replay_policy, "replays at the original speed"),
        (found.headers_only, "delivers headers only"),
        (found.max_waiting != wanted.max_waiting, "has another limit of open pulls"),
        (found.memory_storage, "is kept in memory only"),
    ];
    if let Some((_, problem)) = foreign.iter().find(|(wrong, _)| *wrong) {
        return Change::Conflict(format!(
            "consumer {name} {problem}, which the broker cannot change: delete the consumer, and it is made anew without losing a task"
        ));
    }
    let mut changed = found.clone();
    changed.description.clone_from(&wanted.description);
    changed.filter_subject.clone_from(&wanted.filter_subject);
    changed.filter_subjects.clear();
    changed.ack_wait = wanted.ack_wait;
    changed.backoff.clear();
    changed.max_deliver = wanted.max_deliver;
    changed.max_ack_pending = wanted.max_ack_pending;
    changed.rate_limit = 0;
    changed.max_batch = 0;
    changed.max_bytes = 0;
    changed.max_expires = Duration::ZERO;
    changed.inactive_threshold = Duration::ZERO;
    changed.pause_until = None;
    if changed == *found { Change::Keep } else { Change::Update(changed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> stream::Config {
        stream(&Team::new("default", "team"), "uid-1", &JournalSpec::default())
    }

    /// A regression here lets the broker drop tasks that nobody has done yet.
    #[test]
    fn the_journal_drops_nothing_by_itself() {
        let stream = wanted();
        assert_eq!((stream.discard, stream.max_age, stream.retention), (DiscardPolicy::New, Duration::ZERO, RetentionPolicy::Limits));
        assert_eq!((stream.max_messages, stream.max_messages_per_subject), (-1, -1));
        assert!(stream.deny_delete && !stream.deny_purge);
        let consumer = consumer(&Team::new("default", "team"), "coder", None);
        assert_eq!((consumer.max_deliver, consumer.inactive_threshold), (-1, Duration::ZERO));
    }

    /// A regression here updates every stream every few seconds, for ever.
    #[test]
    fn what_others_set_is_left_alone() {
        let mut found = wanted();
        found.compression = Some(stream::Compression::S2);
        found.metadata.insert("_nats.req.level".into(), "2".into());
        assert_eq!(compare_stream(Some(&found), &wanted()), Change::Keep);
        found.max_age = Duration::from_secs(60);
        let Change::Update(changed) = compare_stream(Some(&found), &wanted()) else { panic!("not updated") };
        assert_eq!(changed.max_age, Duration::ZERO);
        assert_eq!(changed.compression, Some(stream::Compression::S2));
    }

    #[test]
    fn a_topology_that_appears_again_takes_its_journal_over() {
        let again = stream(&Team::new("default", "team"), "uid-2", &JournalSpec::default());
        let Change::Update(changed) = compare_stream(Some(&wanted()), &again) else { panic!("not updated") };
        assert_eq!(changed.metadata[META_UID], "uid-2");
    }

    #[test]
    fn what_the_broker_cannot_change_is_said() {
        let memory =
            stream(&Team::new("default", "team"), "uid-1", &JournalSpec { storage: JournalStorage::Memory, ..JournalSpec::default() });
        let Change::Conflict(message) = compare_stream(Some(&memory), &wanted()) else { panic!("no conflict") };
        assert!(message.contains("stream skein_default_team is stored in Memory and should be in File"), "{message}");
        let sealed = stream::Config { sealed: true, ..wanted() };
        assert!(matches!(compare_stream(Some(&sealed), &wanted()), Change::Conflict(_)));
    }

    /// A regression here delivers everything again that was ever done.
    #[test]
    fn a_consumer_is_not_changed_because_of_where_it_started() {
        let team = Team::new("default", "team");
        assert_eq!(compare_consumer(Some(&consumer(&team, "a", Some(7))), &consumer(&team, "a", None)), Change::Keep);
        let other = consumer::Config { ack_wait: Duration::from_secs(1), ..consumer(&team, "a", Some(7)) };
        let Change::Update(changed) = compare_consumer(Some(&other), &consumer(&team, "a", None)) else { panic!("not updated") };
        assert_eq!(changed, consumer(&team, "a", Some(7)));
        let waiting = consumer::Config { max_waiting: 512, ..consumer(&team, "a", None) };
        assert!(matches!(compare_consumer(Some(&waiting), &consumer(&team, "a", None)), Change::Conflict(_)));
    }
}
