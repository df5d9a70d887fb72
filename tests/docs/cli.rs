//! The page of the command line is made from the help.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use crate::golden;

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
