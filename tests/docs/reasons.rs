//! The runbook, which is written by hand, has every reason of a condition, a finding or an event.

use std::collections::BTreeSet;

use pretty_assertions::assert_eq;

use crate::{between, read, source};

/// CamelCase words in the sources that are no reasons of ours: Kubernetes' own words and the like.
const NO_REASONS: [&str; 16] = [
    "Always",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "False",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "OOMKilled",
    "PodScheduled",
    "PodSecurity",
    "RegistryUnavailable",
    "RunContainerError",
    "True",
];

/// A runbook that misses a reason leaves somebody alone at night.
#[test]
fn the_runbook_has_every_reason() {
    let mut reasons = BTreeSet::new();
    let sources = [
        "src/controller/agent_pool/report.rs",
        "src/controller/agent_pool/degraded.rs",
        "src/api/check.rs",
        "src/controller/trouble.rs",
        "src/controller/topology/report.rs",
        "src/topology/check.rs",
        "src/topology/findings.rs",
        "src/controller/topology/mod.rs",
        "src/controller/topology/farewell.rs",
    ];
    for file in sources {
        let text = source(file);
        // An event says first what was done, and then the reason.
        let actions: BTreeSet<_> = between(&text, "News::normal(\"", "\"").chain(between(&text, "News::warning(\"", "\"")).collect();
        let words = between_quotes(&text).into_iter().filter(|word| {
            word.starts_with(|first: char| first.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphabetic()) && word.len() > 2
        });
        reasons.extend(words.filter(|word| !NO_REASONS.contains(&word.as_str()) && !actions.contains(word.as_str())));
    }
    let page = read("docs/operations/conditions.md");
    let listed: BTreeSet<_> = page.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    assert_eq!(listed, reasons);
}

/// The string literals of a source; comments are left out.
fn between_quotes(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    code.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}
