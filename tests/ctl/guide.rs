//! That the page about teams shows what really happens: its YAML is put into files, its commands are run one
//! after the other, and what they print is what the page says.

use pretty_assertions::assert_eq;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::support::checkout;

const PAGE: &str = "docs/guide/teams.md";

/// The blocks of code of the page, each with its language.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("\n```").enumerate().filter(|(number, _)| number % 2 == 1);
    parts.map(|(_, part)| part.split_once('\n').unwrap_or_else(|| panic!("a block is not closed: {part}"))).collect()
}

/// A regression here shows people what they will not see.
#[tokio::test]
async fn the_commands_of_the_page_print_what_it_says() {
    let cluster = Cluster::new().await;
    let folder = TempDir::new().unwrap();
    let file = checkout(PAGE);
    let page = std::fs::read_to_string(&file).unwrap();
    let (mut wanted, mut ran) = (page.clone(), 0);
    let mut blocks = blocks(&page).into_iter().peekable();
    while let Some((language, text)) = blocks.next() {
        if language == "yaml" {
            let (name, _) = text.strip_prefix("# ").and_then(|text| text.split_once('\n')).expect("the first line is the name of the file");
            std::fs::write(folder.path().join(name), text).unwrap();
        } else if let (Some(command), Some(("", shown))) = (text.strip_prefix("kubectl skein "), blocks.peek()) {
            let arguments: Vec<_> = command.split_whitespace().collect();
            // What is in the checkout is there, too.
            let folder = if command.contains("deploy/samples") { checkout("") } else { folder.path().to_owned() };
            let printed = cluster.skein_in(&folder, &arguments).await;
            assert!(printed.code < 2, "{command}: {printed:?}");
            let printed = printed.text().trim_end();
            wanted = wanted.replace(&format!("{text}\n```\n\n```\n{shown}\n```"), &format!("{text}\n```\n\n```\n{printed}\n```"));
            ran += 1;
        }
    }
    assert!(ran > 0);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted, "UPDATE=1 writes what is printed now into the page");
}
