//! Receives the body of a task without ever holding more than it may.
//!
//! A body that is too large is refused by what its sender says of it, before a byte of it is read, and
//! otherwise at the byte that is too many. What all requests together receive is bounded too: a request
//! that finds no room is refused at once, because requests that wait for each other's room would wait
//! for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problems;
use crate::http::Problem;

/// How long a sender may pause within a body.
const PAUSE: Duration = Duration::from_secs(30);
/// How much and for how long a body is read on after it has been refused. A sender that is cut off in
/// the middle of writing often never reads why.
const WASTE: usize = 64 << 20;
const WASTE_TIME: Duration = Duration::from_secs(10);

/// The room that all bodies share, in KiB.
#[derive(Clone)]
pub(super) struct Intake {
    room: Arc<Semaphore>,
    mebibytes: usize,
    pause: Duration,
}

/// A body, and the room that it takes until it is dropped.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) body: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Intake {
    pub(super) fn new(mebibytes: usize) -> Self {
        let mebibytes = mebibytes.clamp(1, Semaphore::MAX_PERMITS / 1024);
        Self { room: Arc::new(Semaphore::new(mebibytes * 1024)), mebibytes, pause: PAUSE }
    }

    /// Receives a body of `limit` bytes at most.
    pub(super) async fn receive(&self, mut body: Body, declared: Option<u64>, limit: usize) -> Result<Received, Problem> {
        if declared.is_some_and(|bytes| bytes > limit as u64) {
            waste(body);
            return Err(Problem::too_large(limit));
        }
        match self.read(&mut body, limit).await {
            Ok(received) => Ok(received),
            Err(problem) => {
                waste(body);
                Err(problem)
            }
        }
    }

    async fn read(&self, body: &mut Body, limit: usize) -> Result<Received, Problem> {
        let mut room: Option<OwnedSemaphorePermit> = None;
        let mut parts: Vec<Bytes> = Vec::new();
        let mut size = 0;
        loop {
            let Ok(frame) = tokio::time::timeout(self.pause, body.frame()).await else {
                return Err(problems::too_slow(self.pause.as_secs()));
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| problems::broken_off(&error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            size += data.len();
            if size > limit {
                return Err(Problem::too_large(limit));
            }
            let kibibytes = u32::try_from(data.len().div_ceil(1024)).unwrap_or(u32::MAX);
            let Ok(more) = Arc::clone(&self.room).try_acquire_many_owned(kibibytes) else {
                return Err(problems::too_many(&format!("tasks of {} MiB together are being received", self.mebibytes), self.mebibytes));
            };
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            parts.push(data);
        }
        let body = match parts.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut whole = BytesMut::with_capacity(size);
                many.iter().for_each(|part| whole.extend_from_slice(part));
                whole.freeze()
            }
        };
        Ok(Received { body, _room: room })
    }
}

/// Reads the rest of a body that nobody wants, within bounds.
fn waste(mut body: Body) {
    tokio::spawn(tokio::time::timeout(WASTE_TIME, async move {
        let mut size = 0;
        while let Some(Ok(frame)) = body.frame().await {
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > WASTE {
                return;
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use pretty_assertions::assert_eq;

    fn body(frames: &[usize]) -> Body {
        let frames: Vec<Result<Bytes, std::io::Error>> = frames.iter().map(|size| Ok(Bytes::from(vec![7; *size]))).collect();
        Body::from_stream(stream::iter(frames))
    }

    fn refused(result: Result<Received, Problem>) -> (u16, &'static str) {
        let problem = result.unwrap_err();
        (problem.status.as_u16(), problem.kind)
    }

    #[tokio::test]
    async fn a_body_is_refused_by_its_announcement_or_at_the_byte_that_is_too_many() {
        let intake = Intake::new(1);
        assert_eq!(intake.receive(body(&[10, 10]), Some(20), 20).await.unwrap().body, vec![7; 20]);
        assert_eq!(intake.receive(body(&[]), None, 20).await.unwrap().body, Bytes::new());
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(refused(intake.receive(never, Some(21), 20).await), (413, "too-large"));
        assert_eq!(refused(intake.receive(body(&[10, 11]), None, 20).await), (413, "too-large"));
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_room_comes_back() {
        let intake = Intake::new(1);
        let held = intake.receive(body(&[600 << 10]), None, 1 << 20).await.unwrap();
        assert_eq!(refused(intake.receive(body(&[600 << 10]), None, 1 << 20).await), (503, "overloaded"));
        drop(held);
        assert!(intake.receive(body(&[600 << 10]), None, 1 << 20).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_sending_is_not_waited_for() {
        let intake = Intake::new(1);
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(refused(intake.receive(never, None, 20).await), (408, "too-slow"));
        let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]));
        assert_eq!(refused(intake.receive(broken, None, 20).await), (400, "bad-request"));
    }
}
