//! A scripted API server, a kubeconfig for it, and the program.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::checkout;

/// A request that the server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method and the address.
    pub line: String,
    pub body: Bytes,
    pub content_type: String,
    pub key: String,
}

type Script = Arc<Mutex<VecDeque<(&'static str, Response)>>>;

/// The server. Each answer belongs to a path, and is given once.
pub struct Cluster {
    directory: TempDir,
    script: Script,
    asked: Arc<Mutex<Vec<Asked>>>,
    pub address: String,
}

impl Cluster {
    pub async fn new() -> Self {
        let (script, asked) = (Script::default(), Arc::<Mutex<Vec<Asked>>>::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (answers, seen) = (Arc::clone(&script), Arc::clone(&asked));
        let routes = Router::new().fallback(move |request: Request<Body>| respond(request, Arc::clone(&answers), Arc::clone(&seen)));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let cluster = Self { directory: TempDir::new().unwrap(), script, asked, address };
        cluster.write_kubeconfig(&cluster.address);
        cluster
    }

    pub fn write_kubeconfig(&self, server: &str) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "demo"}},
                {"name": "other", "context": {"cluster": "test", "user": "test", "namespace": "elsewhere"}},
            ],
        });
        std::fs::write(self.kubeconfig(), config.to_string()).unwrap();
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// The next answer to a path that begins like this.
    pub fn says(&self, path: &'static str, status: u16, headers: &[(&str, &str)], body: impl Into<Body>) {
        let mut response = (StatusCode::from_u16(status).unwrap(), body.into()).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        self.script.lock().unwrap().push_back((path, response));
    }

    pub fn says_json(&self, path: &'static str, status: u16, body: &Value) {
        self.says(path, status, &[("content-type", "application/json")], body.to_string());
    }

    /// The next answer is a list.
    pub fn lists(&self, path: &'static str, items: &Value) {
        self.says_json(path, 200, &json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}));
    }

    /// The next answer is the API server's own refusal.
    pub fn refuses(&self, path: &'static str, code: u16, message: &str) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "details": {"kind": "x"},
        });
        self.says_json(path, code, &status);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs the program with the kubeconfig of this server.
    pub async fn skein(&self, arguments: &[&str]) -> Ran {
        self.skein_with(arguments, None).await
    }

    /// Runs the program with something on its standard input.
    pub async fn skein_with(&self, arguments: &[&str], input: Option<&[u8]>) -> Ran {
        self.run(checkout(""), arguments, input).await
    }

    /// Runs the program in a folder.
    pub async fn skein_in(&self, folder: &Path, arguments: &[&str]) -> Ran {
        self.run(folder, arguments, None).await
    }

    async fn run(&self, folder: impl AsRef<Path>, arguments: &[&str], input: Option<&[u8]>) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_skein"))
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("KUBECONFIG", self.kubeconfig())
            .env("SKEIN_LOG", "off")
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input).await.unwrap();
        }
        let output = tokio::time::timeout(crate::support::PATIENCE, child.wait_with_output()).await.expect("the program ends").unwrap();
        Ran { code: output.status.code().unwrap(), out: output.stdout, notes: String::from_utf8(output.stderr).unwrap() }
    }
}

async fn respond(request: Request<Body>, script: Script, seen: Arc<Mutex<Vec<Asked>>>) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let asked = Asked {
        line: format!("{} {}", parts.method, parts.uri),
        content_type: header("content-type"),
        key: header("idempotency-key"),
        body: body.collect().await.unwrap().to_bytes(),
    };
    let answer = {
        let mut script = script.lock().unwrap();
        let next = script.iter().position(|(path, _)| parts.uri.path().starts_with(path));
        next.and_then(|place| script.remove(place))
    };
    let line = asked.line.clone();
    seen.lock().unwrap().push(asked);
    answer.map_or_else(|| (StatusCode::IM_A_TEAPOT, format!("nothing is scripted for {line}")).into_response(), |(_, response)| response)
}

/// How the program ended and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: Vec<u8>,
    pub notes: String,
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
