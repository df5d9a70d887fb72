//! The guide for agents, which is written by hand, has every path of the local API.

use crate::{between, read, source};

/// A path that no page names does not exist for whoever writes an agent.
#[test]
fn the_guide_has_every_path_of_the_local_api() {
    let guide = read("docs/guide/agents.md").replace("$id", "{id}");
    let text = source("src/sidecar/api/mod.rs");
    let paths: Vec<_> = between(&text, ".route(\"", "\"").collect();
    assert!(paths.len() > 5, "{paths:?}");
    for path in paths {
        assert!(guide.contains(path), "docs/guide/agents.md does not name {path}");
    }
}
