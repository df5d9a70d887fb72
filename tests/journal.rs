//! Journals and queues on a real broker: made once, mended, never trimmed past work, gone when deleted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use pretty_assertions::assert_eq;
use skein::api::topology::JournalSpec;
use skein::bus::nats::journal::{self, Change, compare_consumer, compare_stream};
use skein::bus::nats::trim::{Limits, Trim, decide};
use skein::bus::nats::{Bus, BusError, Puller};
use skein::bus::{Outcome, Task, TaskResult, Team};
use support::nats::Nats;

fn team() -> Team {
    Team::new("default", "team")
}

fn task(id: &str) -> Task {
    Task {
        id: id.to_owned(),
        correlation_id: id.to_owned(),
        parent_id: None,
        ancestry: vec![],
        from_pool: "planner".to_owned(),
        from_agent: "planner-0".to_owned(),
        created: 1,
        deadline: None,
        trace: Default::default(),
        payload: Default::default(),
    }
}

fn result(id: &str) -> TaskResult {
    TaskResult {
        task_id: id.to_owned(),
        correlation_id: id.to_owned(),
        from_pool: "coder".to_owned(),
        from_agent: "coder-0".to_owned(),
        created: 2,
        outcome: Outcome::Completed,
        reason: None,
        trace: Default::default(),
        payload: Default::default(),
    }
}

async fn made(bus: &Bus) {
    bus.create_stream(&journal::stream(&team(), "uid", &JournalSpec::default())).await.unwrap();
    bus.make_queue(&team(), "coder").await.unwrap();
}

async fn send(bus: &Bus, id: &str) -> u64 {
    bus.publish_task(&team(), "coder", &task(id)).await.unwrap().sequence
}

/// Takes a task and ends it, as a sidecar does.
async fn end(bus: &Bus, puller: &mut Puller) -> String {
    let delivery = puller.next(Duration::from_secs(10)).await.unwrap().expect("a task");
    let id = delivery.task.unwrap().id;
    bus.publish_result(&team(), "planner", "planner-0", &result(&id)).await.unwrap();
    delivery.receipt.ack().await.unwrap();
    id
}

/// A regression here changes every journal every few seconds.
#[tokio::test]
async fn what_was_made_is_what_is_wanted() {
    let nats = Nats::start().await;
    let bus = nats.bus("test").await;
    assert_eq!(bus.journal(&team()).await.unwrap(), None);
    assert!(bus.queues(&team()).await.unwrap().is_empty());
    assert_eq!(bus.make_queue(&team(), "coder").await, Err(BusError::NoJournal));
    for _ in 0..2 {
        made(&bus).await;
        bus.create_stream(&journal::bucket(1)).await.unwrap();
    }
    let wanted = journal::stream(&team(), "uid", &JournalSpec::default());
    let found = bus.journals().await.unwrap().remove(&team()).unwrap();
    assert_eq!(compare_stream(Some(&found.config), &wanted), Change::Keep);
    let queues = bus.queues(&team()).await.unwrap();
    assert_eq!(compare_consumer(Some(&queues["coder"].config), &journal::consumer(&team(), "coder", None)), Change::Keep);
    let bucket = bus.bucket().await.unwrap().unwrap();
    assert_eq!(compare_stream(Some(&bucket.config), &journal::bucket(1)), Change::Keep);
    bus.put_program("team.default.team", Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(bus.list_programs("").await.unwrap().len(), 1);

    let smaller = journal::stream(&team(), "uid", &JournalSpec { max_bytes: 2_000_000, ..JournalSpec::default() });
    let Change::Update(changed) = compare_stream(Some(&found.config), &smaller) else { panic!("not changed") };
    bus.update_stream(&changed).await.unwrap();
    assert_eq!(compare_stream(Some(&bus.journal(&team()).await.unwrap().unwrap().config), &smaller), Change::Keep);
}

/// A regression here leaves the user with a number instead of what to do.
#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let nats = Nats::start().await;
    let bus = nats.bus("test").await;
    let spec = JournalSpec { replicas: 3, ..JournalSpec::default() };
    let refused = bus.create_stream(&journal::stream(&team(), "uid", &spec)).await.unwrap_err();
    assert!(refused.to_string().contains("fewer servers than spec.journal.replicas"), "{refused}");
    let spec = JournalSpec { max_bytes: i64::MAX / 2, ..JournalSpec::default() };
    let refused = bus.create_stream(&journal::stream(&team(), "uid", &spec)).await.unwrap_err();
    assert!(refused.to_string().contains("less room than spec.journal.maxBytes"), "{refused}");
}

