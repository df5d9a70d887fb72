//! That the pages under `docs/` say what the code says: metrics, fields, problems, conditions; and that what
//! they point to exists.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "support/golden.rs"]
mod golden;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use pretty_assertions::assert_eq;
use prometheus::Registry;
use skein::bus::{Outcome, Team};
use skein::kubernetes::Class;
use skein::telemetry::metrics::{self, controller, gateway, sidecar};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a directory that end like this.
fn files(directory: &str, end: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, end: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                walk(&entry, end, found);
            } else if entry.to_string_lossy().ends_with(end) {
                found.push(entry.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(directory), end, &mut found);
    found.sort();
    found
}

/// Source without the module of its tests.
fn source(path: impl AsRef<Path>) -> String {
    let text = read(path);
    let tests = text.match_indices("#[cfg(test)]\n").find(|(at, mark)| {
        let next = text[at + mark.len()..].lines().next().unwrap_or_default();
        next.contains("mod ") && next.ends_with('{')
    });
    tests.map_or(text.as_str(), |(at, _)| &text[..at]).to_owned()
}

/// The text between each `open` and the `close` that follows it.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close).map(|(inside, _)| inside))
}

// --- Metrics

/// The metrics of a role, each with a series, so that the registry tells of it.
fn registry(role: &str) -> Registry {
    let registry = metrics::registry(role).unwrap();
    match role {
        "controller" => {
            let all = controller::Metrics::new(&registry).unwrap();
            all.reconciled("agentpool", Duration::ZERO, Some(Class::Transient));
            for (metric, labels) in [
                (&all.waiting, &["c"][..]),
                (&all.pools, &["c", "s"]),
                (&all.topologies, &["c", "s"]),
                (&all.findings, &["n", "t", "y"]),
                (&all.agents, &["s"]),
                (&all.queue_tasks, &["n", "p", "s"]),
                (&all.journal_bytes, &["n", "t"]),
                (&all.journal_messages, &["n", "t"]),
            ] {
                metric.with_label_values(labels);
            }
            all.restarts.with_label_values(&["r"]);
            all.bus_repairs.with_label_values(&["k"]);
        }
        "sidecar" => drop(sidecar::Metrics::new(&registry, "pool").unwrap()),
        _ => {
            let all = gateway::Metrics::new(&registry).unwrap();
            all.answered("r", 500, Some("p"));
            all.stored(&Team::new("n", "t"), "p");
            all.ended(&Team::new("n", "t"), "p", Outcome::Completed, Duration::ZERO);
        }
    }
    registry
}

fn rows(registry: &Registry, only: impl Fn(&str) -> bool) -> String {
    let mut table = "| Metric | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for family in registry.gather().iter().filter(|family| only(family.name())) {
        let labels: BTreeSet<_> = family.get_metric().iter().flat_map(|metric| metric.get_label()).map(|label| label.name()).collect();
        let labels = labels.into_iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let type_ = format!("{:?}", family.get_field_type()).to_lowercase();
        writeln!(table, "| `{}` | {type_} | {labels} | {} |", family.name(), family.help()).unwrap();
    }
    table
}

#[test]
fn the_page_of_metrics_lists_every_metric_that_exists() {
    let mut page = format!("## All three\n\n{}", rows(&registry("controller"), |name| !name.contains("_controller_")));
    for role in ["controller", "gateway", "sidecar"] {
        let registry = registry(role);
        let prefix = format!("skein_{role}_");
        let gathered: BTreeSet<_> =
            registry.gather().iter().map(|family| family.name().to_owned()).filter(|name| name.starts_with(&prefix)).collect();
        let text = source(format!("src/telemetry/metrics/{role}.rs"));
        let made: BTreeSet<_> = between(&text, "\"skein_", "\"").map(|name| format!("skein_{name}")).collect();
        assert_eq!(gathered, made, "a metric of the {role} is not known to `registry` in this test");
        let title = role[..1].to_uppercase() + &role[1..];
        write!(page, "\n## {title}\n\n{}", rows(&registry, |name| name.starts_with(&prefix))).unwrap();
    }
    golden::current_part("docs/reference/metrics.md", &page);
}

