//! The role `sidecar`: serves one agent, and is the only holder of the bus in its pod.
//!
//! ```text
//!   bus ──link──► state ◄──monitor── agent            state: one value, watched by all
//!    │              │ │                                inflight: the tasks in hand
//!    │              │ └──heartbeat──► bus              admin: probes, metrics, drain
//!    ▼              ▼
//!   queue ──slot (push) or api/pull──► work ──► agent ──► outcome ──► bus
//!   agent ──api/tasks──► bus, and results back
//! ```
//!
//! [`health`], [`reprieve`], [`api::route`], [`api::child`], [`delivery::decide`] and [`state::Snapshot`] are pure and decide;
//! the other files do. Nothing here knows the API server.

pub mod admin;
pub mod agent;
pub mod api;
pub mod config;
pub mod delivery;
pub mod drain;
pub mod health;
pub mod heartbeat;
pub mod inflight;
pub mod link;
pub mod monitor;
pub mod reprieve;
pub mod state;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::bus::Team;
use crate::bus::nats::{Bus, Cancellations, Results};
use crate::cli::SidecarArgs;
use crate::http::listen;
use crate::telemetry::metrics::{self, sidecar::Metrics};
use crate::topology::PoolProgram;
use agent::Agent;
use config::Config;
use inflight::InFlight;
use monitor::Monitor;
use state::State;

/// How long the connection may take to end.
const CLOSE: Duration = Duration::from_secs(2);

/// Everything that the parts of a sidecar share.
pub struct Sidecar {
    config: Config,
    bus: Bus,
    program: watch::Receiver<Option<Arc<PoolProgram>>>,
    results: Results,
    cancellations: Cancellations,
    state: State,
    in_flight: InFlight,
    monitor: Monitor,
    agent: Option<Agent>,
    metrics: Metrics,
    /// Places for an agent that pulls.
    places: Arc<Semaphore>,
    /// Cancelled when tasks in hand have to go back.
    stop: CancellationToken,
    /// Whose turn it is among the pools with one capability.
    turn: AtomicUsize,
}

impl Sidecar {
    /// Puts the parts together; none of them does anything yet but connect to the bus.
    async fn new(config: Config, registry: &Registry) -> Result<Arc<Self>, String> {
        let identity = &config.identity;
        let metrics = Metrics::new(registry, &identity.pool).map_err(|error| error.to_string())?;
        let name = format!("{}/{}", identity.namespace, identity.agent);
        let bus = Bus::connect(&config.nats_url, &name).await.map_err(|error| format!("--nats-url: {error}"))?;
        Ok(Arc::new(Self {
            program: bus.watch_pool_program(&identity.namespace, &identity.pool),
            results: Results::start(&bus, &identity.pool, &identity.agent),
            cancellations: Cancellations::new(&bus, &identity.pool),
            state: State::default(),
            in_flight: InFlight::new(metrics.in_flight.clone()),
            monitor: Monitor::new(&config),
            agent: config.push.as_ref().map(|push| Agent::new(push, config.concurrency)).transpose()?,
            places: Arc::new(Semaphore::new(usize::try_from(config.concurrency).unwrap_or(1))),
            stop: CancellationToken::new(),
            turn: AtomicUsize::new(0),
            bus,
            metrics,
            config,
        }))
    }

    /// A topology of the agent's namespace, on the bus.
    fn team(&self, topology: &str) -> Arc<Team> {
        Arc::new(Team::new(&self.config.identity.namespace, topology))
    }
}

/// Runs the role until it is told to end.
#[must_use]
pub fn main(args: SidecarArgs) -> ExitCode {
    let config = match Config::resolve(args) {
        Ok(config) => config,
        Err(problem) => {
            error!("{problem}");
            return ExitCode::from(2);
        }
    };
    // One thread: a sidecar waits more than it works, and a thread costs memory.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            error!("the runtime cannot be started: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let ran = runtime.block_on(async { run(config, signals()?).await });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM and SIGINT, one message each.
fn signals() -> Result<mpsc::Receiver<()>, String> {
    let (sender, receiver) = mpsc::channel(4);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signal = signal(kind).map_err(|error| format!("signals cannot be received: {error}"))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if sender.send(()).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

/// Serves the agent until the first signal, then drains; a second signal ends that at once.
///
/// # Errors
/// When an address cannot be listened on, or the bus is none: one sentence.
pub async fn run(config: Config, mut signals: mpsc::Receiver<()>) -> Result<(), String> {
    let api_listener = listen(config.api_address, "--api-address").await?;
    let admin_listener = listen(config.admin_address, "--admin-address").await?;
    let registry = metrics::registry("sidecar").map_err(|error| error.to_string())?;
    let sidecar = Sidecar::new(config, &registry).await?;

    tokio::spawn(link::follow(Arc::clone(&sidecar)));
    tokio::spawn(monitor::run(Arc::clone(&sidecar)));
    tokio::spawn(heartbeat::run(Arc::clone(&sidecar)));
    if let Some(agent) = &sidecar.agent {
        for _ in 0..sidecar.config.concurrency {
            tokio::spawn(delivery::slot::run(Arc::clone(&sidecar), agent.clone()));
        }
    }
    tokio::spawn(serve(api_listener, api::router(Arc::clone(&sidecar))));
    tokio::spawn(serve(admin_listener, admin::router(Arc::clone(&sidecar), registry)));
    info!(
        pool = sidecar.config.identity.pool,
        agent = sidecar.config.identity.agent,
        api = %sidecar.config.api_address,
        admin = %sidecar.config.admin_address,
        "serving"
    );

    signals.recv().await;
    drain::process(&sidecar, &mut signals).await;
    heartbeat::farewell(&sidecar).await;
    sidecar.bus.close(CLOSE).await;
    info!("ended");
    Ok(())
}

async fn serve(listener: TcpListener, router: Router) {
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    if let Err(error) = axum::serve(listener, router).await {
        error!(%error, "a server ended");
    }
}
