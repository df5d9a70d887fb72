//! The page of metrics is made from the metrics.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use pretty_assertions::assert_eq;
use prometheus::Registry;
use skein::bus::{Outcome, Team};
use skein::kubernetes::Class;
use skein::telemetry::metrics::{self, controller, gateway, sidecar};

use crate::{between, golden, read, source};

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

/// A query with a metric that does not exist finds nothing, and nobody is told.
#[test]
fn every_metric_that_a_page_names_exists() {
    let table = read("docs/reference/metrics.md");
    let known: BTreeSet<_> = between(&table, "\n| `", "`").collect();
    for page in crate::links::pages() {
        let text = read(&page);
        let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        let roles = ["skein_controller_", "skein_gateway_", "skein_sidecar_"];
        for word in words.filter(|word| roles.iter().any(|role| word.starts_with(role) && word != role)) {
            let name = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(known.contains(name), "{}: there is no metric {name}", page.display());
        }
    }
}
