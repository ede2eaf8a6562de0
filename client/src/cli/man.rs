//! `bolt completions` and `bolt man`, made from the same declarations as the command line.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use super::failure::{Exit, Failure};
use crate::errln;

/// Print the completion script of a shell.
#[derive(Debug, Args)]
pub(super) struct CompletionsCommand {
    /// Which shell.
    shell: Shell,
}

/// Print the manual, or write all its pages.
#[derive(Debug, Args)]
pub(super) struct ManCommand {
    /// Write a page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs `bolt completions`.
pub(super) fn completions(command: &CompletionsCommand) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Cli::command(), "bolt", &mut script);
    print(&script)
}

/// Runs `bolt man`.
pub(super) fn man(command: &ManCommand) -> Result<Exit, Failure> {
    let mut whole = Cli::command();
    whole.build();
    let Some(dir) = &command.out else {
        return print(&page(whole, "bolt")?);
    };
    let failed = |e: io::Error| Failure::new(Exit::Storage, format!("cannot write to {}: {e}", crate::show::path(dir)));
    fs::create_dir_all(dir).map_err(failed)?;
    let mut written = 0;
    let mut left = vec![("bolt".to_owned(), whole)];
    while let Some((name, command)) = left.pop() {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
            left.push((format!("{name}-{}", sub.get_name()), sub.clone()));
        }
        fs::write(dir.join(format!("{name}.1")), page(command, &name)?).map_err(failed)?;
        written += 1;
    }
    errln!("{written} pages in {}", crate::show::path(dir));
    Ok(Exit::Success)
}

fn page(command: Command, name: &str) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    Man::new(command)
        .render(&mut text)
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot make the page of {name}: {e}")))?;
    // What clap calls extra are the exit codes and the files; a line is a line there.
    let text = String::from_utf8_lossy(&text).replace(".SH EXTRA\n", ".SH \"EXIT CODES AND FILES\"\n.nf\n");
    let text = text.replace("\n.SH VERSION\n", "\n.fi\n.SH VERSION\n");
    Ok(text.into_bytes())
}

fn print(bytes: &[u8]) -> Result<Exit, Failure> {
    match io::stdout().lock().write_all(bytes) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(super::terminal::BROKEN_PIPE),
        Err(e) => Err(Failure::new(Exit::Storage, format!("cannot print: {e}"))),
        Ok(()) => Ok(Exit::Success),
    }
}
