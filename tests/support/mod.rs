//! Helpers that several test files share. Each file uses some of them.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails fails its test")]

pub mod agent;
pub mod apiserver;
pub mod http;
pub mod nats;
pub mod proxy;
pub mod rights;
pub mod sidecar;
pub mod team;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a test waits for anything: much longer than it ever takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer, and fails the test when none comes.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks again and again until it succeeds, and fails the test with the last refusal when it never does.
pub async fn until<T, F: Future<Output = Result<T, String>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(problem) => assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}: {problem}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for something, but not for ever.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A port that nobody listens on, and that no other test of this process is given. It is none of those that the kernel
/// gives to whoever connects, or somebody may have it before it is listened on.
pub fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const PORTS: u32 = 8_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    (0..PORTS)
        .map(|_| FIRST + start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % PORTS)
        .map(|port| u16::try_from(port).unwrap())
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("no port is free")
}

/// A path of the checkout.
pub fn checkout(path: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
