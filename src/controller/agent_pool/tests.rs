//! Reconciles before a scripted API server: exactly which requests are made, and that none are made once
//! everything is as it should be.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Event;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::testing::config;
use super::*;
use crate::api::check::tests::pool;
use crate::bus::nats::Bus;
use crate::controller::roster::Roster;
use crate::controller::watch::{self, Writers};
use crate::telemetry::metrics;

mod adoption;

/// How the server answers a request: the status and the body.
type Script = fn(&Method, &str, &Value) -> (u16, Value);

/// A server that does what its script says, and writes down what it was asked.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<(Method, String, Value)>>>,
}

impl Server {
    fn client(&self, script: Script) -> Client {
        let asked = Arc::clone(&self.asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let asked = Arc::clone(&asked);
            async move {
                let (parts, body) = request.into_parts();
                let bytes: Bytes = body.collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let path = parts.uri.path().to_owned();
                let (status, answer) = script(&parts.method, &path, &body);
                asked.lock().unwrap().push((parts.method, path, body));
                let response = Response::builder().status(status).body(Body::from(serde_json::to_vec(&answer).unwrap()));
                Ok::<_, std::convert::Infallible>(response.unwrap())
            }
        });
        Client::new(service, "work")
    }

    /// The requests since the last time, without events, each as method and last parts of the path.
    fn take(&self) -> Vec<(String, Value)> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let asked = asked.into_iter().filter(|(_, path, _)| !path.contains("/events"));
        asked.map(|(method, path, body)| (format!("{method} {}", path.rsplit("/namespaces/work/").next().unwrap()), body)).collect()
    }

    fn requests(&self) -> Vec<String> {
        let mut all: Vec<_> = self.take().into_iter().map(|(request, _)| request).collect();
        // Pods are made and deleted side by side.
        all.sort_by_key(|request| request.contains("/pods") || request.ends_with(" pods"));
        all
    }
}

/// Whatever is created gets a UID; a patch answers with the pool.
fn obliging(method: &Method, path: &str, body: &Value) -> (u16, Value) {
    match *method {
        Method::POST => (201, stored(body)),
        Method::PATCH => (200, serde_json::to_value(pool(|_| {})).unwrap()),
        Method::DELETE => (200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})),
        _ if path.ends_with("/pods") => (200, json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})),
        _ => refuse(404, "NotFound", "there is none"),
    }
}

fn refuse(code: u16, reason: &str, message: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": message, "code": code}),
    )
}

fn stored(body: &Value) -> Value {
    let mut body = body.clone();
    let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    body["metadata"]["uid"] = json!(format!("uid-{name}"));
    body["metadata"]["resourceVersion"] = json!("7");
    body
}

/// The agents of the pool, all of which have ended for good.
fn evicted() -> Vec<Value> {
    let pool = pool(|_| {});
    let agents = build::Agents::new(&validate::validate(&pool).unwrap(), &config());
    let evicted = |ordinal| {
        let mut pod = stored(&serde_json::to_value(agents.pod(ordinal)).unwrap());
        pod["status"] = json!({"phase": "Failed", "reason": "Evicted"});
        pod
    };
    (0..3).map(evicted).collect()
}

struct Scene {
    server: Server,
    context: Arc<Context>,
    writers: Writers,
}

impl Scene {
    async fn new(script: Script) -> Self {
        let server = Server::default();
        let (stores, mut writers) = watch::stores();
        writers.pods.apply(Event::Init);
        writers.pods.apply(Event::InitDone);
        let measured = metrics::controller::Metrics::new(&metrics::registry("controller").unwrap()).unwrap();
        // Nobody listens there: the bus is away.
        let bus = Bus::connect("nats://127.0.0.1:1", "test").await.unwrap();
        let context = Arc::new(Context::new(server.client(script), bus, stores, Roster::default(), measured, config()));
        Self { server, context, writers }
    }

    /// Lets the watches show what was created by these requests.
    fn show(&mut self, requests: &[(String, Value)]) {
        for (request, body) in requests.iter().filter(|(request, _)| request.starts_with("POST")) {
            let object = stored(body);
            match request.as_str() {
                "POST pods" => {
                    self.writers.pods.apply(Event::Apply(serde_json::from_value(object).unwrap()));
                }
                "POST serviceaccounts" => {
                    let account: ServiceAccount = serde_json::from_value(object).unwrap();
                    self.writers.accounts.apply_watcher_event(&Event::Apply(account));
                }
                "POST poddisruptionbudgets" => {
                    let budget: PodDisruptionBudget = serde_json::from_value(object).unwrap();
                    self.writers.budgets.apply_watcher_event(&Event::Apply(budget));
                }
                other => panic!("{other}"),
            }
        }
    }

    async fn reconcile(&self, pool: &AgentPool) -> Result<Outcome, Error> {
        reconcile(Arc::new(pool.clone()), Arc::clone(&self.context)).await
    }
}

