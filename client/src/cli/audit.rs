//! `bolt audit`: the audit log of an instance, on its files, without the agent.

mod show;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::{Exit, Failure};
use crate::audit::{self, AuditError, ChainFiles};

/// Read the audit log of this host.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Verify the chain of hashes: that no entry was changed, removed, added or moved.
    Verify(verify::VerifyCommand),
    /// List entries: who did, or was refused, what and when.
    Show(show::ShowCommand),
}

/// The files.
#[derive(Debug, Args)]
struct LogArgs {
    /// The directory of the audit log, or one of its files.
    #[arg(value_name = "DIR|FILE", default_value = "/var/lib/bolt/audit")]
    path: PathBuf,
}

impl LogArgs {
    fn find(&self) -> Result<Vec<ChainFiles>, Failure> {
        audit::find(&self.path).map_err(|e| failure(&e))
    }
}

/// Runs `bolt audit`.
pub(super) fn run(command: AuditCommand, json: bool) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify(command) => verify::run(&command, json),
        AuditCommand::Show(command) => show::run(&command, json),
    }
}

fn failure(error: &AuditError) -> Failure {
    let failure = Failure::from_error(Exit::Storage, error);
    match error {
        AuditError::Read(_, source) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            failure.hint("the audit log is read by root")
        }
        _ => failure,
    }
}
