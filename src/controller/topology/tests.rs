//! Reconciles against a scripted API server.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::memory::Memory;
use super::testing::{at, of_spec, topology};
use super::*;
use crate::bus::nats::Bus as Connection;
use crate::controller::context::Config;
use crate::controller::roster::Roster;
use crate::controller::watch;
use crate::telemetry::metrics;

type Calls = Arc<Mutex<Vec<String>>>;

/// An API server that keeps one topology and notes every call.
struct Server {
    calls: Calls,
    object: Arc<Mutex<Value>>,
    client: Client,
}

impl Server {
    fn with(topology: &Topology) -> Self {
        let (calls, object) = (Calls::default(), Arc::new(Mutex::new(serde_json::to_value(topology).unwrap())));
        let (noted, kept) = (Arc::clone(&calls), Arc::clone(&object));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (noted, kept) = (Arc::clone(&noted), Arc::clone(&kept));
            async move {
                let (head, body) = request.into_parts();
                let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
                let place = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
                let answer = if place == "events" {
                    noted.lock().unwrap().push(format!("event {}", body["reason"].as_str().unwrap_or_default()));
                    body
                } else {
                    noted.lock().unwrap().push(format!("{} {place}", head.method));
                    let mut object = kept.lock().unwrap();
                    if head.method == Method::PATCH {
                        let version =
                            object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok()).unwrap_or_default();
                        object["metadata"]["resourceVersion"] = (version + 1).to_string().into();
                        if place == "status" {
                            object["status"] = body["status"].clone();
                        } else {
                            object["metadata"]["finalizers"] = body["metadata"]["finalizers"].clone();
                        }
                    }
                    object.clone()
                };
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(serde_json::to_vec(&answer).unwrap())))
            }
        });
        Self { calls, object, client: Client::new(service, "default") }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn object(&self) -> Arc<Topology> {
        Arc::new(serde_json::from_value(self.object.lock().unwrap().clone()).unwrap())
    }

    async fn context(&self) -> Arc<Context> {
        let measured = metrics::controller::Metrics::new(&metrics::registry("controller").unwrap()).unwrap();
        let config = Config {
            sidecar_image: String::new(),
            sidecar_image_pull_policy: String::new(),
            agent_nats_url: String::new(),
            identity: "test".into(),
        };
        // Nobody listens there: the bus is away.
        let bus = Connection::connect("nats://127.0.0.1:1", "test").await.unwrap();
        let mut context = Context::new(self.client.clone(), bus, watch::stores().0, Roster::default(), measured, config);
        context.clock = Arc::new(|| at(1_000_000_000));
        Arc::new(context)
    }
}

/// A regression here writes to the API server for ever.
#[tokio::test]
async fn a_second_look_makes_no_call() {
    let server = Server::with(&topology(&["a"]));
    let (context, memory) = (server.context().await, Arc::new(Memory::default()));
    let first = server.object();
    let outcome = reconcile(Arc::clone(&first), Arc::clone(&context), Arc::clone(&memory)).await.unwrap();
    assert_eq!(outcome, Outcome::After(AWAY));
    assert_eq!(server.calls(), ["PATCH t", "PATCH status", "event PoolNotFound", "event BusUnavailable"]);
    assert_eq!(server.object().finalizers(), [labels::FINALIZER]);

    reconcile(server.object(), Arc::clone(&context), Arc::clone(&memory)).await.unwrap();
    assert_eq!(server.calls(), [""; 0]);

    // Nor does one whose store has not heard of its own write yet, or whose process is a new one.
    let mut stale = Arc::unwrap_or_clone(first);
    stale.metadata.finalizers = Some(vec![labels::FINALIZER.to_owned()]);
    stale.metadata.resource_version = Some("2".to_owned());
    reconcile(Arc::new(stale), Arc::clone(&context), memory).await.unwrap();
    reconcile(server.object(), context, Arc::default()).await.unwrap();
    assert_eq!(server.calls(), [""; 0]);
}

/// A regression here tells everybody of the same weakness at every look.
#[tokio::test]
async fn what_is_found_is_told_once() {
    let weak = of_spec(json!({"architecture": "Hierarchical", "members": [{"pool": "a"}, {"pool": "b"}]}));
    let server = Server::with(&weak);
    let (context, memory) = (server.context().await, Arc::new(Memory::default()));
    reconcile(server.object(), Arc::clone(&context), Arc::clone(&memory)).await.unwrap();
    assert_eq!(server.calls(), ["PATCH t", "PATCH status", "event PoolNotFound", "event BusUnavailable", "event IsolatedMember"]);
    let found: Vec<_> = server.object().status.clone().unwrap().findings.into_iter().map(|finding| finding.remedy).collect();
    assert_eq!(found, ["spec.members[0].manager: b", "spec.members[1].manager: a"]);
    reconcile(server.object(), Arc::clone(&context), memory).await.unwrap();
    reconcile(server.object(), context, Arc::default()).await.unwrap();
    assert_eq!(server.calls(), [""; 0]);
}

#[tokio::test]
async fn a_wrong_topology_is_told_so_once_and_not_put_on_the_bus() {
    let wrong = of_spec(json!({"architecture": "Hierarchical", "members": [{"pool": "a", "manager": "b"}, {"pool": "b", "manager": "a"}]}));
    let server = Server::with(&wrong);
    let (context, memory) = (server.context().await, Arc::new(Memory::default()));
    let outcome = reconcile(server.object(), Arc::clone(&context), Arc::clone(&memory)).await.unwrap();
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(server.calls(), ["PATCH t", "PATCH status", "event ManagerCycle", "event PoolNotFound", "event NotAccepted"]);
    reconcile(server.object(), context, memory).await.unwrap();
    assert_eq!(server.calls(), [""; 0]);
}

/// A regression here makes a topology anew that somebody has just let go by hand.
#[tokio::test]
async fn a_topology_that_is_let_go_by_hand_is_left_alone() {
    let server = Server::with(&topology(&["a"]));
    let (context, memory) = (server.context().await, Arc::new(Memory::default()));
    let mut going = Arc::unwrap_or_clone(server.object());
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
    assert_eq!(reconcile(Arc::new(going), context, memory).await.unwrap(), Outcome::Done);
    assert_eq!(server.calls(), [""; 0]);
}