/// A regression here loses work, or does it twice, when somebody deletes a consumer.
#[tokio::test]
async fn a_lost_queue_comes_back_with_what_is_not_done() {
    let nats = Nats::start().await;
    let bus = nats.bus("test").await;
    made(&bus).await;
    for id in ["a", "b", "c", "d"] {
        send(&bus, id).await;
    }
    let mut puller = Puller::new(&bus, &team(), "coder").await.unwrap();
    assert_eq!(end(&bus, &mut puller).await, "a");
    let overtaken = puller.next(Duration::from_secs(10)).await.unwrap().expect("a task");
    assert_eq!(end(&bus, &mut puller).await, "c");
    drop(overtaken);

    bus.delete_queue(&team(), "coder").await.unwrap();
    bus.delete_queue(&team(), "coder").await.unwrap();
    assert!(bus.queues(&team()).await.unwrap().is_empty());
    bus.make_queue(&team(), "coder").await.unwrap();
    assert_eq!(bus.queues(&team()).await.unwrap()["coder"].progress.pending, 2);
    assert_eq!([end(&bus, &mut puller).await, end(&bus, &mut puller).await], ["b", "d"]);

    // A pool that comes back into its team finds nothing to do that it has done.
    bus.delete_queue(&team(), "coder").await.unwrap();
    bus.make_queue(&team(), "coder").await.unwrap();
    assert_eq!(bus.queues(&team()).await.unwrap()["coder"].progress.pending, 0);
    send(&bus, "e").await;
    assert_eq!(end(&bus, &mut puller).await, "e");
}

/// A regression here drops work that nobody has done.
#[tokio::test]
async fn a_trim_stops_before_the_first_task_that_is_not_done() {
    let nats = Nats::start().await;
    let bus = nats.bus("test").await;
    made(&bus).await;
    for id in ["a", "b", "c"] {
        send(&bus, id).await;
    }
    let mut puller = Puller::new(&bus, &team(), "coder").await.unwrap();
    end(&bus, &mut puller).await;
    let held_back = puller.next(Duration::from_secs(10)).await.unwrap().expect("a task");
    end(&bus, &mut puller).await;

    let limits = Limits { max_age: Duration::ZERO, max_bytes: u64::MAX };
    let first = support::until("the oldest message to come of age", async || {
        let journal = bus.journal(&team()).await.unwrap().unwrap();
        let progress: Vec<_> = bus.queues(&team()).await.unwrap().values().map(|queue| queue.progress).collect();
        match decide(&journal.held, &limits, &progress) {
            Trim::OlderThan { age, before } => {
                let young = bus.first_younger_than(&team(), &journal, age).await.unwrap();
                assert_eq!((before, young), (2, None));
                Ok(before)
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(bus.purge(&team(), first).await.unwrap(), 1);
    let held = bus.journal(&team()).await.unwrap().unwrap().held;
    assert_eq!((held.first, held.messages), (2, 4));
    held_back.receipt.ack().await.unwrap();
    let journal = bus.journal(&team()).await.unwrap().unwrap();
    assert_eq!(bus.first_younger_than(&team(), &journal, Duration::from_secs(3600)).await.unwrap(), Some(2));
}

/// A regression here lets a journal that is made smaller drop tasks that are not done.
#[tokio::test]
async fn a_journal_that_is_made_smaller_than_it_is_loses_nothing() {
    let nats = Nats::start().await;
    let bus = nats.bus("test").await;
    made(&bus).await;
    let mut large = task("large");
    large.payload.body = vec![0_u8; 900_000].into();
    for id in ["a", "b", "c"] {
        bus.publish_task(&team(), "coder", &Task { id: id.to_owned(), ..large.clone() }).await.unwrap();
    }
    let small = journal::stream(&team(), "uid", &JournalSpec { max_bytes: 1_048_576, ..JournalSpec::default() });
    bus.update_stream(&small).await.unwrap();
    assert_eq!(bus.journal(&team()).await.unwrap().unwrap().held.messages, 3);
    assert_eq!(bus.publish_task(&team(), "coder", &task("d")).await, Err(BusError::Full));
}

#[tokio::test]
async fn deleting_twice_is_deleting_once() {
    let nats = Nats::start().await;
    let bus = nats.bus("test").await;
    made(&bus).await;
    bus.delete_journal(&team()).await.unwrap();
    bus.delete_journal(&team()).await.unwrap();
    bus.delete_queue(&team(), "coder").await.unwrap();
    assert!(bus.journals().await.unwrap().is_empty());
}

/// A regression here takes the program of a pool away that another topology has just been given.
#[tokio::test]
async fn a_program_is_withdrawn_only_by_its_own_topology() {
    let nats = Nats::start().await;
    let bus = nats.bus("test").await;
    bus.create_stream(&journal::bucket(1)).await.unwrap();
    let program = Bytes::from_static(br#"{"topology":"new","revision":"r","maxDeliveries":3,"routes":[],"senders":[]}"#);
    bus.put_program("pool.default.a", program).await.unwrap();
    bus.withdraw_program("pool.default.a", "old").await.unwrap();
    assert_eq!(bus.list_programs("pool.").await.unwrap().len(), 1);
    bus.withdraw_program("pool.default.a", "new").await.unwrap();
    bus.withdraw_program("pool.default.a", "new").await.unwrap();
    assert!(bus.list_programs("pool.").await.unwrap().is_empty());
}
