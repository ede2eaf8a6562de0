//! The interpreter of an action that runs in its pack's virtual environment. It is checked like an entry point: every directory
//! of its path, and the program that the symbolic link `bin/python` refers to.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::libc;
use nix::sys::stat::{FileStat, fstat};
use packs_schema::agent::launch::Refusal;
use packs_schema::agent::store::{META, VENV, VENVS, VenvLink};
use packs_schema::pack::action::{Action, Runner};

use super::store_file::{read_json, trusted};
use crate::dir::{Dir, WRITABLE_BY_OTHERS, is_kind};
use crate::host::Host;
use crate::refusal::{Refused, refuse};

const MAX_LINK: u64 = 4 << 10;

/// A virtual environment whose files were checked.
pub(super) struct Venv {
    /// Directory of the environment.
    pub(super) home: PathBuf,
    /// Symbolic link to the interpreter, which finds its environment by this path.
    pub(super) python: PathBuf,
}

/// Returns the environment that the version in `directory` refers to; `None` when the action runs by its shebang line.
pub(super) fn find(host: &Host, action: &Action, packs: &Dir, directory: &Dir) -> Result<Option<Venv>, Refused> {
    let failed = |e: Errno| Refused {
        code: Refusal::StoreUntrusted,
        message: format!("the virtual environment of {}: {e}; the next poll builds it again", action.reference()),
    };
    let meta = directory.dir(META).map_err(failed)?;
    if action.runner_type != Runner::PythonScript || !meta.has(VENV).map_err(failed)? {
        return Ok(None);
    }
    let link: VenvLink = read_json(host, &meta, VENV, MAX_LINK, Refusal::StoreUntrusted)?;
    let venvs = trusted(host, packs.dir(VENVS).map_err(failed)?)?;
    let home = trusted(host, venvs.dir(link.venv.as_str()).map_err(failed)?)?;
    // Written last: without it the environment is incomplete.
    if !home.dir(META).and_then(|meta| meta.has(VENV)).map_err(failed)? {
        return Err(failed(Errno::ENOENT));
    }
    let bin = trusted(host, home.dir("bin").map_err(failed)?)?;
    let python = bin.path().join("python");
    let target = readlinkat(&bin, "python").or_else(|e| {
        refuse(Refusal::StoreUntrusted, format!("{} is not a symbolic link as made by the sync: {e}", python.display()))
    })?;
    check_interpreter(host, Path::new(&target))?;
    Ok(Some(Venv { home: home.path().to_owned(), python }))
}

/// Checks that the program and every directory of its path belong to root and that none of them is a symbolic link.
fn check_interpreter(host: &Host, path: &Path) -> Result<(), Refused> {
    let failed = |e: Errno| match e {
        Errno::ENOENT => Refused {
            code: Refusal::EntryPointMissing,
            message: format!(
                "the interpreter {} no longer exists; the next poll builds the virtual environment with another one",
                path.display()
            ),
        },
        e => Refused {
            code: Refusal::EntryPointOutside,
            message: format!(
                "the interpreter {} cannot be opened without following a symbolic link: {e}",
                path.display()
            ),
        },
    };
    let Ok(relative) = path.strip_prefix("/") else {
        let message = format!("the interpreter {} of a virtual environment must be an absolute path", path.display());
        return refuse(Refusal::EntryPointOutside, message);
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in relative.as_os_str().as_bytes().split(|byte| *byte == b'/') {
        match std::str::from_utf8(part) {
            Ok(part) if !matches!(part, "" | "." | "..") => parts.push(part),
            _ => {
                return refuse(
                    Refusal::EntryPointOutside,
                    format!(
                        "the path of the interpreter {} contains an empty component, \".\", \"..\" or invalid UTF-8",
                        path.display()
                    ),
                );
            }
        }
    }
    let name = parts.pop().unwrap_or_default();
    let mut dir = Dir::open(Path::new("/")).map_err(failed)?;
    for part in parts {
        dir = dir.dir(part).map_err(failed)?;
        check_root_owned(host, &dir.stat().map_err(failed)?, dir.path())?;
    }
    let file = dir.file(name).map_err(failed)?;
    let stat = fstat(&file).map_err(failed)?;
    if !is_kind(&stat, libc::S_IFREG) || stat.st_mode & 0o111 == 0 {
        let message = format!("the interpreter {} is not an executable file", path.display());
        return refuse(Refusal::EntryPointNotExecutable, message);
    }
    check_root_owned(host, &stat, path)
}

/// Refuses a file or directory that an account other than root (without root: the current user) can change.
fn check_root_owned(host: &Host, stat: &FileStat, path: &Path) -> Result<(), Refused> {
    if (stat.st_uid == 0 || stat.st_uid == host.me.uid.as_raw()) && stat.st_mode & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let message = format!(
        "{} belongs to an interpreter of actions: it must be owned by root and not be writable by group or others; it has \
         owner {owner}, mode {mode:o}",
        path.display()
    );
    refuse(Refusal::EntryPointWritable, message)
}
