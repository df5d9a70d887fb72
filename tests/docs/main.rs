//! That the pages under `docs/` say what the code says, and that what they point to exists; and that the map in
//! `src/lib.rs` is the territory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cli;
mod fields;
#[path = "../support/golden.rs"]
mod golden;
mod links;
mod local_api;
mod map;
mod metrics;
mod problems;
mod reasons;

use std::path::{Path, PathBuf};

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
