//! A sidecar as a process of its own.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use ::http::Method;

use super::http::{self, Response};
use super::nats::Nats;
use super::{free_port, until};

/// The binary `skein` in its role `sidecar`: the one that `SKEIN_BINARY` names, or that of this build.
pub struct Sidecar {
    pub api: String,
    pub admin: String,
    process: Child,
}

/// What differs from sidecar to sidecar.
pub struct Options {
    pub pool: &'static str,
    pub agent: &'static str,
    /// Where the agent listens; it pulls otherwise.
    pub port: Option<u16>,
    pub concurrency: u32,
    pub timeout_seconds: u32,
    pub drain_timeout_seconds: u32,
    /// Where the bus is, when it is not the broker itself.
    pub url: Option<String>,
    /// What it logs, when that is not what tests want to see.
    pub log: Option<&'static str>,
}

impl Options {
    pub fn new(pool: &'static str, agent: &'static str, port: Option<u16>) -> Self {
        Self { pool, agent, port, concurrency: 1, timeout_seconds: 60, drain_timeout_seconds: 60, url: None, log: None }
    }
}

impl Sidecar {
    /// Starts a sidecar and does not wait for it.
    pub fn spawn(nats: &Nats, options: &Options) -> Self {
        let (api, admin) = (free_port(), free_port());
        let mut command = Command::new(std::env::var_os("SKEIN_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_skein").into()));
        command
            .arg("sidecar")
            .env("SKEIN_LOG", options.log.unwrap_or("skein=debug,warn"))
            .env("SKEIN_NATS_URL", options.url.clone().unwrap_or_else(|| nats.url()))
            .env("SKEIN_NAMESPACE", "test")
            .env("SKEIN_POOL", options.pool)
            .env("SKEIN_AGENT", options.agent)
            .env("SKEIN_POD_UID", "uid")
            .env("SKEIN_HOOK_KEY", "pool-uid")
            .env("SKEIN_CONCURRENCY", options.concurrency.to_string())
            .env("SKEIN_TIMEOUT_SECONDS", options.timeout_seconds.to_string())
            .env("SKEIN_HEARTBEAT_SECONDS", "1")
            .env("SKEIN_DRAIN_TIMEOUT_SECONDS", options.drain_timeout_seconds.to_string())
            .env("SKEIN_API_ADDRESS", format!("127.0.0.1:{api}"))
            .env("SKEIN_ADMIN_ADDRESS", format!("127.0.0.1:{admin}"))
            .stdin(Stdio::null());
        if let Some(port) = options.port {
            command.env("SKEIN_AGENT_PORT", port.to_string());
        }
        let process = command.spawn().unwrap();
        Self { api: format!("http://127.0.0.1:{api}"), admin: format!("http://127.0.0.1:{admin}"), process }
    }

    /// Starts a sidecar and waits until it is ready.
    pub async fn start(nats: &Nats, options: &Options) -> Self {
        let sidecar = Self::spawn(nats, options);
        sidecar.ready().await;
        sidecar
    }

    pub async fn ready(&self) {
        until("the sidecar is ready", || async {
            match self.admin("/readyz").await {
                Ok(response) if response.status == 200 => Ok(()),
                Ok(response) => Err(response.text()),
                Err(error) => Err(error),
            }
        })
        .await;
    }

    /// Waits until it is not ready for a reason that holds these words.
    pub async fn not_ready(&self, words: &str) {
        until(&format!("the sidecar says {words:?}"), || async {
            match self.admin("/readyz").await {
                Ok(response) if response.status == 503 && response.text().contains(words) => Ok(()),
                Ok(response) => Err(response.text()),
                Err(error) => Err(error),
            }
        })
        .await;
    }

    pub async fn admin(&self, path: &str) -> Result<Response, String> {
        http::try_send(Method::GET, &format!("{}{path}", self.admin), &[], "").await
    }

    pub async fn get(&self, path: &str) -> Response {
        http::get(&format!("{}{path}", self.api)).await
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Response {
        http::send(Method::POST, &format!("{}{path}", self.api), headers, body).await
    }

    /// Waits until a series has a value.
    pub async fn metric_is(&self, series: &str, value: f64) {
        until(&format!("{series} is {value}"), || async {
            let seen = self.metric(series).await;
            if (seen - value).abs() < f64::EPSILON { Ok(()) } else { Err(seen.to_string()) }
        })
        .await;
    }

    /// The value of one series, as `name` or `name{label="value"}`; every series has the pool as well.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await.unwrap().text();
        let (name, label) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')) && line.contains(label));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Tells it to end.
    pub fn term(&self) {
        let status = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// Waits until it has ended.
    pub async fn end(&mut self) -> ExitStatus {
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "the sidecar does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
    }
}
