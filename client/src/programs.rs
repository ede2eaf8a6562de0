//! Programs of Bolt, and the directories in which they are looked for.
//!
//! Every look-up goes through [`find_in`]: the first executable file of the name, in the order of the directories, and never
//! relative to the working directory.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Directory in which the package `bolt-agent` installs its programs.
const INSTALLED: &str = "/usr/lib/bolt";

/// Directories of the programs that this one works with: its own, the one above it (where cargo puts tests), and that of the
/// package.
pub(crate) fn directories() -> io::Result<Vec<PathBuf>> {
    let current = std::env::current_exe()?;
    let around = current.ancestors().skip(1).take(2).map(Path::to_owned);
    Ok(around.chain([PathBuf::from(INSTALLED)]).collect())
}

/// Directories of programs that users add: that of this program, the search path, and that of the package.
pub(crate) fn directories_of_commands() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside.into_iter().chain(std::env::split_paths(&path)).chain([PathBuf::from(INSTALLED)]).collect()
}

/// Finds an executable file of this name in absolute directories; the first one counts.
pub(crate) fn find_in(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    // A relative entry, such as an empty one, would run a program of whatever directory this is.
    let mut programs = directories.iter().filter(|directory| directory.is_absolute()).map(|dir| dir.join(name));
    programs
        .find(|program| program.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
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
        let both = [one.clone(), two.clone()];
        assert_eq!(find_in("bolt-studio", &both), Some(two.join("bolt-studio")), "the first one cannot be run");
        mode(&one.join("bolt-studio"), 0o755);
        assert_eq!(find_in("bolt-studio", &both), Some(one.join("bolt-studio")));
        assert_eq!(find_in("bolt-studio", &[PathBuf::from("."), PathBuf::new()]), None);
    }
}
