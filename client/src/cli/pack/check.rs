//! `bolt pack check`: compares the store of an instance with what was activated in it.

use std::path::PathBuf;

use clap::Args;
use packs_schema::agent::config::Paths;
use packs_schema::base::name::PackName;

use super::failure;
use crate::cli::failure::{Exit, Failure};
use crate::pack::check::{self, SIGNED};
use crate::show::{self, counted, visible};
use crate::{errln, outln};

/// On an instance: compare the files of its packs with their manifests. Exit code 1 when anything differs.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  sudo bolt pack check cassandra")]
pub struct CheckCommand {
    /// Only this pack.
    pack: Option<PackName>,
    /// The store of activated packs.
    #[arg(long, value_name = "DIR", default_value_os_t = Paths::default().packs)]
    packs: PathBuf,
}

/// Runs `bolt pack check`.
pub(super) fn run(command: &CheckCommand, json: bool) -> Result<Exit, Failure> {
    let report = check::check(&command.packs, command.pack.as_ref()).map_err(|e| failure(&e))?;
    if json {
        outln!("{}", show::json(&report));
    } else {
        for problem in &report.problems {
            outln!("{}: {}", show::path(&problem.file), visible(&problem.problem));
        }
        let files = report.versions.iter().map(|version| version.files).sum();
        let (versions, files) = (counted(report.versions.len(), "version"), counted(files, "file"));
        errln!("{}: {versions}, {files}, {}", show::path(&command.packs), counted(report.problems.len(), "problem"));
        for version in report.versions.iter().filter(|version| version.dev) {
            errln!("{} {} was pushed and is not signed", version.pack, version.directory);
        }
        if !report.held_against_signed {
            errln!(
                "not compared with what the repository signed: {} is missing, or must be read as root or as the sync's account",
                show::path(&command.packs.join(SIGNED))
            );
        }
    }
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Failed })
}
