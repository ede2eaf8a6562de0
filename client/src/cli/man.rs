//! `bolt completions` and `bolt man`, made from the same declarations as the command line.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_complete::env::Shells;
use clap_mangen::Man;

use super::Cli;
use super::complete::VARIABLE;
use super::failure::{Exit, Failure};
use crate::{errln, out};

/// Print the completion script of a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
The script runs bolt for each completion. Actions and their parameters come from an answer of an instance, which is kept for ten \
minutes in $XDG_CACHE_HOME/bolt; instances come from the inventory.

Examples:
  source <(bolt completions bash)                                in ~/.bashrc
  source <(bolt completions zsh)                                 in ~/.zshrc
  bolt completions fish > ~/.config/fish/completions/bolt.fish")]
pub(super) struct CompletionsCommand {
    /// The shell.
    shell: Shell,
}

/// Show the manual page of a command.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt man run
  bolt man repo promote
  bolt man --out /usr/local/share/man/man1")]
pub(super) struct ManCommand {
    /// The command, such as `run` or `repo promote` [default: the page of bolt itself].
    command: Vec<String>,
    /// Write a page for each command into this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    out: Option<PathBuf>,
}

/// Runs `bolt completions`.
pub(super) fn completions(command: &CompletionsCommand) -> Result<Exit, Failure> {
    let shells = Shells::builtins();
    let name = command.shell.to_string();
    let mut script = Vec::new();
    let written = match shells.completer(&name) {
        Some(completer) => completer.write_registration(VARIABLE, "bolt", "bolt", "bolt", &mut script),
        None => Err(io::Error::other("no such shell")),
    };
    written.map_err(|e| Failure::new(Exit::Failed, format!("cannot make the script for {name}: {e}")))?;
    print(&script)
}

/// Runs `bolt man`.
pub(super) fn man(command: &ManCommand) -> Result<Exit, Failure> {
    let mut whole = Cli::command();
    whole.build();
    match &command.out {
        Some(directory) => write_all(whole, directory),
        None => show(whole, &command.command),
    }
}

/// Shows the page of a command with `man`, or its help as text when there is no `man`.
fn show(whole: Command, words: &[String]) -> Result<Exit, Failure> {
    let (mut found, mut name) = (whole, "bolt".to_owned());
    for word in words {
        let Some(inner) = found.find_subcommand(word).cloned() else {
            let problem = format!("{} has no command {}", name.replace('-', " "), crate::show::visible(word));
            let hint = format!("`{} --help` lists the commands", name.replace('-', " "));
            return Err(Failure::new(Exit::Usage, problem).hint(hint));
        };
        name = format!("{name}-{}", inner.get_name());
        found = inner;
    }
    match show_with_man(&page(found.clone(), &name)?, &name) {
        Some(text) => print(&text),
        None => {
            out!("{}", found.render_long_help());
            Ok(Exit::Success)
        }
    }
}

/// Runs `man` on a page. Returns the text that is still to be printed: none on a terminal, where `man` has shown it. `None`
/// when `man` cannot be run or fails.
fn show_with_man(page: &[u8], name: &str) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().ok()?;
    let file = directory.path().join(format!("{name}.1"));
    fs::write(&file, page).ok()?;
    let mut man = std::process::Command::new("man");
    man.arg(&file);
    // Elsewhere than on a terminal `man` hides that nothing could be written.
    if io::stdout().is_terminal() {
        return man.status().ok()?.success().then(Vec::new);
    }
    let output = man.stderr(Stdio::inherit()).output().ok()?;
    output.status.success().then_some(output.stdout)
}

fn write_all(whole: Command, directory: &std::path::Path) -> Result<Exit, Failure> {
    let failed =
        |e: io::Error| Failure::new(Exit::Storage, format!("cannot write to {}: {e}", crate::show::path(directory)));
    fs::create_dir_all(directory).map_err(failed)?;
    let mut written = 0;
    let mut left = vec![("bolt".to_owned(), whole)];
    while let Some((name, command)) = left.pop() {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
            left.push((format!("{name}-{}", sub.get_name()), sub.clone()));
        }
        fs::write(directory.join(format!("{name}.1")), page(command, &name)?).map_err(failed)?;
        written += 1;
    }
    errln!("{written} pages in {}", crate::show::path(directory));
    Ok(Exit::Success)
}

