//! Help texts, one snapshot for each command.

use bolt_client::cli::Cli;
use clap::{Command, CommandFactory as _};

/// Width of the help texts, in columns.
const WIDTH: usize = 100;

#[test]
fn help_of_every_command() {
    let mut left = vec![("bolt".to_owned(), build())];
    let mut names = Vec::new();
    while let Some((name, mut command)) = left.pop() {
        let subcommands = command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set());
        left.extend(subcommands.map(|sub| (format!("{name} {}", sub.get_name()), sub.clone())));
        let help = command.render_long_help().to_string();
        insta::assert_snapshot!(name.replace(' ', "_"), help.trim_end());
        names.push(name);
    }
    names.sort();
    insta::assert_snapshot!("commands", names.join("\n"));
}

/// Every command has an example of its use, or commands below it.
#[test]
fn every_command_has_an_example() {
    let mut left = vec![("bolt".to_owned(), build())];
    let mut without = Vec::new();
    while let Some((name, mut command)) = left.pop() {
        let subcommands: Vec<Command> =
            command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()).cloned().collect();
        if subcommands.is_empty() && !command.render_long_help().to_string().contains("\nExample") {
            without.push(name.clone());
        }
        left.extend(subcommands.into_iter().map(|sub| (format!("{name} {}", sub.get_name()), sub)));
    }
    assert!(without.is_empty(), "no example in the help of {without:?}");
}

fn build() -> Command {
    let mut command = Cli::command().term_width(WIDTH).max_term_width(WIDTH);
    command.build();
    command
}
