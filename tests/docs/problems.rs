//! The page of problems, which is written by hand, has every kind that the code makes.

use std::collections::BTreeSet;

use pretty_assertions::assert_eq;

use crate::{files, read, source};

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
