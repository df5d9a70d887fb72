//! `status`: what a topology and its pools are doing, and why something is not as it should be.

mod observe;
mod print;
mod report;

use super::cluster::Cluster;
use super::{Answer, Exit, json};
use crate::cli::{Output, StatusArgs};

pub(super) async fn run(args: StatusArgs) -> Answer {
    match ask(&args).await {
        Ok(answer) => answer,
        Err(why) => Answer::refused(Exit::Failed, why),
    }
}

async fn ask(args: &StatusArgs) -> Result<Answer, String> {
    let cluster = Cluster::find(&args.cluster).await?;
    let seen = observe::observe(&cluster, args.topology.as_deref()).await?;
    let report = report::report(&cluster.namespace, &seen, args.topology.is_none());
    let out = match args.output {
        Output::Json => json(&report),
        Output::Table => print::text(&report).into_bytes(),
    };
    let notes = match report.is_empty() {
        true => vec![format!("there are no topologies and no pools in namespace {:?}", cluster.namespace)],
        false => Vec::new(),
    };
    Ok(Answer { out, notes, exit: if report.ready { Exit::Well } else { Exit::NotReady } })
}
