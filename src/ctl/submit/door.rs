//! The way to the gateway: its own address when the user knows one, otherwise through the API server,
//! which needs no port of the gateway to be reachable from here.
//!
//! The API server passes bodies of any kind and size on as they are, with one exception that the
//! answer tells of: in HTML it rewrites links.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, ListParams};
use kube::client::Body;
use kube::{Client, Config, ResourceExt as _};

use super::super::cluster::{Cluster, root};
use super::encoded;
use crate::api::labels;
use crate::cli::{DoorArgs, SubmitArgs};

/// How much longer than it waits a request may take.
const GRACE: Duration = Duration::from_secs(60);

/// Somewhere to send requests to.
pub(super) struct Door {
    client: Client,
    /// What comes before the paths of the gateway.
    prefix: String,
    /// The gateway's own address, when the user gave one.
    address: Option<String>,
    namespace: String,
}

/// What came back, from the gateway or from whoever stands before it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Nothing came back.
#[derive(Debug)]
pub(super) struct Silence {
    pub(super) sentence: String,
    /// Whether the request has certainly not been received.
    pub(super) certain: bool,
}

impl Door {
    /// Finds the gateway.
    ///
    /// # Errors
    /// In one sentence, when there is none, or none that may be used.
    pub(super) async fn find(args: &DoorArgs) -> Result<Self, String> {
        match &args.gateway {
            Some(address) => Self::at(address, args).await,
            None => Self::through_cluster(args).await,
        }
    }

    async fn at(address: &str, args: &DoorArgs) -> Result<Self, String> {
        let wrong = || format!("--gateway {address:?} is not an address like http://gateway.example:8080");
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() {
            return Err(wrong());
        }
        let mut config = Config::new(uri);
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| format!("--gateway {address}: {}", root(&error)))?;
        // Whoever names neither cluster nor namespace may have no kubeconfig at all.
        let namespace = match (&args.cluster.namespace, Cluster::find(&args.cluster).await) {
            (Some(namespace), _) => namespace.clone(),
            (None, Ok(cluster)) => cluster.namespace,
            (None, Err(why)) if args.cluster.context.is_some() || args.cluster.kubeconfig.is_some() => return Err(why),
            (None, Err(_)) => "default".to_owned(),
        };
        Ok(Self { client, prefix: String::new(), address: Some(address.trim_end_matches('/').to_owned()), namespace })
    }

    async fn through_cluster(args: &DoorArgs) -> Result<Self, String> {
        let cluster = Cluster::find(&args.cluster).await?;
        let selector = ListParams::default().labels(&format!("{}=skein,{}=gateway", labels::APP_NAME, labels::APP_COMPONENT));
        let services: Api<Service> = match &args.gateway_namespace {
            Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
            None => Api::all(cluster.client.clone()),
        };
        let found = services.list(&selector).await.map_err(|error| {
            let hint = match &error {
                kube::Error::Api(status) if status.code == 403 => {
                    "; give the gateway's namespace with --gateway-namespace, or its address with --gateway or SKEIN_GATEWAY_URL"
                }
                _ => "",
            };
            format!("{}{hint}", cluster.explain("find the gateway", &error))
        })?;
        let prefix = proxy(&found.items)?;
        Ok(Self { client: cluster.patient_client()?, prefix, address: None, namespace: cluster.namespace })
    }

    /// Whether the API server stands in between.
    pub(super) fn is_proxied(&self) -> bool {
        self.address.is_none()
    }

    /// The command by which the user can ask for a result later.
    pub(super) fn later(&self, topology: &str, id: &str) -> String {
        let path = format!("{}/{id}/result?wait=60", self.tasks(topology));
        match &self.address {
            Some(address) => format!("curl '{address}{path}'"),
            None => format!("kubectl get --raw '{path}'"),
        }
    }

    /// Sends a task.
    pub(super) async fn submit(&self, args: &SubmitArgs, key: &str, input: Bytes, wait: Option<Duration>) -> Result<Reply, Silence> {
        let target = match (&args.to, &args.capability) {
            (Some(pool), _) => format!("to={}", encoded(pool)),
            (None, capability) => format!("capability={}", encoded(capability.as_deref().unwrap_or_default())),
        };
        let wait_for = wait.map_or_else(String::new, |wait| format!("&wait={}", wait.as_secs()));
        let deadline = args.deadline.map_or_else(String::new, |seconds| format!("&deadline={seconds}"));
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}?{target}{wait_for}{deadline}", self.tasks(&args.topology)))
            .header("content-type", &args.content_type)
            .header("idempotency-key", key);
        self.send(request, input, wait.unwrap_or_default()).await
    }

    /// Asks for a result.
    pub(super) async fn result(&self, topology: &str, id: &str, wait: Duration) -> Result<Reply, Silence> {
        let request = Request::get(format!("{}/{}/result?wait={}", self.tasks(topology), encoded(id), wait.as_secs()));
        self.send(request, Bytes::new(), wait).await
    }

    /// Cancels a task.
    pub(super) async fn cancel(&self, topology: &str, id: &str) -> Result<Reply, Silence> {
        let request = Request::delete(format!("{}/{}", self.tasks(topology), encoded(id)));
        self.send(request, Bytes::new(), Duration::ZERO).await
    }

    fn tasks(&self, topology: &str) -> String {
        format!("{}/v1/namespaces/{}/topologies/{}/tasks", self.prefix, encoded(&self.namespace), encoded(topology))
    }

    async fn send(&self, request: http::request::Builder, body: Bytes, wait: Duration) -> Result<Reply, Silence> {
        let request = request
            .body(Body::from(body))
            .map_err(|error| Silence { sentence: format!("the request cannot be made: {error}"), certain: true })?;
        let exchange = async {
            let (parts, body) = self.client.send(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        match tokio::time::timeout(wait + GRACE, exchange).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.silence(&error)),
            Err(_) => Err(Silence { sentence: format!("{} does not answer", self.place()), certain: false }),
        }
    }

    fn silence(&self, error: &kube::Error) -> Silence {
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        let mut certain = false;
        while let Some(error) = cause {
            let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            certain |= kind == Some(std::io::ErrorKind::ConnectionRefused);
            cause = error.source();
        }
        Silence { sentence: format!("{} cannot be reached: {}", self.place(), root(error)), certain }
    }

    fn place(&self) -> String {
        self.address.as_ref().map_or_else(|| "the API server".to_owned(), |address| format!("the gateway at {address}"))
    }
}

