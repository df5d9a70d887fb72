//! Files that are made from the code: a test compares them, and with UPDATE=1 in the environment writes them.

use std::path::Path;

/// Compares a file of the checkout with what it should hold.
///
/// # Panics
/// When it holds something else.
pub(crate) fn current(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, wanted).unwrap_or_else(|error| panic!("{path} cannot be written: {error}"));
        return;
    }
    let actual = std::fs::read_to_string(&file).unwrap_or_default();
    if let Some((line, (old, new))) = differing_line(&actual, wanted) {
        panic!("{path} is stale from line {line} on; run `make generated`\n  it says:   {old}\n  should be: {new}");
    }
}

/// Compares what stands in a page between two comments, `<!-- generated: … -->` and `<!-- end -->`; the rest
/// of the page is written by hand.
///
/// # Panics
/// When something else stands there, or the comments are not there.
#[allow(dead_code, reason = "not every test that uses this file has pages")]
pub(crate) fn current_part(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let page = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"));
    let (head, rest) = page.split_once("<!-- generated").unwrap_or_else(|| panic!("{path} has no comment <!-- generated … -->"));
    let (comment, rest) = rest.split_once("-->").unwrap_or_else(|| panic!("{path}: the comment does not end"));
    let (_, tail) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{path} has no comment <!-- end -->"));
    current(path, &format!("{head}<!-- generated{comment}-->\n\n{}\n\n<!-- end -->{tail}", wanted.trim()));
}

fn differing_line<'a>(actual: &'a str, wanted: &'a str) -> Option<(usize, (&'a str, &'a str))> {
    if actual == wanted {
        return None;
    }
    let end = "(the end)";
    let lines = |text: &'a str| text.lines().chain(std::iter::repeat(end));
    let pairs = lines(actual).zip(lines(wanted)).take(actual.lines().count().max(wanted.lines().count()) + 1);
    pairs.enumerate().find(|(_, (old, new))| old != new).map_or(Some((0, ("", "another end of line"))), |(at, pair)| Some((at + 1, pair)))
}
