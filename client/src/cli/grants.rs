//! `bolt grants`: what a `grants.toml` allows, on files, without an instance.

mod check;
mod lint;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use packs_schema::agent::grants::Grants;
use packs_schema::pack::contents::CheckedPack;

use super::failure::{Exit, Failure};
use crate::files;
use crate::pack;
use crate::show;

/// Maximum size of a file that is read here, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Check grants on files.
#[derive(Debug, Subcommand)]
pub(super) enum GrantsCommand {
    /// Explain grant by grant whether a file allows something, and which grant decides.
    Check(check::CheckCommand),
    /// Find grants that are shadowed, unused or too wide.
    Lint(lint::LintCommand),
}

/// Runs `bolt grants`.
pub(super) fn run(command: GrantsCommand, json: bool) -> Result<Exit, Failure> {
    match command {
        GrantsCommand::Check(command) => check::run(&command, json),
        GrantsCommand::Lint(command) => lint::run(&command, json),
    }
}

/// Reads the grants in a file.
fn read_grants(path: &Path) -> Result<Grants, Failure> {
    let text = read(path)?;
    Grants::parse(&text).map_err(|e| Failure::new(Exit::Usage, format!("{}: {e}", show::path(path))))
}

fn read(path: &Path) -> Result<String, Failure> {
    files::read_text(path, MAX_FILE).map_err(|e| Failure::from_error(Exit::Storage, &e))
}

/// Reads the packs in directories.
fn read_packs(directories: &[PathBuf]) -> Result<Vec<CheckedPack>, Failure> {
    let read = |directory: &PathBuf| {
        let report = pack::lint(directory).map_err(|e| Failure::from_error(Exit::Storage, &e))?;
        report.checked.ok_or_else(|| {
            let problem = format!("the pack in {} has errors", show::path(directory));
            Failure::new(Exit::Usage, problem).hint(format!("`bolt pack lint {}` shows them", show::path(directory)))
        })
    };
    directories.iter().map(read).collect()
}
