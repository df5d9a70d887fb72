//! A proxy before the API server, on plain HTTP, that shows one namespace only, with the rights of an installed
//! controller, counts writes, and lets the connection break before or after one of them.
//!
//! Showing one namespace lets several controllers work side by side on one server: whoever watches the
//! pods of the cluster through this proxy watches those of the namespace.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::rights;

/// Where the connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The server never hears of the write with this number; the first one is 1.
    Before(usize),
    /// The server does what it was asked, and nobody learns of it.
    After(usize),
}

struct Shared {
    server: Client,
    namespace: String,
    breaks: Option<Break>,
    writes: AtomicUsize,
    broken: AtomicBool,
    dead: CancellationToken,
    log: Mutex<Vec<String>>,
    renewals: AtomicUsize,
    looks: AtomicUsize,
    lists: Mutex<Vec<String>>,
    rights: Mutex<BTreeSet<String>>,
}

/// The proxy. It ends with this value.
pub struct Proxy {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    end: CancellationToken,
}

impl Proxy {
    /// Starts a proxy that shows a namespace of a server.
    pub async fn start(server: Client, namespace: &str, breaks: Option<Break>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            namespace: namespace.to_owned(),
            breaks,
            writes: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            dead: CancellationToken::new(),
            log: Mutex::default(),
            renewals: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            lists: Mutex::default(),
            rights: Mutex::default(),
        });
        let end = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&shared), end.clone()));
        Self { shared, address, end }
    }

    /// The namespace that it shows.
    pub fn namespace(&self) -> &str {
        &self.shared.namespace
    }

    /// A client that goes through the proxy.
    pub fn client(&self) -> Client {
        let mut config = Config::new(format!("http://{}", self.address).parse().unwrap());
        config.default_namespace.clone_from(&self.shared.namespace);
        Client::try_from(config).unwrap()
    }

    /// The writes so far, as method and path, in the order in which they came.
    pub fn writes(&self) -> Vec<String> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The reads so far that were no watch, and not of the lease.
    pub fn reads(&self) -> Vec<String> {
        self.shared.lists.lock().unwrap().clone()
    }

    /// How often the lease was written.
    pub fn renewals(&self) -> usize {
        self.shared.renewals.load(Ordering::SeqCst)
    }

    /// How often the lease was read; watching it is no read.
    pub fn looks(&self) -> usize {
        self.shared.looks.load(Ordering::SeqCst)
    }

    /// Every right that was needed so far.
    pub fn rights(&self) -> BTreeSet<String> {
        self.shared.rights.lock().unwrap().clone()
    }

    /// Completes once the connection has broken.
    pub async fn broken(&self) {
        self.shared.dead.cancelled().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, end: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { return };
        let (shared, end) = (Arc::clone(&shared), end.clone());
        tokio::spawn(async move {
            let dead = shared.dead.clone();
            let service = service_fn(|request| serve(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = dead.cancelled() => {}
                () = end.cancelled() => {}
            }
        });
    }
}

/// A request that is never answered: its connection is cut.
async fn cut(shared: &Shared) -> Result<Response<Body>, Infallible> {
    shared.dead.cancel();
    std::future::pending().await
}

async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if shared.broken.load(Ordering::SeqCst) {
        return cut(&shared).await;
    }
    let mut number = 0;
    // The lease is the election's business, and is renewed by time and not by what happens.
    let (writes, uri) = (request.method() != Method::GET, request.uri().to_string());
    let watches = uri.contains("watch=true");
    shared.rights.lock().unwrap().insert(rights::needed(request.method(), &uri));
    if uri.contains("/leases") {
        shared.renewals.fetch_add(usize::from(writes), Ordering::SeqCst);
        shared.looks.fetch_add(usize::from(!writes && !watches), Ordering::SeqCst);
    } else if !writes && !watches {
        shared.lists.lock().unwrap().push(uri);
    } else if writes {
        number = shared.writes.fetch_add(1, Ordering::SeqCst) + 1;
        shared.log.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
    }
    if number > 0 && shared.breaks == Some(Break::Before(number)) {
        shared.broken.store(true, Ordering::SeqCst);
        return cut(&shared).await;
    }
    let last = number > 0 && shared.breaks == Some(Break::After(number));
    if last {
        shared.broken.store(true, Ordering::SeqCst);
    }
    let (mut parts, body) = request.into_parts();
    parts.uri = narrowed(&parts.uri.to_string(), &shared.namespace).parse().unwrap();
    parts.headers.remove(http::header::HOST);
    parts.headers.insert("impersonate-user", http::HeaderValue::from_static(rights::USER));
    let bytes = http_body_util::BodyExt::collect(body).await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = shared.server.send(Request::from_parts(parts, Body::from(bytes.to_vec()))).await;
    if last {
        return cut(&shared).await;
    }
    Ok(answer.unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    }))
}

/// The path of what a whole cluster has becomes that of what one namespace has.
fn narrowed(uri: &str, namespace: &str) -> String {
    let (path, query) = uri.split_once('?').map_or((uri, String::new()), |(path, query)| (path, format!("?{query}")));
    let kinds = ["pods", "serviceaccounts", "poddisruptionbudgets", "agentpools", "topologies"];
    let narrowed = kinds.iter().find_map(|kind| {
        let group = path.strip_suffix(kind)?.strip_suffix('/')?;
        (!group.contains("/namespaces/")).then(|| format!("{group}/namespaces/{namespace}/{kind}"))
    });
    format!("{}{query}", narrowed.unwrap_or_else(|| path.to_owned()))
}

#[test]
fn only_what_a_whole_cluster_has_is_narrowed() {
    assert_eq!(narrowed("/api/v1/pods?watch=1", "a"), "/api/v1/namespaces/a/pods?watch=1");
    assert_eq!(narrowed("/apis/skein.dev/v1alpha1/agentpools", "a"), "/apis/skein.dev/v1alpha1/namespaces/a/agentpools");
    assert_eq!(narrowed("/api/v1/namespaces/b/pods", "a"), "/api/v1/namespaces/b/pods");
}