/// A label that the page does not explain is one whose values nobody can bound.
#[test]
fn the_page_of_metrics_explains_every_label() {
    let page = read("docs/reference/metrics.md");
    let (_, by_hand) = page.split_once("<!-- end -->").unwrap();
    let explained: BTreeSet<_> =
        by_hand.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(label, _)| label)).collect();
    let mut used = BTreeSet::new();
    for role in ["controller", "gateway", "sidecar"] {
        for family in registry(role).gather() {
            used.extend(family.get_metric().iter().flat_map(|metric| metric.get_label()).map(|label| label.name().to_owned()));
        }
    }
    assert_eq!(explained, used.iter().map(String::as_str).collect());
}

// --- Fields

fn fields(path: &str, schema: &JSONSchemaProps, table: &mut String) {
    for (name, field) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|required| required == name);
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let items = match &field.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items.as_ref()),
            _ => None,
        };
        let default = match &field.default {
            Some(value) if !value.0.is_object() => format!("`{}`", value.0),
            _ if required => "required".to_owned(),
            _ => String::new(),
        };
        let text = field.description.clone().unwrap_or_default().replace('|', "\\|");
        // The table says it in a column of its own.
        let text = text.split_once(" Default ").filter(|_| !default.is_empty()).map_or(text.as_str(), |(text, _)| text);
        writeln!(table, "| `{here}` | {} | {default} | {text} |", type_of(field)).unwrap();
        if matches!(here.as_str(), "spec.template" | "status.conditions") {
            continue;
        }
        fields(&here, field, table);
        if let Some(items) = items {
            fields(&format!("{here}[]"), items, table);
        }
    }
}

fn type_of(field: &JSONSchemaProps) -> String {
    if let Some(values) = &field.enum_ {
        return values.iter().filter_map(|value| value.0.as_str()).map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    let whole = |number: f64| format!("{number}");
    match (field.type_.as_deref(), &field.items) {
        (Some("array"), Some(JSONSchemaPropsOrArray::Schema(items))) => {
            let most = field.max_items.map(|most| format!(", {most} at most")).unwrap_or_default();
            format!("list of {}{most}", type_of(items))
        }
        (Some("integer"), _) => match (field.minimum, field.maximum) {
            (Some(least), Some(most)) => format!("{} to {}", whole(least), whole(most)),
            (Some(least), None) => format!("{} or more", whole(least)),
            _ => "integer".to_owned(),
        },
        (Some("string"), _) if field.format.as_deref() == Some("date-time") => "time".to_owned(),
        (type_, _) => type_.unwrap_or_default().to_owned(),
    }
}

fn resource(crd: &CustomResourceDefinition) -> String {
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let names = &crd.spec.names;
    let mut page = format!("## {}\n\n{}\n\n", names.kind, plain(schema.description.as_deref().unwrap_or_default()));
    let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    writeln!(page, "`kubectl get {}`; short {short}.\n", names.plural).unwrap();
    for part in ["spec", "status"] {
        let mut properties = schema.clone();
        properties.properties.as_mut().unwrap().retain(|name, _| name == part);
        page.push_str("| Field | Type | Default | Meaning |\n| --- | --- | --- | --- |\n");
        fields("", &properties, &mut page);
        page.push('\n');
    }
    page.push_str("Refused by the API server:\n\n");
    let json = serde_json::to_value(schema).unwrap();
    let mut rules = Vec::new();
    messages(&json, &mut rules);
    rules.iter().for_each(|rule| writeln!(page, "- {}", plain(rule)).unwrap());
    page
}

/// Text that Markdown takes for text.
fn plain(text: &str) -> String {
    text.replace('<', "&lt;")
}

fn messages(schema: &serde_json::Value, found: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            let rules = fields.get("x-kubernetes-validations").and_then(|rules| rules.as_array()).into_iter().flatten();
            found.extend(rules.filter_map(|rule| rule["message"].as_str()).map(str::to_owned));
            fields.values().for_each(|value| messages(value, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| messages(value, found)),
        _ => {}
    }
}

#[test]
fn the_page_of_the_api_lists_every_field() {
    let page = skein::api::crds().iter().map(resource).collect::<Vec<_>>().join("\n");
    golden::current_part("docs/reference/api.md", &page);
}

// --- The command line

#[test]
fn the_page_of_the_command_line_has_the_help_of_every_command() {
    let mut all = skein::cli::Cli::command().bin_name("kubectl skein").term_width(110);
    all.build();
    // What every command has is said once, by hand.
    let everybodys = ["log", "log_format", "help", "version"];
    let mut page = String::new();
    for command in all.get_subcommands().filter(|command| !command.is_hide_set()) {
        let tidy = |arg: clap::Arg| {
            let hidden = everybodys.contains(&arg.get_id().as_str());
            arg.hide_env_values(true).hide(hidden)
        };
        let help = command.clone().mut_args(tidy).render_help().to_string();
        let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        writeln!(page, "## {}\n\n```\n{}\n```\n", command.get_name(), help.trim()).unwrap();
    }
    golden::current_part("docs/reference/cli.md", &page);
}

// --- Problems

/// The kinds of problems that the code makes.
fn kinds() -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for file in [files("src/http", ".rs"), files("src/gateway", ".rs"), files("src/sidecar", ".rs")].concat() {
        let text: String = source(&file).split_whitespace().collect::<Vec<_>>().join(" ");
        for call in text.split("Problem::new(").skip(1).chain(text.split("Self::new(").skip(1)).chain(text.split("unavailable(").skip(1)) {
            kinds.extend(kind(call).map(str::to_owned));
        }
        // A match that makes one of several.
        for arm in text.split("=> (StatusCode::").skip(1) {
            kinds.extend(kind(arm).map(str::to_owned));
        }
    }
    kinds
}

