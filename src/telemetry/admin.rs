//! The server for probes and metrics that every role has: `/livez`, `/readyz` and `/metrics`.
//!
//! `/livez` says only that the process serves requests; nothing that it depends on has a part in it.
//! `/readyz` asks the role.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::Registry;

use super::metrics;

/// Says whether a role is ready, or in one sentence why it is not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Clone)]
struct Admin {
    registry: Registry,
    ready: Readiness,
}

/// The routes; a role may add its own.
pub fn router(registry: Registry, ready: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Admin { registry, ready })
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match (admin.ready)() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn scrape(State(admin): State<Admin>) -> Response {
    match metrics::encode(&admin.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    async fn ask(path: &str, ready: Result<(), String>) -> (StatusCode, String) {
        let registry = metrics::registry("test").unwrap();
        let router = router(registry, Arc::new(move || ready.clone()));
        let response = router.oneshot(http::Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn only_readiness_depends_on_the_role() {
        let sick = || Err("the bus is away".to_owned());
        assert_eq!(ask("/livez", sick()).await.0, StatusCode::OK);
        assert_eq!(ask("/readyz", sick()).await, (StatusCode::SERVICE_UNAVAILABLE, "the bus is away\n".to_owned()));
        assert_eq!(ask("/readyz", Ok(())).await.0, StatusCode::OK);
        assert!(ask("/metrics", sick()).await.1.contains("skein_build_info"));
    }
}