/// The pool with the status that these requests wrote, as the watch shows it later.
fn with_status(mut pool: AgentPool, requests: &[(String, Value)]) -> AgentPool {
    let written = requests.iter().rev().find(|(request, _)| request == "PATCH agentpools/coder/status").unwrap();
    pool.status = serde_json::from_value(written.1["status"].clone()).unwrap();
    pool.metadata.resource_version = Some("8".to_owned());
    pool
}

/// A regression here costs every cluster a load that grows with its pools, for nothing.
#[tokio::test]
async fn the_second_reconcile_makes_no_request() {
    let mut scene = Scene::new(obliging).await;
    let first = pool(|_| {});
    scene.reconcile(&first).await.unwrap();
    let asked = scene.server.take();
    let names: Vec<_> = asked.iter().map(|(request, _)| request.as_str()).collect();
    assert_eq!(
        names,
        ["POST serviceaccounts", "POST poddisruptionbudgets", "POST pods", "POST pods", "POST pods", "PATCH agentpools/coder/status"]
    );

    // The watches have shown nothing yet.
    scene.reconcile(&first).await.unwrap();
    assert_eq!(scene.server.requests(), Vec::<String>::new());

    // Then everything but the status.
    scene.show(&asked);
    scene.reconcile(&first).await.unwrap();
    assert_eq!(scene.server.requests(), Vec::<String>::new());

    // Then everything.
    let shown = with_status(first, &asked);
    assert_eq!(scene.reconcile(&shown).await.unwrap(), Outcome::Done);
    assert_eq!(scene.server.requests(), Vec::<String>::new());
}

/// A regression here hides the words that say which quota it is, or asks for each of a thousand pods.
#[tokio::test]
async fn a_refusal_is_asked_for_once_and_told() {
    let quota = |method: &Method, path: &str, body: &Value| match *method {
        Method::POST if path.ends_with("/pods") => refuse(403, "Forbidden", "pods \"coder-0\" is forbidden: exceeded quota: few"),
        _ => obliging(method, path, body),
    };
    let scene = Scene::new(quota).await;
    let refused = scene.reconcile(&pool(|spec| spec["replicas"] = json!(1000))).await.unwrap_err();
    assert_eq!(refused.class, crate::kubernetes::Class::Refused);
    let asked = scene.server.take();
    let tried = asked.iter().filter(|(request, _)| request == "POST pods").count();
    assert!(tried <= 32, "{tried} pods were tried");
    let status: AgentPoolStatus = serde_json::from_value(asked.last().unwrap().1["status"].clone()).unwrap();
    let degraded = crate::api::condition::find(&status.conditions, "Degraded").unwrap();
    assert_eq!((degraded.reason.as_str(), status.replicas), ("QuotaExceeded", 0));
    assert!(degraded.message.contains("exceeded quota: few"), "{}", degraded.message);

    // Whatever happens meanwhile, the server is not asked again for a while, unless the pool changes.
    let mut told = with_status(pool(|spec| spec["replicas"] = json!(1000)), &asked);
    assert!(matches!(scene.reconcile(&told).await.unwrap(), Outcome::After(_)));
    assert_eq!(scene.server.requests(), Vec::<String>::new());
    told.metadata.generation = Some(5);
    scene.reconcile(&told).await.unwrap_err();
    assert!(scene.server.requests().contains(&"POST pods".to_owned()));
}

/// A regression here leaves a pool degraded for a quarter of an hour after somebody did what its status asks for.
#[tokio::test]
async fn a_name_that_may_become_free_is_tried_again() {
    let foreign = |method: &Method, path: &str, body: &Value| match *method {
        Method::POST if path.ends_with("/serviceaccounts") => refuse(409, "AlreadyExists", "it exists"),
        Method::GET if path.ends_with("/serviceaccounts/coder-agent") => (200, stored(&json!({"metadata": {"name": "coder-agent"}}))),
        _ => obliging(method, path, body),
    };
    let mut scene = Scene::new(foreign).await;
    scene.reconcile(&pool(|_| {})).await.unwrap();
    let asked = scene.server.take();
    scene.show(&asked.iter().filter(|(request, _)| request != "POST serviceaccounts").cloned().collect::<Vec<_>>());
    let told = with_status(pool(|_| {}), &asked);
    let degraded = crate::api::condition::find(&told.status.as_ref().unwrap().conditions, "Degraded").unwrap();
    assert!(degraded.message.contains("serviceaccount coder-agent exists"), "{}", degraded.message);
    assert_eq!(scene.reconcile(&told).await.unwrap(), Outcome::After(UNSEEN));
    assert_eq!(scene.server.requests(), ["POST serviceaccounts", "GET serviceaccounts/coder-agent"]);
}

