//! Runs `bolt-<name>` for `bolt <name> …`, as git and cargo do, when `bolt` has no such command.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::{Exit, Failure};
use crate::programs;

/// Runs the program of a command that clap does not know, in place of this process. Returns `None` when there is no such
/// program, so that the error is reported as usual.
pub(super) fn run(error: &clap::Error) -> Option<Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next()?;
    // Only as the first argument: after options it is not clear which of them are for the program.
    if error.kind() != ErrorKind::InvalidSubcommand || !is_about(error, &name) {
        return None;
    }
    let program = find(name.to_str()?)?;
    Some(replace_with(&program, arguments))
}

/// Replaces this process with a program; returns only when that fails.
pub(super) fn replace_with(program: &Path, arguments: impl IntoIterator<Item = OsString>) -> Failure {
    let error = Command::new(program).args(arguments).exec();
    Failure::new(Exit::Storage, format!("cannot run {}: {error}", crate::show::path(program)))
}

/// Finds `bolt-<name>` beside this program, on the path, or where the package of the agent installs it.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let good = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if name.is_empty() || name.starts_with('-') || name.len() > 64 || !good {
        return None;
    }
    programs::find_in(&format!("bolt-{name}"), &programs::directories_of_commands())
}

fn is_about(error: &clap::Error, name: &OsStr) -> bool {
    matches!(error.get(ContextKind::InvalidSubcommand), Some(ContextValue::String(wrong)) if name == wrong.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_looked_for() {
        for name in ["", "-x", "../x", "Studio", "a/b"] {
            assert_eq!(find(name), None, "{name:?}");
        }
    }
}
