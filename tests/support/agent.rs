//! Scripted agents: HTTP servers with a runtime of their own, so that one can die with all its
//! connections as a process does.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::{free_port, until};

/// A task as an agent gets it.
#[derive(Clone, Debug)]
pub struct Got {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn id(&self) -> &str {
        self.header("skein-task-id").unwrap()
    }

    pub fn attempt(&self) -> u32 {
        self.header("skein-attempt").unwrap().parse().unwrap()
    }
}

/// An agent that runs a script.
pub struct Agent {
    pub port: u16,
    got: Arc<Mutex<Vec<Got>>>,
    runtime: Option<Runtime>,
}

impl Agent {
    /// Starts an agent that answers each task by `script` and is always well.
    pub fn start<F, R>(script: impl Fn(Got) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = R> + Send,
        R: IntoResponse,
    {
        Self::start_on(free_port(), script)
    }

    /// Starts an agent that ends each task only when it is given a permit.
    pub fn held() -> (Self, Arc<Semaphore>) {
        let go = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&go);
        let agent = Self::start(move |_: Got| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                "done"
            }
        });
        (agent, go)
    }

    pub fn start_on<F, R>(port: u16, script: impl Fn(Got) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = R> + Send,
        R: IntoResponse,
    {
        Self::start_with_health(port, script, || async { "ok" })
    }

    /// Starts an agent that answers health checks by a script too.
    pub fn start_with_health<F, R, H>(
        port: u16,
        script: impl Fn(Got) -> F + Clone + Send + Sync + 'static,
        health: impl Fn() -> H + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send,
        R: IntoResponse,
        H: Future<Output = &'static str> + Send,
    {
        let got = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&got);
        let tasks = any(move |request: Request| {
            let (script, told) = (script.clone(), Arc::clone(&told));
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                let task = Got { headers: parts.headers, body };
                told.lock().unwrap().push(task.clone());
                let response: Response = script(task).await.into_response();
                response
            }
        });
        let router = Router::new().route("/healthz", get(health)).route("/", tasks);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self { port, got, runtime: Some(runtime) }
    }

    /// What it has been given so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until it has been given so many tasks.
    pub async fn got_number(&self, number: usize) -> Vec<Got> {
        until(&format!("the agent gets {number} tasks"), || async {
            let got = self.got();
            if got.len() >= number { Ok(got) } else { Err(format!("{} so far", got.len())) }
        })
        .await
    }

    /// Dies with all its connections.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
