//! That what the guide shows works: each of its agents is taken out of its page, run beside a real sidecar
//! and a real broker, and given a task; and its resources are ones that the controller accepts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "support/mod.rs"]
mod support;

use std::process::Stdio;

use http::StatusCode;
use pretty_assertions::assert_eq;
use serde::Deserialize as _;
use serde_json::Value;
use skein::api::agent_pool::AgentPool;
use skein::api::topology::Topology;
use skein::api::{Problem, check};
use skein::bus::{Outcome, TaskResult};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use support::agent::{Agent, Got};
use support::nats::Nats;
use support::sidecar::{Options, Sidecar};
use support::team::Team;
use support::{checkout, free_port};

/// A block of code of a page.
#[derive(Debug)]
struct Block {
    language: String,
    text: String,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(checkout(path)).unwrap()
}

fn blocks(page: &str) -> Vec<Block> {
    let text = read(page);
    let mut blocks = Vec::new();
    for (number, part) in text.split("\n```").enumerate().filter(|(number, _)| number % 2 == 1) {
        let (language, text) = part.split_once('\n').unwrap_or_else(|| panic!("{page}: block {number} is not closed"));
        blocks.push(Block { language: language.to_owned(), text: format!("{text}\n") });
    }
    blocks
}

/// The only block of a language in which some words occur.
fn block(page: &str, language: &str, words: &str) -> String {
    let mut found = blocks(page);
    found.retain(|block| block.language == language && block.text.contains(words));
    assert_eq!(found.len(), 1, "{page}: {language} with {words:?}: {found:?}");
    found.remove(0).text
}

/// A program that runs until this ends.
struct Program {
    directory: TempDir,
    _process: Child,
}

impl Program {
    fn start(interpreter: &str, text: &str, sidecar: Option<&Sidecar>) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("program"), text).unwrap();
        let mut command = Command::new(interpreter);
        command.arg("program").current_dir(directory.path()).stdin(Stdio::null()).kill_on_drop(true);
        if let Some(sidecar) = sidecar {
            command.env("SKEIN_URL", &sidecar.api);
        }
        let _process = command.spawn().unwrap_or_else(|error| panic!("{interpreter}: {error}"));
        Self { directory, _process }
    }
}

/// An agent that listens on port 8080, as all in the pages do, does so on a free one here.
fn listening(text: &str) -> (u16, String) {
    let port = free_port();
    assert_eq!(text.matches("8080").count(), 1, "{text}");
    (port, text.replace("8080", &port.to_string()))
}

/// What the only agent of a team makes of a task: a program in Python that listens.
async fn result_of(agent: &str, input: &str) -> TaskResult {
    let (port, text) = listening(agent);
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let _agent = Program::start("python3", &text, None);
    let _sidecar = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(port))).await;
    team.ask("coder", &team.task(input)).await
}

/// Whoever adds an example adds its test here.
#[test]
fn every_block_of_the_page_about_agents_is_tested() {
    let languages: Vec<_> = blocks("docs/guide/agents.md").into_iter().map(|block| block.language).collect();
    assert_eq!(languages, ["python", "sh", "python"]);
}

#[tokio::test]
async fn the_whole_agent_does_its_task() {
    let result = result_of(&block("docs/guide/agents.md", "python", "serve_forever"), "hello").await;
    assert_eq!((result.outcome, &result.payload.body[..]), (Outcome::Completed, &b"HELLO"[..]), "{:?}", result.reason);
}

#[tokio::test]
async fn the_agent_of_the_readme_is_the_one_in_the_examples_and_greets() {
    let shown = block("README.md", "python", "class Agent");
    let whole = read("examples/hello/agent.py");
    assert!(whole.contains(&shown), "examples/hello/agent.py does not have:\n{shown}");
    let result = result_of(&whole, "World").await;
    assert_eq!((result.outcome, &result.payload.body[..]), (Outcome::Completed, &b"Hello, World!\n"[..]), "{:?}", result.reason);
}

#[tokio::test]
async fn the_loop_that_pulls_does_one_task_after_the_other() {
    let text = block("docs/guide/agents.md", "sh", "/v1/tasks/next");
    assert!(Command::new("curl").arg("--version").output().await.is_ok(), "curl is not installed, and this agent needs it");
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["coder"], &[]).await;
    let sidecar = Sidecar::spawn(&nats, &Options::new("coder", "coder-0", None));
    let agent = Program::start("sh", &text, Some(&sidecar));
    for (input, output) in [("hello", "HELLO"), ("again", "AGAIN")] {
        let result = team.ask("coder", &team.task(input)).await;
        assert_eq!((result.outcome, &result.payload.body[..]), (Outcome::Completed, output.as_bytes()), "{:?}", result.reason);
        assert_eq!(result.payload.content_type.as_deref(), Some("text/plain"));
    }
    // What cannot be read cannot be turned into capitals.
    std::fs::remove_file(agent.directory.path().join("result")).unwrap();
    std::fs::create_dir(agent.directory.path().join("result")).unwrap();
    let result = team.ask("coder", &team.task("hello")).await;
    assert_eq!((result.outcome, result.reason.as_deref()), (Outcome::Failed, Some("cannot be turned into capitals")));
}

