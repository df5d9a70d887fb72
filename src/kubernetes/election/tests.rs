//! Candidates before an API server that has nothing but one lease. Time is the test's.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::*;

const TIMING: Timing = Timing { lease: Duration::from_secs(15), give_up: Duration::from_secs(10), renew: Duration::from_secs(2) };

/// What becomes of a candidate's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// They are answered.
    Good,
    /// Watches begin and say nothing.
    SilentWatches,
    /// Watches are refused.
    NoWatches,
    /// Nothing is answered.
    Dead,
}

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    watchers: Vec<UnboundedSender<Bytes>>,
    unheard: Vec<UnboundedSender<Bytes>>,
}

/// The server, and what one candidate after the other asked it.
#[derive(Clone, Default)]
struct Server {
    state: Arc<Mutex<State>>,
}

/// One candidate's way to the server.
#[derive(Clone)]
struct Way {
    server: Server,
    line: Arc<Mutex<Line>>,
    asked: Arc<Mutex<Vec<String>>>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(serde_json::to_vec(body).unwrap())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn refuse(code: u16) -> Answer {
    answer(code, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no", "code": code}))
}

impl Server {
    fn way(&self, line: Line) -> Way {
        Way { server: self.clone(), line: Arc::new(Mutex::new(line)), asked: Arc::default() }
    }

    /// Who holds the lease.
    fn holder(&self) -> Option<String> {
        Some(self.state.lock().unwrap().lease.as_ref()?["spec"]["holderIdentity"].as_str()?.to_owned())
    }

    fn write(&self, mut lease: Value) -> Answer {
        let mut state = self.state.lock().unwrap();
        let now = state.lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
        if now.unwrap_or_default() != lease["metadata"]["resourceVersion"] {
            return refuse(409);
        }
        state.version += 1;
        lease["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.lease = Some(lease.clone());
        let event = Bytes::from(format!("{}\n", json!({"type": "MODIFIED", "object": lease})));
        state.watchers.retain(|watcher| watcher.unbounded_send(event.clone()).is_ok());
        answer(200, &lease)
    }

    fn watch(&self, line: Line) -> Answer {
        let (sender, receiver): (_, UnboundedReceiver<Bytes>) = unbounded();
        let mut state = self.state.lock().unwrap();
        match line {
            Line::NoWatches => return refuse(403),
            Line::SilentWatches => state.unheard.push(sender),
            Line::Good | Line::Dead => state.watchers.push(sender),
        }
        Response::new(StreamBody::new(receiver.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync())
    }
}

impl Way {
    fn client(&self) -> Client {
        let way = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let way = way.clone();
            async move {
                let (head, body) = request.into_parts();
                let body: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
                Ok::<_, Infallible>(way.serve(&head.method, &head.uri.to_string(), body).await)
            }
        });
        Client::new(service, "skein")
    }

    async fn serve(&self, method: &Method, uri: &str, body: Value) -> Answer {
        let line = *self.line.lock().unwrap();
        if line == Line::Dead {
            return std::future::pending().await;
        }
        let asked = if uri.contains("watch=true") {
            "watch"
        } else if uri.ends_with("/leases/leader") && method == Method::GET {
            "get"
        } else {
            method.as_str()
        };
        self.asked.lock().unwrap().push(asked.to_owned());
        let lease = self.server.state.lock().unwrap().lease.clone();
        match asked {
            "watch" => self.server.watch(line),
            "get" => lease.map_or_else(|| refuse(404), |lease| answer(200, &lease)),
            "GET" => {
                let items: Vec<_> = lease.into_iter().collect();
                answer(
                    200,
                    &json!({"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "metadata": {"resourceVersion": "1"}, "items": items}),
                )
            }
            _ => self.server.write(body),
        }
    }

    fn set(&self, line: Line) {
        *self.line.lock().unwrap() = line;
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// A candidate that leads until it is told to end.
struct Candidate {
    way: Way,
    leads: oneshot::Receiver<Instant>,
    end: Option<oneshot::Sender<()>>,
    task: AbortOnDropHandle<Option<()>>,
}

impl Candidate {
    fn new(server: &Server, identity: &str, line: Line) -> Self {
        let way = server.way(line);
        let election = Election::new(way.client(), "skein", "leader", identity, TIMING);
        let ((begins, leads), (end, told)) = (oneshot::channel(), oneshot::channel::<()>());
        let task = tokio::spawn(async move {
            let work = async {
                begins.send(Instant::now()).unwrap();
                let _ = told.await;
            };
            election.with_lease(work).await
        });
        Self { way, leads, end: Some(end), task: AbortOnDropHandle::new(task) }
    }

    async fn leader(server: &Server, identity: &str) -> Self {
        let mut candidate = Self::new(server, identity, Line::Good);
        (&mut candidate.leads).await.unwrap();
        candidate
    }

    /// When it began to lead.
    async fn led(&mut self) -> Instant {
        tokio::time::timeout(Duration::from_secs(3600), &mut self.leads).await.expect("it never leads").unwrap()
    }
}

async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// The leader dies at different moments between two renewals. A regression here leaves every team without a
/// controller for longer than promised, or costs the API server a read a second for each replica that waits.
#[tokio::test(start_paused = true)]
async fn a_leader_that_died_is_followed_when_its_lease_is_over() {
    for after in [60.01, 60.5, 61.0, 61.99] {
        let server = Server::default();
        let first = Candidate::leader(&server, "first").await;
        let mut second = Candidate::new(&server, "second", Line::Good);
        pass(after).await;
        assert_eq!(second.way.asked(), ["GET", "watch"], "it only listens");
        drop(first);
        let killed = Instant::now();
        let took = second.led().await - killed;
        assert!(took <= TIMING.lease + JITTER, "{took:?}");
        assert!(took >= TIMING.lease - TIMING.renew, "{took:?}");
        let asked = second.way.asked();
        assert!(asked.len() <= 8 && asked.iter().filter(|asked| *asked == "PUT").count() == 1, "{asked:?}");
        assert_eq!(server.holder().as_deref(), Some("second"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let server = Server::default();
    let mut first = Candidate::leader(&server, "first").await;
    let mut second = Candidate::new(&server, "second", Line::Good);
    pass(60.0).await;
    let told = Instant::now();
    first.end.take().unwrap().send(()).unwrap();
    assert!(second.led().await - told < Duration::from_millis(100));
    assert_eq!(first.task.await.unwrap(), Some(()));
}

/// A regression here lets two lead because a connection hangs, or nobody after the leader died.
#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_is_not_believed() {
    for line in [Line::SilentWatches, Line::NoWatches] {
        let server = Server::default();
        let first = Candidate::leader(&server, "first").await;
        let mut second = Candidate::new(&server, "second", line);
        pass(600.0).await;
        assert_eq!(server.holder().as_deref(), Some("first"), "{line:?}");
        let reads = second.way.asked().iter().filter(|asked| *asked == "get").count();
        assert!((100..=300).contains(&reads), "{line:?}: {reads} reads in 600 seconds");
        drop(first);
        let killed = Instant::now();
        let took = second.led().await - killed;
        assert!(took <= TIMING.lease + TIMING.renew.mul_f64(1.5) + JITTER, "{line:?}: {took:?}");
    }
}

/// A regression here lets two lead at once.
#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_ends_before_another_one_begins() {
    let server = Server::default();
    let first = Candidate::leader(&server, "first").await;
    let mut second = Candidate::new(&server, "second", Line::Good);
    pass(61.0).await;
    first.way.set(Line::Dead);
    let cut = Instant::now();
    assert_eq!(first.task.await.unwrap(), None);
    let ended = Instant::now();
    assert!(ended - cut <= TIMING.give_up, "{:?}", ended - cut);
    assert!(second.led().await > ended);
}

/// Somebody annotates the lease, or the answer to a renewal is lost: the leader's own version is stale then.
#[tokio::test(start_paused = true)]
async fn a_version_that_is_stale_is_no_loss_while_the_lease_is_ours() {
    let server = Server::default();
    let first = Candidate::leader(&server, "first").await;
    let lease = server.state.lock().unwrap().lease.clone().unwrap();
    server.write(lease.clone());
    pass(60.0).await;
    assert!(!first.task.is_finished());
    assert!(first.way.asked().iter().filter(|asked| *asked == "get").count() == 1, "read once");

    let mut taken = server.state.lock().unwrap().lease.clone().unwrap();
    taken["spec"]["holderIdentity"] = json!("somebody");
    server.write(taken);
    assert_eq!(first.task.await.unwrap(), None, "that is a loss");
    assert_eq!(server.holder().as_deref(), Some("somebody"), "and nothing is given back");
}

#[tokio::test(start_paused = true)]
async fn of_many_that_begin_one_leads() {
    let server = Server::default();
    let mut all: Vec<_> = ["a", "b", "c"].map(|identity| Candidate::new(&server, identity, Line::Good)).into_iter().collect();
    pass(30.0).await;
    let leading = all.iter_mut().filter_map(|candidate| candidate.leads.try_recv().ok()).count();
    assert_eq!(leading, 1);
}
