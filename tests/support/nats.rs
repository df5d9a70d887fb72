//! A real nats-server of a test's own, that can be killed and started again with its data.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::LazyLock;

use skein::bus::nats::Bus;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{eventually, free_port};

/// The program, built once a machine by `tools/get`.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let found = std::process::Command::new(root.join("tools/get")).arg("nats-server").output().unwrap();
    assert!(found.status.success(), "tools/get nats-server: {}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim()).join("nats-server")
});

/// A broker. It ends with this value.
pub struct Nats {
    directory: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Nats {
    /// Starts a broker that takes messages of 1 MiB, as it does by default.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a broker with further lines in its configuration.
    pub async fn start_with(configuration: &str) -> Self {
        let mut directory = TempDir::new().unwrap();
        let text = format!("jetstream {{ store_dir: {:?} }}\n{configuration}\n", directory.path().join("data"));
        std::fs::write(directory.path().join("nats.conf"), text).unwrap();
        // Somebody else may take the port between our asking and the broker's.
        for _ in 0..10 {
            let port = free_port();
            let mut nats = Self { directory, port, child: None };
            if nats.run().await {
                return nats;
            }
            directory = nats.directory;
        }
        panic!("no nats-server could be started");
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A connection to it that is there.
    pub async fn bus(&self, name: &str) -> Bus {
        let bus = Bus::connect(&self.url(), name).await.unwrap();
        eventually("the connection to the broker", async || bus.connected().then_some(())).await;
        bus
    }

    /// Kills it as a power cut would.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    /// Starts it again with what it had stored.
    pub async fn restart(&mut self) {
        self.kill().await;
        assert!(self.run().await, "nats-server did not start again: {}", self.log());
    }

    /// Starts it again with nothing.
    pub async fn wipe(&mut self) {
        self.kill().await;
        std::fs::remove_dir_all(self.directory.path().join("data")).unwrap();
        self.restart().await;
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    async fn run(&mut self) -> bool {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        let mut child = Command::new(&*PROGRAM)
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-c"])
            .arg(self.directory.path().join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let port = self.port;
        let up = eventually("nats-server listens", || {
            let ended = child.try_wait().unwrap().is_some();
            async move {
                match TcpStream::connect(("127.0.0.1", port)).await {
                    _ if ended => Some(false),
                    Ok(_) => Some(true),
                    Err(_) => None,
                }
            }
        })
        .await;
        self.child = Some(child);
        up
    }
}
