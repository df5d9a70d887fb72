//! Agents that pass their tasks on.

use std::sync::{Arc, OnceLock};

use axum::http::Method;
use axum::response::{IntoResponse as _, Response};

use crate::support::agent::{Agent, Got};
use crate::support::http;
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};

/// Which headers an agent passes on that passes its task on.
#[derive(Clone, Copy)]
pub(crate) enum Manners {
    /// The one that it should.
    Good,
    /// None.
    Forgetful,
    /// Those that would get it round the guard.
    Sly,
}

/// An agent that passes each task on to one pool, and answers what it is answered; and its sidecar.
pub(crate) struct Relay {
    pub(crate) agent: Agent,
    pub(crate) sidecar: Sidecar,
}

impl Relay {
    pub(crate) async fn start(
        nats: &Nats,
        pool: &'static str,
        name: &'static str,
        to: &'static str,
        manners: Manners,
        concurrency: u32,
    ) -> Self {
        let api: Arc<OnceLock<String>> = Arc::default();
        let known = Arc::clone(&api);
        let agent = Agent::start(move |got: Got| {
            let url = format!("{}/v1/tasks?to={to}&wait=30", known.get().unwrap());
            async move { pass_on(&url, &got, manners).await }
        });
        let sidecar = Sidecar::start(nats, &Options { concurrency, ..Options::new(pool, name, Some(agent.port)) }).await;
        api.set(sidecar.api.clone()).unwrap();
        Self { agent, sidecar }
    }
}

async fn pass_on(url: &str, got: &Got, manners: Manners) -> Response {
    let good = ("Skein-Task-Id", got.id());
    let headers = match manners {
        Manners::Good => vec![good],
        Manners::Forgetful => vec![],
        Manners::Sly => vec![good, ("Skein-Ancestry", "somebody"), ("Skein-From-Pool", "somebody")],
    };
    http::send(Method::POST, url, &headers, got.body.clone()).await.body.into_response()
}
