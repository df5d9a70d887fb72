//! The role `controller`: makes the cluster and the bus match the resources.
//!
//! ```text
//!  watch ──► stores ──► requests ──► outcome::drive ──► agent_pool │ topology      (leader only)
//!    │                     ▲                               observe → validate → plan → build → apply → report
//!  bus ───► roster ────────┘
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | [`watch`], [`pods`] | what is watched, and what is kept of it |
//! | [`roster`] | which agents have been heard, and whether a silence may be believed |
//! | [`requests`], [`outcome`] | which objects wait for a look, and how they get it |
//! | [`agent_pool`], [`topology`] | the two controllers |
//! | [`trouble`] | what the kubelet and the scheduler say is wrong with a pod (pure) |
//! | [`context`] | everything that a reconcile may use |
//! | [`admin`], `measure` | probes and metrics |
//!
//! Watches, roster, probes and metrics run on every replica; the two controllers run on the one that holds
//! the lease. A replica that loses the lease ends its process: nothing that it has begun may outlive it.
//! One told to end finishes the reconciles that it has begun and gives the lease back.

pub mod admin;
pub mod agent_pool;
pub mod context;
mod measure;
pub mod outcome;
pub mod pods;
pub mod requests;
pub mod roster;
pub mod topology;
pub mod trouble;
pub mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{GROUP, VERSION};
use crate::bus::nats::Bus;
use crate::cli::ControllerArgs;
use crate::kubernetes::election::{Election, Timing};
use crate::kubernetes::ready::established;
use crate::process::end_on_signals;
use crate::telemetry::metrics;
use context::{Config, Context};
use roster::Roster;

/// The times of Kubernetes' own controllers.
const ELECTION: Timing = Timing { lease: LEASE, give_up: Duration::from_secs(10), renew: Duration::from_secs(2) };
/// How long after the last sign of a leader that died another replica takes over.
pub const LEASE: Duration = Duration::from_secs(15);
/// How long the reconciles that have begun may take once the process is told to end.
const DRAIN: Duration = Duration::from_secs(10);

/// How the role ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Told,
    /// The lease was lost: somebody else leads, or will.
    LeaseLost,
}

/// Runs the role until it is told to end.
#[must_use]
pub fn main(args: ControllerArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            tracing::error!(%problem, "the controller cannot start its threads");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let shutdown = end_on_signals()?;
        let client = Client::try_default()
            .await
            .map_err(|error| format!("the API server is not known: run in a pod, or set KUBECONFIG: {error}"))?;
        run(args, client, shutdown).await
    });
    // What is still running may not hold up the process, whose lease is gone.
    runtime.shutdown_background();
    match result {
        Ok(End::Told) => ExitCode::SUCCESS,
        Ok(End::LeaseLost) => ExitCode::from(3),
        Err(problem) => {
            tracing::error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the role with a client of its own until `shutdown`, or until the lease is lost.
///
/// # Errors
/// When something is missing that the process cannot do without. The API server or the bus being away
/// is no error: they are waited for.
pub async fn run(args: ControllerArgs, client: Client, shutdown: CancellationToken) -> Result<End, String> {
    let registry = metrics::registry("controller").map_err(|error| error.to_string())?;
    let measured = metrics::controller::Metrics::new(&registry).map_err(|error| error.to_string())?;
    // Whatever this function has started ends with it.
    let everything = CancellationToken::new();
    let _ends_with_us = everything.clone().drop_guard();
    let ready = admin::Ready::starting();
    admin::serve(args.admin_address, registry, ready.clone(), everything.clone()).await?;

    let crds = async {
        for plural in ["agentpools", "topologies"] {
            established(&client, &format!("{plural}.{GROUP}"), VERSION, |problem| {
                tracing::warn!("{problem}");
                ready.set(Err(problem));
            })
            .await;
        }
    };
    tokio::select! {
        () = crds => {}
        () = shutdown.cancelled() => return Ok(End::Told),
    }

    let bus = Bus::connect(&args.bus.nats_url, &args.identity).await.map_err(|error| format!("--nats-url: {error}"))?;
    let (stores, writers) = watch::stores();
    let context = Arc::new(Context::new(client.clone(), bus, stores, Roster::default(), measured, Config::from(&args)));
    let mut helpers = JoinSet::new();
    helpers.spawn(roster::listen(context.roster.clone(), context.bus.clone(), context.metrics.clone(), everything.clone()));
    helpers.spawn(watch::run(writers, Arc::clone(&context), everything.clone()));
    helpers.spawn(listen(Arc::clone(&context)));
    ready.set(Err("the controller reads what the API server holds".to_owned()));
    tokio::select! {
        filled = context.stores.wait_until_ready() => if !filled {
            return Err("a watch ended before it was complete".to_owned());
        },
        () = shutdown.cancelled() => return Ok(End::Told),
    }
    ready.set(Ok(()));

    let election = Election::new(client, &args.lease_namespace, &args.lease_name, &args.identity, ELECTION);
    let leading = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let led = {
        let (leading, context, shutdown) = (Arc::clone(&leading), Arc::clone(&context), shutdown.clone());
        election.with_lease(async move {
            leading.store(true, std::sync::atomic::Ordering::SeqCst);
            lead(context, shutdown).await;
        })
    };
    let standing_by = async {
        shutdown.cancelled().await;
        if leading.load(std::sync::atomic::Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    };
    let end = tokio::select! {
        led = led => if led.is_some() { End::Told } else { End::LeaseLost },
        () = standing_by => End::Told,
    };
    context.metrics.leader.set(0);
    if end == End::LeaseLost {
        tracing::error!("the lease is lost; this process ends so that nothing which it has begun goes on");
    }
    Ok(end)
}

/// Runs both controllers until told to end, and then for as long as what they have begun takes.
async fn lead(context: Arc<Context>, shutdown: CancellationToken) {
    context.metrics.leader.set(1);
    tracing::info!(identity = context.config.identity, "this replica leads");
    let controllers = async {
        tokio::join!(agent_pool::run(Arc::clone(&context), shutdown.clone()), topology::run(Arc::clone(&context), shutdown.clone()))
    };
    let _count = AbortOnDropHandle::new(tokio::spawn(measure::cluster(Arc::clone(&context), shutdown.clone())));
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        _ = controllers => {}
        () = too_late => tracing::warn!("reconciles were cut off: they took longer than {} seconds to end", DRAIN.as_secs()),
    }
}

/// Has a pool looked at when its agents say something new.
async fn listen(context: Arc<Context>) {
    let mut changes = std::pin::pin!(context.roster.changes());
    while let Some(key) = changes.next().await {
        context.pools.ask(&key.namespace, &key.pool);
    }
}
