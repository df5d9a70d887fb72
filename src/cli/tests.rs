//! What the command line takes, and what its help says.

use super::*;

fn parsed(arguments: &[&str]) -> Result<Command, String> {
    parse_from(arguments.iter().map(OsString::from).collect()).map(|cli| cli.command).map_err(|error| error.to_string())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn wait_takes_a_number_only_after_an_equals_sign() {
    let submit = |arguments: &[&str]| match parsed(&[&["skein", "submit", "team"], arguments].concat()) {
        Ok(Command::Submit(submit)) => submit,
        other => panic!("{other:?}"),
    };
    assert_eq!(submit(&["--to", "a"]).wait, None);
    assert_eq!(submit(&["--to", "a", "--wait"]).wait, Some(60));
    assert_eq!(submit(&["--wait=5", "--to", "a"]).wait, Some(5));
}

#[test]
fn a_task_has_exactly_one_target() {
    assert!(parsed(&["skein", "submit", "team"]).unwrap_err().contains("--to"));
    assert!(parsed(&["skein", "submit", "team", "--to", "a", "--capability", "b"]).is_err());
    assert!(parsed(&["skein", "submit", "team", "--capability", "b"]).is_ok());
}

/// kubectl starts its plugins by their path.
#[test]
fn help_says_what_the_user_typed() {
    let help = |program| parsed(&[program, "status", "--help"]).unwrap_err();
    assert!(help("/usr/local/bin/kubectl-skein").contains("Usage: kubectl skein status"));
    assert!(help("/skein").contains("Usage: skein status"));
    assert!(help("skein").contains("  3  something is not ready"));
}
