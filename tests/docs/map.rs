//! The map of modules in `src/lib.rs`, which is where a reader begins, says what each of them really uses.

use std::collections::{BTreeMap, BTreeSet};

use pretty_assertions::assert_eq;

use crate::{between, files, read, source};

/// The rows of the map, in its order: a module, and what it uses.
fn map() -> Vec<(String, BTreeSet<String>)> {
    let text = read("src/lib.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split_once("`] | "));
    rows.map(|(module, rest)| {
        let (_, uses) = rest.split_once(" | ").unwrap_or_else(|| panic!("the row of {module} has no third column"));
        (module.to_owned(), uses.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    })
    .collect()
}

/// What the sources of a module name of others. Tests may use what they like.
fn used(module: &str) -> BTreeSet<String> {
    let own = |path: &str| path == format!("src/{module}.rs") || path.starts_with(&format!("src/{module}/"));
    let of_tests = |path: &str| path.ends_with("tests.rs") || path.ends_with("/testing.rs") || path.contains("/tests/");
    let mut used = BTreeSet::new();
    for file in files("src", ".rs") {
        let path = file.to_string_lossy();
        if !own(&path) || of_tests(&path) {
            continue;
        }
        let text = source(&file);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        assert!(!code.contains("crate::{"), "{path}: a `use` of one line for each module of the crate, please");
        let named =
            code.split("crate::").skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned());
        used.extend(named);
    }
    used.remove(module);
    used
}

/// A map that is wrong is worse than none; and with a circle in it, no part can be understood without all others.
#[test]
fn each_module_uses_what_the_map_says_and_only_what_stands_above_it() {
    let map = map();
    let declared: BTreeSet<_> = between(&read("src/lib.rs"), "pub mod ", ";").map(str::to_owned).collect();
    assert_eq!(map.iter().map(|(module, _)| module.clone()).collect::<BTreeSet<_>>(), declared);
    let real: BTreeMap<_, _> = map.iter().map(|(module, _)| (module.clone(), used(module))).collect();
    assert_eq!(map.iter().cloned().collect::<BTreeMap<_, _>>(), real);
    for (row, (module, uses)) in map.iter().enumerate() {
        let above: BTreeSet<_> = map[..row].iter().map(|(module, _)| module.clone()).collect();
        assert!(uses.is_subset(&above), "{module} uses {:?}, which stand below it", uses - &above);
    }
}
