//! Serves connections within bounds, and ends without cutting anybody off.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::telemetry::metrics::gateway::Metrics;

/// How long the headers of a request may take, from the first byte or from the request before. Longer
/// than the 90 s for which clients and proxies commonly keep a connection: who closes first must be
/// the client, or its next request meets a closed door.
pub(super) const HEADERS: Duration = Duration::from_secs(100);
/// How many connections are served at a time; more wait to be accepted.
const CONNECTIONS: usize = 16_384;
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// What a server needs besides its routes.
pub(super) struct Server {
    pub(super) listener: TcpListener,
    pub(super) routes: Router,
    pub(super) metrics: Metrics,
    pub(super) headers: Duration,
}

impl Server {
    /// Serves until `stop`, then accepts nothing more and returns when all requests have been answered.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self { listener, routes, metrics, headers } = self;
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let tracker = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &connections) => accepted,
            };
            let Some((stream, permit)) = accepted else { return };
            let (routes, metrics, stop) = (routes.clone(), metrics.clone(), stop.clone());
            tracker.spawn(async move {
                metrics.connections.inc();
                connection(stream, routes, headers, &stop).await;
                metrics.connections.dec();
                drop(permit);
            });
        }
        drop(listener);
        tracker.close();
        tracker.wait().await;
    }
}

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, permit)),
            // Too many open files, a peer that has gone: neither ends the server.
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, routes: Router, headers: Duration, stop: &CancellationToken) {
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        // First, so that an answer that comes after the end was told says that it is the last one.
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        served = connection.as_mut() => served,
    };
    if let Err(error) = served {
        debug!(%error, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use prometheus::Registry;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    async fn server(routes: Router, headers: Duration) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(Server { listener, routes, metrics, headers }.serve(stop.clone()));
        (address, stop, serving)
    }

    /// A client that never ends its headers must not hold a connection for ever.
    #[tokio::test]
    async fn headers_that_do_not_end_are_not_waited_for() {
        let (address, ..) = server(Router::new(), Duration::from_millis(50)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_has_asked_is_answered_after_the_end_was_told() {
        let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (seen, wait) = (Arc::clone(&asked), Arc::clone(&go));
        let slow = move || {
            let (seen, wait) = (Arc::clone(&seen), Arc::clone(&wait));
            async move {
                seen.notify_one();
                wait.notified().await;
                "late"
            }
        };
        let (address, stop, serving) = server(Router::new().route("/", get(slow)), HEADERS).await;
        // Before the other, so that it has been accepted once that one asks: who has not been is reset.
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        asked.notified().await;
        stop.cancel();
        go.notify_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("late") && answer.contains("connection: close"), "{answer}");
        idle.read_to_string(&mut String::new()).await.unwrap();
        serving.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "nothing is accepted any more");
    }
}
