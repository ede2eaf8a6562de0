//! Help texts, one snapshot for each command.

use bolt_client::cli::Cli;
use clap::{Command, CommandFactory as _, Parser as _};

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

/// A paragraph is one line, which clap breaks at the width of the terminal, and the other lines fit: what clap breaks of them could
/// not be copied.
#[test]
fn only_paragraphs_are_broken() {
    let mut wrong = Vec::new();
    for (name, command) in all() {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines {
            if line.starts_with(' ') && line.chars().count() > WIDTH {
                wrong.push(format!("{name}: longer than {WIDTH} columns: {line}"));
            }
        }
        let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
        for pair in lines.windows(2).filter(|pair| is_prose(pair[0]) && is_prose(pair[1])) {
            wrong.push(format!("{name}: a paragraph of two lines: {} / {}", pair[0], pair[1]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Examples name commands and options that the help has, with values that are accepted.
#[test]
fn examples_are_accepted() {
    let root = build();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (name, command) in all() {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in text.replace("\\\n    ", "").lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            if !line.starts_with("bolt ") {
                continue;
            }
            tried += 1;
            let words = words(line);
            match Cli::try_parse_from(&words) {
                Err(e) if !e.to_string().contains("is in the future") => wrong.push(format!("{name}: {line}: {e}")),
                _ => wrong
                    .extend(hidden(&root, &words).map(|option| format!("{name}: {line}: {option} is not in the help"))),
            }
        }
    }
    assert!(tried > 100, "{tried} examples were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the first long option of a command line that neither the help of its command nor that of one above it has.
fn hidden(root: &Command, words: &[String]) -> Option<String> {
    let mut commands = vec![root];
    for word in words.iter().skip(1) {
        commands.extend(commands.last().and_then(|command| command.find_subcommand(word)));
    }
    let named = words.iter().filter(|word| word.starts_with("--"));
    let mut options = named.map(|word| word.split('=').next().unwrap_or(word));
    let is_known = |option: &str| {
        commands
            .iter()
            .flat_map(|command| command.get_arguments())
            .any(|argument| argument.get_long() == option.get(2..))
    };
    options.find(|option| !is_known(option)).map(str::to_owned)
}

/// Splits a line as a shell does, up to a pipe, a redirection, another command or the comment after two blanks. An ellipsis stands
/// for more characters.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.split("  ").next().unwrap_or(line).replace('…', "0").chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '<' | '>' | '&') => break,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Returns every command with its name.
fn all() -> Vec<(String, Command)> {
    let mut left = vec![("bolt".to_owned(), build())];
    let mut all = Vec::new();
    while let Some((name, command)) = left.pop() {
        let subcommands = command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set());
        left.extend(subcommands.map(|sub| (format!("{name} {}", sub.get_name()), sub.clone())));
        all.push((name, command));
    }
    all
}

fn build() -> Command {
    let mut command = Cli::command().term_width(WIDTH).max_term_width(WIDTH);
    command.build();
    command
}
