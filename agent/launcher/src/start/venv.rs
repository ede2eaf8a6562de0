//! The interpreter of an action that runs in its pack's virtual environment, judged like an entry point: every directory on
//! the way, and the program behind the one link that an environment's `bin/python` is.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::libc;
use nix::sys::stat::{FileStat, fstat};
use packs_schema::agent::launch::Refusal;
use packs_schema::agent::store::{META, VENV, VENVS, VenvLink};
use packs_schema::pack::action::{Action, Runner};

use super::store::{json, trusted};
use super::{Refused, refuse};
use crate::dir::{Dir, LAX, is_kind};
use crate::host::Host;

const MAX_LINK: u64 = 4 << 10;

/// An environment that may be run in.
pub(super) struct Venv {
    /// Its directory.
    pub(super) home: PathBuf,
    /// The link to the interpreter: by its name the interpreter knows that it is in an environment.
    pub(super) python: PathBuf,
}

/// The environment that the version in `directory` refers to; `None` when the action runs by its first line.
pub(super) fn find(host: &Host, action: &Action, packs: &Dir, directory: &Dir) -> Result<Option<Venv>, Refused> {
    let shown = |e: Errno| Refused {
        code: Refusal::StoreUntrusted,
        message: format!("the virtual environment of {}: {e}; the next poll makes it again", action.reference()),
    };
    let meta = directory.dir(META).map_err(shown)?;
    if action.runner_type != Runner::PythonScript || !meta.has(VENV).map_err(shown)? {
        return Ok(None);
    }
    let link: VenvLink = json(host, &meta, VENV, MAX_LINK, Refusal::StoreUntrusted)?;
    let venvs = trusted(host, packs.dir(VENVS).map_err(shown)?)?;
    let home = trusted(host, venvs.dir(link.venv.as_str()).map_err(shown)?)?;
    // Written last: without it the environment is not finished.
    if !home.dir(META).and_then(|meta| meta.has(VENV)).map_err(shown)? {
        return Err(shown(Errno::ENOENT));
    }
    let bin = trusted(host, home.dir("bin").map_err(shown)?)?;
    let python = bin.path().join("python");
    let target = readlinkat(&bin, "python").or_else(|e| {
        refuse(Refusal::StoreUntrusted, format!("{} is not the link that the sync makes: {e}", python.display()))
    })?;
    interpreter(host, Path::new(&target))?;
    Ok(Some(Venv { home: home.path().to_owned(), python }))
}

/// The program itself must be root's, and so must every directory above it; none of them may be a link.
fn interpreter(host: &Host, path: &Path) -> Result<(), Refused> {
    let lost = |e: Errno| match e {
        Errno::ENOENT => Refused {
            code: Refusal::EntryPointMissing,
            message: format!(
                "the interpreter {} is gone; the next poll makes the virtual environment with another",
                path.display()
            ),
        },
        e => Refused {
            code: Refusal::EntryPointOutside,
            message: format!("the interpreter {} cannot be opened without following a link: {e}", path.display()),
        },
    };
    let Ok(below) = path.strip_prefix("/") else {
        let message = format!("the interpreter {} of a virtual environment must be an absolute path", path.display());
        return refuse(Refusal::EntryPointOutside, message);
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in below.as_os_str().as_bytes().split(|byte| *byte == b'/') {
        match std::str::from_utf8(part) {
            Ok(part) if !matches!(part, "" | "." | "..") => parts.push(part),
            _ => {
                return refuse(
                    Refusal::EntryPointOutside,
                    format!("the interpreter {} is not a plain path", path.display()),
                );
            }
        }
    }
    let name = parts.pop().unwrap_or_default();
    let mut dir = Dir::open(Path::new("/")).map_err(lost)?;
    for part in parts {
        dir = dir.dir(part).map_err(lost)?;
        roots(host, &dir.stat().map_err(lost)?, dir.path())?;
    }
    let file = dir.file(name).map_err(lost)?;
    let stat = fstat(&file).map_err(lost)?;
    if !is_kind(&stat, libc::S_IFREG) || stat.st_mode & 0o111 == 0 {
        let message = format!("the interpreter {} is not a program", path.display());
        return refuse(Refusal::EntryPointNotExecutable, message);
    }
    roots(host, &stat, path)
}

/// Refuses what is not root's, nor, without root, the current user's, or what others may change.
fn roots(host: &Host, stat: &FileStat, path: &Path) -> Result<(), Refused> {
    if (stat.st_uid == 0 || stat.st_uid == host.me.uid.as_raw()) && stat.st_mode & LAX == 0 {
        return Ok(());
    }
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let message = format!(
        "{} is of an interpreter that actions run with: it must belong to root and not be writable by group or others; it has \
         owner {owner}, mode {mode:o}",
        path.display()
    );
    refuse(Refusal::EntryPointWritable, message)
}