/// A planner whose agent asks a coder with the function of the page, twice, as it does when it is given
/// its task again.
#[tokio::test]
async fn the_function_that_sends_brings_the_result_and_sends_once() {
    let text = block("docs/guide/agents.md", "python", "def ask")
        + "\nimport sys\nfor _ in range(2):\n    sys.stdout.write(ask('coder', sys.argv[1].encode(), sys.argv[2], 'first').decode())\n";
    let nats = Nats::start().await;
    let team = Team::start(&nats, &["planner", "coder"], &[("planner", "coder")]).await;
    let coder = Agent::start(|got: Got| async move { got.body.to_ascii_uppercase() });
    let _coder = Sidecar::start(&nats, &Options::new("coder", "coder-0", Some(coder.port))).await;
    let url = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let known = std::sync::Arc::clone(&url);
    let planner = Agent::start(move |got: Got| {
        let (text, url) = (text.clone(), known.get().cloned().unwrap());
        async move {
            let input = std::str::from_utf8(&got.body).unwrap();
            let asked = Command::new("python3").args(["-c", &text, input, got.id()]).env("SKEIN_URL", url).output().await.unwrap();
            let status = if asked.status.success() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            (status, [asked.stdout, asked.stderr].concat())
        }
    });
    let sidecar = Sidecar::start(&nats, &Options::new("planner", "planner-0", Some(planner.port))).await;
    url.set(sidecar.api.clone()).unwrap();
    let task = team.task("hello");
    let result = team.ask("planner", &task).await;
    assert_eq!((result.outcome, &result.payload.body[..]), (Outcome::Completed, &b"HELLOHELLO"[..]), "{:?}", result.reason);
    let got = coder.got();
    assert_eq!(got.len(), 1, "the second request found the first one's task");
    assert_eq!((got[0].header("skein-correlation-id"), got[0].header("skein-from")), (Some(task.id.as_str()), Some("planner")));
}

/// Documents of YAML that the pages show, on their own or for `kubectl apply -f -`.
fn documents() -> Vec<(String, Value)> {
    let mut documents = Vec::new();
    for page in ["README.md", "docs/guide/first-team.md", "docs/guide/install.md"] {
        for block in blocks(page) {
            let text = match block.language.as_str() {
                "yaml" => Some(block.text.as_str()),
                "sh" => block.text.split_once("<<END\n").and_then(|(_, rest)| rest.split_once("\nEND\n")).map(|(inside, _)| inside),
                _ => None,
            };
            for document in serde_yaml_ng::Deserializer::from_str(text.unwrap_or_default()) {
                let document = Value::deserialize(document).unwrap_or_else(|error| panic!("{page}: {error}"));
                if !document.is_null() {
                    documents.push((page.to_owned(), document));
                }
            }
        }
    }
    documents
}

/// Everything that `shown` says is said by `understood` too.
fn covers(understood: &Value, shown: &Value) -> bool {
    match (understood, shown) {
        (Value::Object(understood), Value::Object(shown)) => {
            shown.iter().all(|(key, value)| understood.get(key).is_some_and(|understood| covers(understood, value)))
        }
        (Value::Array(understood), Value::Array(shown)) => {
            understood.len() == shown.len() && understood.iter().zip(shown).all(|(understood, shown)| covers(understood, shown))
        }
        (understood, shown) => understood == shown,
    }
}

/// What the controller understands of a document, and what it finds wrong with it.
fn judged(document: &Value) -> (Value, Vec<Problem>) {
    if document["kind"] == "AgentPool" {
        let pool: AgentPool = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}: {document}"));
        return (serde_json::to_value(&pool).unwrap(), check::check(&pool));
    }
    // A part of a topology is shown as well.
    let mut whole = document.clone();
    whole["metadata"]["name"] = "team".into();
    let topology: Topology = serde_json::from_value(whole).unwrap_or_else(|error| panic!("{error}: {document}"));
    (serde_json::to_value(&topology).unwrap(), skein::topology::check(&topology.spec))
}

#[test]
fn the_resources_of_the_pages_are_accepted_and_have_no_field_that_means_nothing() {
    let documents = documents();
    assert_eq!(documents.len(), 5, "another resource is shown, or one is not found: {documents:#?}");
    for (page, document) in documents {
        let (understood, problems) = judged(&document);
        assert_eq!(problems, [], "{page}: {document}");
        assert!(covers(&understood["spec"], &document["spec"]), "{page}: of {document} only {understood} is understood");
    }
}
