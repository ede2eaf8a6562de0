//! Runs `bolt-<name>` for `bolt <name> …`, as git and cargo do, when `bolt` has no such command.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::{Exit, Failure};

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
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = PathBuf::from(crate::local::INSTALLED);
    find_in(name, beside.into_iter().chain(std::env::split_paths(&path)).chain([installed]))
}

fn find_in(name: &str, directories: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    // A relative entry, such as an empty one, would run a program of whatever directory this is.
    let mut programs =
        directories.filter(|directory| directory.is_absolute()).map(|dir| dir.join(format!("bolt-{name}")));
    programs
        .find(|program| program.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
}

fn is_about(error: &clap::Error, name: &OsStr) -> bool {
    matches!(error.get(ContextKind::InvalidSubcommand), Some(ContextValue::String(wrong)) if name == wrong.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_order_and_never_relative_to_the_working_directory() {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (temp.path().join("one"), temp.path().join("two"));
        for directory in [&one, &two] {
            std::fs::create_dir(directory).unwrap();
            std::fs::write(directory.join("bolt-studio"), "#!/bin/sh\n").unwrap();
        }
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(&two.join("bolt-studio"), 0o755);
        mode(&one.join("bolt-studio"), 0o644);
        let found = |directories: &[&Path]| find_in("studio", directories.iter().map(|path| path.to_path_buf()));
        assert_eq!(found(&[&one, &two]), Some(two.join("bolt-studio")), "the first one cannot be run");
        mode(&one.join("bolt-studio"), 0o755);
        assert_eq!(found(&[&one, &two]), Some(one.join("bolt-studio")));
        assert_eq!(found(&[Path::new("."), Path::new("")]), None);
        for name in ["", "-x", "../x", "Studio", "a/b"] {
            assert_eq!(find(name), None, "{name:?}");
        }
    }
}
