//! What pages point to exists: links, files, targets of make.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use pretty_assertions::assert_eq;

use crate::{between, files, read, root};

/// All pages that people read, but for those of single examples.
pub(crate) fn pages() -> Vec<PathBuf> {
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
