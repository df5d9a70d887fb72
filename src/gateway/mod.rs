//! The role `gateway`: the way into a team for people and other systems.
//!
//! ```text
//!  HTTP ─► server ─► routes ─► submit ─► query    what is asked for            (pure)
//!                       │        ├─────► choice   which pool                   (pure; knows programs and roster)
//!                       │        ├─────► intake   the body, within bounds
//!                       │        └─────► journal, then outcomes: waits
//!                       ├────► cancel ─► journal: ends a task
//!                       └────► read ───► journal: tasks of any replica
//!                                └─────► answer   what the caller sees         (pure)
//! ```
//!
//! `state` is what all requests share, `roster` who has been heard, `problems` what can be wrong with a request.
//!
//! It speaks to the bus alone: it needs neither the controller nor the API server, holds nothing that
//! another replica could not read from the journal, and decides from memory who is ready.

mod answer;
mod cancel;
mod choice;
mod intake;
mod outcomes;
mod problems;
mod query;
mod read;
mod roster;
mod routes;
mod server;
mod state;
mod submit;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use self::routes::ROUTES;
use self::server::Server;
use self::state::Gateway;
use crate::bus::nats::Bus;
use crate::cli::GatewayArgs;
use crate::http::listen;
use crate::process::end_on_signals;
use crate::telemetry::{admin, metrics};

/// How long connections are still accepted after the process was told to end: as long as it takes
/// until nobody sends it new ones. Part of the time for which requests may go on waiting.
const LINGER: Duration = Duration::from_secs(3);
/// How long the answers may then take to be sent.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs the role until it is told to end.
#[must_use]
pub fn main(args: &GatewayArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            error!(%problem, "the gateway cannot start its threads");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let shutdown = end_on_signals()?;
        let running = start(args, shutdown).await?;
        running.ended().await;
        Ok::<(), String>(())
    });
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// A gateway that serves.
pub struct Running {
    /// Where tasks are taken.
    pub address: SocketAddr,
    /// Where probes and metrics are served.
    pub admin_address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Waits until everything has been answered after the gateway was told to end.
    pub async fn ended(self) {
        if let Err(problem) = self.serving.await {
            error!(%problem, "the gateway broke off");
        }
    }
}

/// Starts to serve, until `shutdown`. The bus being away is no error: it is waited for.
///
/// # Errors
/// In one sentence, when an argument makes no sense or an address cannot be listened on.
pub async fn start(args: &GatewayArgs, shutdown: CancellationToken) -> Result<Running, String> {
    let identity = identity(&args.identity)?;
    let registry = metrics::registry("gateway").map_err(|error| error.to_string())?;
    let measured = metrics::gateway::Metrics::new(&registry).map_err(|error| error.to_string())?;
    let listener = listen(args.address, "--address").await?;
    let admin_listener = listen(args.admin_address, "--admin-address").await?;
    let place = |listener: &TcpListener| listener.local_addr().map_err(|error| format!("an address is not known: {error}"));
    let (address, admin_address) = (place(&listener)?, place(&admin_listener)?);

    let bus = Bus::connect(&args.bus.nats_url, &format!("gateway-{identity}")).await.map_err(|error| format!("--nats-url: {error}"))?;
    let gateway = Arc::new(Gateway {
        outcomes: outcomes::Outcomes::new(&bus, &identity),
        identity: identity.clone(),
        roster: roster::Roster::default(),
        intake: intake::Intake::new(args.max_receiving_mebibytes),
        metrics: measured.clone(),
        programs: bus.watch_team_programs(),
        places: Arc::new(Semaphore::new(args.max_waiting.min(Semaphore::MAX_PERMITS))),
        max_waiting: args.max_waiting,
        ending: CancellationToken::new(),
        bus: bus.clone(),
    });
    tokio::spawn(gateway.roster.clone().listen(bus.clone()));
    tokio::spawn(measure(bus.clone(), measured.clone()));

    let (asked, told) = (Arc::clone(&gateway), shutdown.clone());
    let ready = Arc::new(move || if told.is_cancelled() { Err("the gateway is ending".to_owned()) } else { asked.ready() });
    let admin = admin::router(registry, ready);
    tokio::spawn(async move {
        if let Err(problem) = axum::serve(admin_listener, admin).await {
            error!(%problem, "probes and metrics are served no more");
        }
    });
    let server = Server { listener, routes: routes::router(Arc::clone(&gateway)), metrics: measured, headers: server::HEADERS };
    info!(%address, identity, "tasks are taken");
    let patience = Duration::from_secs(args.drain_seconds.into());
    let linger = LINGER.min(patience / 2);
    let serving = tokio::spawn(async move {
        let stop = CancellationToken::new();
        let served = server.serve(stop.clone());
        let ends = async {
            shutdown.cancelled().await;
            tokio::time::sleep(linger).await;
            stop.cancel();
            tokio::time::sleep(patience.saturating_sub(linger)).await;
            info!(waiting = gateway.metrics.waiting.get(), "whoever still waits is told to ask again");
            gateway.ending.cancel();
            tokio::time::sleep(FAREWELL).await;
            warn!("connections were cut off: their answers took too long to be sent");
        };
        tokio::select! {
            () = served => {}
            () = ends => {}
        }
        bus.close(FAREWELL).await;
    });
    Ok(Running { address, admin_address, serving })
}

/// The name of this replica as one token of a subject: the name of a pod may hold dots.
fn identity(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("--identity is empty: give each replica a name of its own".to_owned());
    }
    Ok(name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect())
}

/// Keeps the metrics of the connection to the bus.
async fn measure(bus: Bus, metrics: metrics::gateway::Metrics) {
    let mut state = bus.state();
    loop {
        let connected = *state.borrow_and_update();
        metrics.bus_connected.set(i64::from(connected));
        metrics.bus_reconnects.inc_by(bus.reconnects().saturating_sub(metrics.bus_reconnects.get()));
        if state.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_one_token_of_a_subject() {
        assert_eq!(identity("my.release-gateway-0").as_deref(), Ok("my_release-gateway-0"));
        assert!(identity("").is_err());
    }
}