/// The first string, when it is in kebab case.
fn kind(call: &str) -> Option<&str> {
    let (before, rest) = call.split_once('"')?;
    let fits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let (kind, _) = rest.split_once('"')?;
    (before.len() < 60 && !before.contains(')') && fits(kind)).then_some(kind)
}

#[test]
fn the_page_of_problems_lists_every_kind() {
    let page = read("docs/reference/problems.md");
    let listed: BTreeSet<_> = page.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    assert_eq!(listed, kinds());
}

// --- Conditions

/// CamelCase words in the sources that are no reasons of ours: Kubernetes' own words and the like.
const NO_REASONS: [&str; 21] = [
    "Adopt",
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
    "Reconcile",
    "Report",
    "RunContainerError",
    "True",
    "Create",
    "Delete",
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
    ];
    for file in sources {
        let text = source(file);
        let words = between_quotes(&text).into_iter().filter(|word| {
            word.starts_with(|first: char| first.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphabetic()) && word.len() > 2
        });
        reasons.extend(words.filter(|word| !NO_REASONS.contains(&word.as_str())));
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

// --- What pages point to

fn pages() -> Vec<PathBuf> {
    let mut pages = files("docs", ".md");
    pages.extend(files("charts", ".md"));
    pages.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md", "deploy/local/README.md"].map(PathBuf::from));
    pages
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for target in between(&text, "](", ")").filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = root().join(page.parent().unwrap()).join(file);
            let path = if file.is_empty() { root().join(&page) } else { path };
            if !path.exists() {
                broken.push(format!("{}: {target}", page.display()));
            } else if !anchor.is_empty() && !anchors(&std::fs::read_to_string(&path).unwrap()).contains(anchor) {
                broken.push(format!("{}: {target} has no such heading", page.display()));
            }
        }
    }
    assert_eq!(broken, [""; 0]);
}

fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let anchor = |heading: String| -> String {
        heading
            .chars()
            .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_')
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(anchor).collect()
}

/// Pages name files of this checkout in code; one that was moved is a dead end.
#[test]
fn every_file_that_a_page_names_exists() {
    let tops = ["charts/", "crds/", "deploy/", "docs/", "examples/", "src/", "tests/", "tools/", ".ci/"];
    let mut missing = BTreeMap::new();
    for page in pages() {
        for word in read(&page).split(|c: char| c.is_whitespace() || "`()[],;:'\"<>|".contains(c)) {
            let word = word.trim_end_matches('.').trim_start_matches("./");
            let named = tops.iter().any(|top| word.starts_with(top)) && !word.contains(['*', '{', '$', '…']);
            if named && !root().join(word).exists() {
                missing.insert(word.to_owned(), page.display().to_string());
            }
        }
    }
    assert_eq!(missing, BTreeMap::new());
}

/// Targets of make that pages name.
#[test]
fn every_target_that_a_page_names_exists() {
    let makefile = read("Makefile");
    let targets: BTreeSet<_> = makefile.lines().filter_map(|line| line.split_once(':').map(|(target, _)| target)).collect();
    for page in pages() {
        let text = read(&page);
        for named in between(&text, "`make ", "`").chain(text.lines().filter_map(|line| line.strip_prefix("make "))) {
            let mut words = named.split_whitespace().filter(|word| !word.starts_with('-') && !word.contains('=') && *word != "#");
            let target = words.next().unwrap_or_default();
            assert!(targets.contains(target), "{}: there is no `make {target}`", page.display());
        }
    }
}
