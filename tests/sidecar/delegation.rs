//! How far a task may be passed on: no circles, not too deep, and no later than its parent wants it.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use skein::bus::nats::Results;
use skein::bus::{Outcome, Task};

use crate::relay::{Manners, Relay};
use crate::support::agent::{Agent, Got};
use crate::support::nats::Nats;
use crate::support::sidecar::{Options, Sidecar};
use crate::support::team::Team;
use crate::support::within;

/// Two pools that may send to each other.
async fn pair(nats: &Nats) -> Team {
    Team::start(nats, &["planner", "coder"], &[("planner", "coder"), ("coder", "planner")]).await
}

fn refused(side: &str, reason: &str) -> String {
    format!(r#"skein_sidecar_refused_delegations_total{{reason="{reason}",side="{side}"}}"#)
}

async fn the_circle_is_refused(manners: Manners) {
    let nats = Nats::start().await;
    let team = pair(&nats).await;
    let planner = Relay::start(&nats, "planner", "planner-0", "coder", Manners::Good, 1).await;
    let coder = Relay::start(&nats, "coder", "coder-0", "planner", manners, 1).await;
    let result = team.ask("planner", &team.task("x")).await;
    assert_eq!(result.outcome, Outcome::Completed, "{result:?}");
    let problem: Value = serde_json::from_slice(&result.payload.body).unwrap();
    assert_eq!((&problem["type"], &problem["status"]), (&json!("https://skein.dev/problems/circular-delegation"), &json!(409)));
    assert_eq!((&problem["chain"], &problem["pools"]), (&json!(["planner", "coder", "planner"]), &json!([])));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("(planner -> coder -> planner)") && detail.contains("as the result of your task"), "{detail}");

    assert_eq!(planner.agent.got().len(), 1, "the task has not come back");
    assert_eq!(planner.agent.got()[0].header("skein-ancestry"), None);
    assert_eq!(coder.agent.got()[0].header("skein-ancestry"), Some("planner"));
    coder.sidecar.metric_is(&refused("sending", "cycle"), 1.0).await;
    coder.sidecar.metric_is(r#"skein_sidecar_sends_total{result="cycle"}"#, 1.0).await;
    team.nothing_left("planner").await;
}

/// Two agents that wait for each other wait for ever, and two that do not talk until the budget is gone.
#[tokio::test]
async fn a_task_that_would_come_back_is_refused_in_words_that_say_what_to_do() {
    the_circle_is_refused(Manners::Good).await;
}

/// The sidecar knows the task in hand; what the agent says or forgets to say makes no difference.
#[tokio::test]
async fn an_agent_does_not_get_round_the_guard() {
    the_circle_is_refused(Manners::Forgetful).await;
    the_circle_is_refused(Manners::Sly).await;
}

/// A sidecar that has an old program, or is none of ours, sends what it should not.
#[tokio::test]
async fn the_receiver_refuses_what_the_sender_should_have_refused() {
    let nats = Nats::start().await;
    let team = pair(&nats).await;
    let agent = Agent::start(|_: Got| async { "done" });
    let planner = Sidecar::start(&nats, &Options::new("planner", "planner-0", Some(agent.port))).await;
    let results = Results::start(&team.bus, "coder", "coder-9");
    let pools = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let deep = pools(&["a", "b", "c", "d", "e", "f", "g", "h", "coder"]);
    for (ancestry, reason, words) in
        [(pools(&["planner", "coder"]), "cycle", "(planner -> coder -> planner)"), (deep, "depth", "passed on 8 times")]
    {
        let task = Task { from_pool: "coder".to_owned(), from_agent: "coder-9".to_owned(), ancestry, ..team.task("x") };
        let waiting = results.expect(&team.name, &task.id);
        team.send("planner", &task).await;
        let result = within("the outcome", waiting).await;
        let said = result.reason.unwrap_or_default();
        assert!(result.outcome == Outcome::Failed && said.contains(words) && said.contains("as the result of your task"), "{said}");
        planner.metric_is(&refused("receiving", reason), 1.0).await;
    }
    // Whoever leaves itself out of the ancestry sends no task.
    let task = Task { from_pool: "coder".to_owned(), ancestry: pools(&["a"]), ..team.task("x") };
    team.send("planner", &task).await;
    planner.metric_is("skein_sidecar_malformed_messages_total", 1.0).await;
    assert_eq!(agent.got().len(), 0);
    team.nothing_left("planner").await;
}

#[tokio::test]
async fn where_circles_are_allowed_the_depth_ends_them() {
    let nats = Nats::start().await;
    let mut team = pair(&nats).await;
    team.delegation.allow_cycles = true;
    team.delegation.max_depth = 3;
    team.write_programs().await;
    let planner = Relay::start(&nats, "planner", "planner-0", "coder", Manners::Good, 4).await;
    let coder = Relay::start(&nats, "coder", "coder-0", "planner", Manners::Good, 4).await;
    let result = team.ask("planner", &team.task("x")).await;
    let problem: Value = serde_json::from_slice(&result.payload.body).unwrap();
    assert_eq!((&problem["type"], &problem["maxDepth"]), (&json!("https://skein.dev/problems/too-deep"), &json!(3)));
    assert_eq!(problem["chain"], json!(["planner", "coder", "planner", "coder", "planner"]));
    assert_eq!((planner.agent.got().len(), coder.agent.got().len()), (2, 2));
    coder.sidecar.metric_is(&refused("sending", "depth"), 1.0).await;
}

#[tokio::test]
async fn a_child_is_wanted_no_longer_than_its_parent() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["planner", "coder"], &[("planner", "coder")]).await;
    let planner = Relay::start(&nats, "planner", "planner-0", "coder", Manners::Good, 1).await;
    let coder = Agent::start(|_: Got| async { "done" });
    let _coder = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(coder.port))).await;
    let mut task = team.task("x");
    task.deadline = Some(task.created + 60_000);
    assert_eq!(team.ask("planner", &task).await.outcome, Outcome::Completed);
    team.ask("planner", &team.task("without")).await;
    let ends = |agent: &Agent, task: usize| {
        agent.got()[task].header("skein-deadline").map(|deadline| deadline.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    };
    assert_eq!(ends(&coder, 0), ends(&planner.agent, 0).map(|parent| parent - 1000), "the planner has a second left to say so");
    assert_eq!((ends(&planner.agent, 1), ends(&coder, 1)), (None, None));

    // What is over when it is sent is not begun, and its sender learns of it.
    task = team.task("late");
    task.deadline = Some(task.created - 1);
    assert_eq!(team.ask("planner", &task).await.outcome, Outcome::Expired);
    assert_eq!(planner.agent.got().len(), 2);
}

/// An agent with several tasks has to say which one it is at: a guess could be the wrong tree.
#[tokio::test]
async fn an_agent_with_several_tasks_names_the_one_that_it_works_on() {
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["planner", "coder"], &[("planner", "coder")]).await;
    let (agent, go) = Agent::held();
    let planner = Sidecar::start(&nats, &Options { concurrency: 2, ..Options::new("planner", "planner-0", Some(agent.port)) }).await;
    let (one, other) = (team.task("1"), team.task("2"));
    team.send("planner", &one).await;
    team.send("planner", &other).await;
    agent.got_number(2).await;
    let unclear = planner.post("/v1/tasks?to=coder", &[], "x").await;
    assert_eq!((unclear.status.as_u16(), unclear.problem().as_str()), (400, "bad-request"));
    let mut ids = [one.id.clone(), other.id];
    ids.sort();
    assert_eq!(unclear.json()["tasks"], json!(ids));
    let clear = planner.post("/v1/tasks?to=coder", &[("Skein-Task-Id", one.id.as_str())], "x").await;
    assert_eq!(clear.status.as_u16(), 202);
    go.add_permits(2);
}