/// The path by which the API server leads to the gateway.
fn proxy(services: &[Service]) -> Result<String, String> {
    let named = |service: &Service| format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any());
    let service = match services {
        [] => {
            return Err(format!(
                "there is no gateway in the cluster, that is no Service with the labels {}=skein and {}=gateway: install it, or give its address with --gateway",
                labels::APP_NAME,
                labels::APP_COMPONENT
            ));
        }
        [one] => one,
        many => {
            let names: Vec<String> = many.iter().map(named).collect();
            return Err(format!("there are {} gateways ({}): choose with --gateway-namespace or --gateway", names.len(), names.join(", ")));
        }
    };
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let port = ports.iter().find(|port| port.name.as_deref() == Some("http")).or(ports.first());
    match port {
        Some(port) => {
            let namespace = service.namespace().unwrap_or_default();
            Ok(format!("/api/v1/namespaces/{namespace}/services/http:{}:{}/proxy", service.name_any(), port.port))
        }
        None => Err(format!("the Service {} of the gateway has no port", named(service))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    fn service(namespace: &str, ports: &Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "skein-gateway", "namespace": namespace}, "spec": {"ports": ports}})).unwrap()
    }

    #[test]
    fn the_port_called_http_is_taken() {
        let ports = json!([{"name": "metrics", "port": 8081}, {"name": "http", "port": 80}]);
        assert_eq!(
            proxy(&[service("skein-system", &ports)]),
            Ok("/api/v1/namespaces/skein-system/services/http:skein-gateway:80/proxy".to_owned())
        );
        assert_eq!(
            proxy(&[service("a", &json!([{"port": 8080}]))]),
            Ok("/api/v1/namespaces/a/services/http:skein-gateway:8080/proxy".to_owned())
        );
    }

    #[test]
    fn none_or_several_are_told() {
        assert!(proxy(&[]).unwrap_err().starts_with("there is no gateway in the cluster"));
        let two = [service("a", &json!([])), service("b", &json!([]))];
        assert_eq!(
            proxy(&two).unwrap_err(),
            "there are 2 gateways (a/skein-gateway, b/skein-gateway): choose with --gateway-namespace or --gateway"
        );
        assert!(proxy(&two[..1]).unwrap_err().contains("has no port"));
    }
}