/// A regression here asks a thousand times for pods in a namespace whose end deletes one after the other.
#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_ending() {
    let ending = |method: &Method, path: &str, body: &Value| match *method {
        Method::POST => {
            let (code, mut status) =
                refuse(403, "Forbidden", "unable to create new content in namespace work because it is being terminated");
            status["details"] = json!({"causes": [{"reason": "NamespaceTerminating", "message": "namespace work is being terminated"}]});
            (code, status)
        }
        _ => obliging(method, path, body),
    };
    let scene = Scene::new(ending).await;
    let leaving = pool(|_| {});
    assert!(matches!(scene.reconcile(&leaving).await.unwrap(), Outcome::After(_)));
    let first = scene.server.take();
    let status: AgentPoolStatus = serde_json::from_value(first.last().unwrap().1["status"].clone()).unwrap();
    assert!(!crate::api::condition::is_true(&status.conditions, "Degraded"), "it is nobody's mistake");
    assert!(matches!(scene.reconcile(&with_status(leaving, &first)).await.unwrap(), Outcome::After(_)));
    assert_eq!(scene.server.requests(), Vec::<String>::new());
}

/// A regression here lets a new leader, whose watch may lag behind, delete on top of what the old one did.
#[tokio::test]
async fn the_first_deletion_of_a_process_begins_with_a_list() {
    let mut scene = Scene::new(obliging).await;
    scene.reconcile(&pool(|_| {})).await.unwrap();
    scene.show(&scene.server.take());
    let fewer = pool(|spec| spec["replicas"] = json!(1));
    // The list says that there are no pods at all: nothing is deleted, and one is made.
    scene.reconcile(&fewer).await.unwrap();
    assert_eq!(scene.server.requests(), ["PATCH agentpools/coder/status", "GET pods", "POST pods"]);
}

/// A regression here counts an error, warns and tries again for a minute at each pool that somebody deletes.
#[tokio::test]
async fn a_pool_that_was_deleted_a_moment_ago_is_no_error() {
    let gone = |method: &Method, path: &str, body: &Value| match *method {
        Method::PATCH if path.ends_with("/status") => refuse(404, "NotFound", "agentpools.skein.dev \"coder\" not found"),
        Method::GET if path.ends_with("/pods") => (200, json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": evicted()})),
        _ => obliging(method, path, body),
    };
    let mut scene = Scene::new(gone).await;
    scene.reconcile(&pool(|_| {})).await.unwrap();
    assert_eq!(scene.server.take().last().unwrap().0, "PATCH agentpools/coder/status");

    // Nor is it when replacements should be counted first; nothing is deleted or made for it then.
    for pod in evicted() {
        scene.writers.pods.apply(Event::Apply(serde_json::from_value(pod).unwrap()));
    }
    assert_eq!(scene.reconcile(&pool(|_| {})).await.unwrap(), Outcome::Done);
    assert_eq!(scene.server.requests(), ["PATCH agentpools/coder/status", "GET pods"]);
}

/// A regression here starts agents of a pool that is going away, and holds up its deletion.
#[tokio::test]
async fn a_pool_that_is_being_deleted_is_left_alone() {
    let scene = Scene::new(obliging).await;
    let mut leaving = pool(|_| {});
    leaving.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2030-01-01T00:00:00Z")).unwrap());
    assert_eq!(scene.reconcile(&leaving).await.unwrap(), Outcome::Done);
    assert_eq!(scene.server.requests(), Vec::<String>::new());
}

/// A regression here deletes the successor of the pod that was meant.
#[tokio::test]
async fn a_deletion_names_the_very_pod() {
    let listed = |method: &Method, path: &str, body: &Value| {
        let owner =
            json!([{"apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "name": "coder", "uid": "pool-uid", "controller": true}]);
        let pod = |name: &str| {
            json!({"metadata": {"name": name, "namespace": "work", "uid": format!("uid-{name}"), "resourceVersion": "7",
                "labels": {"skein.dev/pool": "coder"}, "ownerReferences": owner}})
        };
        if *method == Method::GET && path.ends_with("/pods") {
            return (
                200,
                json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod("coder-0"), pod("coder-1"), pod("coder-2")]}),
            );
        }
        obliging(method, path, body)
    };
    let mut scene = Scene::new(listed).await;
    scene.reconcile(&pool(|_| {})).await.unwrap();
    scene.show(&scene.server.take());
    scene.reconcile(&pool(|spec| spec["operatingMode"] = json!("Suspended"))).await.unwrap();
    let deletions: Vec<_> = scene.server.take().into_iter().filter(|(request, _)| request.starts_with("DELETE")).collect();
    assert_eq!(deletions.len(), 3);
    for (request, body) in deletions {
        let name = request.rsplit('/').next().unwrap();
        assert_eq!(body["preconditions"]["uid"], json!(format!("uid-{name}")));
        assert_eq!(body.get("gracePeriodSeconds"), None, "the pod's own grace period");
    }
}