fn page(mut command: Command, name: &str) -> Result<Vec<u8>, Failure> {
    // The synopsis of clap_mangen lists every option without its value, in an order of its own.
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    let mut text = Vec::new();
    Man::new(command.override_usage(usage))
        .source(concat!("bolt ", env!("CARGO_PKG_VERSION")))
        .render(&mut text)
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot make the page of {name}: {e}")))?;
    // `help` has no page of its own.
    let help = format!(".TP\n{}\\-help(1)\nPrint this message or the help of the given subcommand(s)\n", escaped(name));
    let text = String::from_utf8_lossy(&text).replace(&help, "");
    let Some((before, extra)) = text.split_once(".SH EXTRA\n") else { return Ok(text.into_bytes()) };
    let (extra, after) = extra.split_once(".SH VERSION\n").unwrap_or((extra, ""));
    let heading = if name == "bolt" { "EXIT CODES AND FILES" } else { "NOTES" };
    Ok(format!("{before}.SH \"{heading}\"\n{}.SH VERSION\n{after}", notes(extra)).into_bytes())
}

/// Returns a name as it is written in the source of a page.
fn escaped(name: &str) -> String {
    name.replace('-', "\\-")
}

/// Returns the section that clap calls extra, which has the exit codes and files, or the examples: indented lines stay as they
/// are, and paragraphs are filled to the width of the terminal.
fn notes(extra: &str) -> String {
    let (mut text, mut verbatim) = (String::new(), false);
    for line in extra.lines() {
        let indented = line.starts_with(' ');
        if indented != verbatim && !line.is_empty() {
            text.push_str(if indented { ".nf\n" } else { ".fi\n" });
            verbatim = indented;
        }
        text.push_str(line);
        text.push('\n');
    }
    if verbatim {
        text.push_str(".fi\n");
    }
    text
}

fn print(bytes: &[u8]) -> Result<Exit, Failure> {
    match io::stdout().lock().write_all(bytes) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(super::terminal::BROKEN_PIPE),
        Err(e) => Err(Failure::new(Exit::Storage, format!("cannot print: {e}"))),
        Ok(()) => Ok(Exit::Success),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_synopsis_is_the_usage_of_the_help() {
        let mut whole = Cli::command();
        whole.build();
        let run = whole.find_subcommand("run").unwrap().clone();
        let text = String::from_utf8(page(run, "bolt-run").unwrap()).unwrap().replace('\\', "");
        let synopsis = text.split(".SH SYNOPSIS\n").nth(1).and_then(|rest| rest.split(".SH").next()).unwrap();
        assert!(synopsis.contains("[OPTIONS] <ACTION[@VERSION]> [NAME=VALUE]..."), "{synopsis}");
        assert!(!synopsis.contains("--"), "{synopsis}");
    }

    fn text_of(words: &[&str]) -> String {
        let (mut found, mut name) = (Cli::command(), "bolt".to_owned());
        found.build();
        for word in words {
            found = found.find_subcommand(word).unwrap().clone();
            name = format!("{name}-{word}");
        }
        String::from_utf8(page(found, &name).unwrap()).unwrap()
    }

    #[test]
    fn a_page_is_of_bolt_and_names_pages_that_there_are() {
        for words in [&[][..], &["pki"], &["pki", "issue"]] {
            let text = text_of(words);
            assert!(text.contains(concat!("\"bolt ", env!("CARGO_PKG_VERSION"), "\"")), "{text}");
            assert!(text.contains("SUBCOMMANDS") && !text.contains("help(1)"), "{text}");
        }
    }

    #[test]
    fn paragraphs_of_a_page_are_filled_and_examples_are_not() {
        let text = text_of(&["pki", "renew"]);
        let notes = text.split_once(".SH \"NOTES\"\n").unwrap().1;
        assert!(notes.starts_with("The old certificate"), "{notes}");
        let (prose, examples) = notes.split_once("\n.nf\n").unwrap();
        assert!(prose.ends_with("Examples:") && examples.starts_with("  bolt pki renew"), "{notes}");
        assert!(examples.contains("\n.fi\n.SH VERSION\n"), "{notes}");
    }
}
