//! `bolt-agent` and `bolt-sync`, beside this program: opened and judged by root, executed by descriptor as an account that
//! need not be able to reach them by path.

use std::ffi::{CStr, CString, NulError};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{self, Pid, geteuid};
use packs_schema::agent::launch;

use super::handed_on;
use crate::account::Account;
use crate::cgroup::Group;
use crate::dir::{LAX, is_kind};
use crate::start::environment::PATH;
use crate::sys;

/// The number of the socket to the launcher, in the api.
const SOCKET: i32 = 3;
/// The numbers of the listening sockets in the api, and the variables that name them to it. An api that knows nothing of
/// them binds for itself.
const LISTENERS: [(i32, &str); 2] = [(4, launch::LISTEN_FD), (5, launch::HEALTH_LISTEN_FD)];
/// Descriptors that a child needs until its `exec` are kept above those that it is given.
const ABOVE: i32 = 10;

/// Where they are, and with which configuration they are run.
pub(crate) struct Binary {
    own: PathBuf,
    config: CString,
}

/// Why it is not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BinaryError {
    #[error("the directory of this program cannot be found")]
    Own(#[source] io::Error),
    #[error("the path of the configuration holds a NUL character")]
    Config(#[source] NulError),
    #[error("{0:?} cannot be opened; install it beside bolt-launch")]
    Open(PathBuf, #[source] nix::Error),
    #[error(
        "{path:?} must be a file of root's or of the current user and not writable by group or others; it has owner {owner}, mode {mode:o}"
    )]
    Untrusted { path: PathBuf, owner: u32, mode: u32 },
    #[error("no process for {0:?} can be made")]
    Fork(PathBuf, #[source] nix::Error),
}

/// How it is run.
pub(super) struct Role<'a> {
    /// `api` or `sync`.
    pub(super) name: &'static str,
    /// A further argument.
    pub(super) option: Option<&'static CStr>,
    pub(super) account: &'a Account,
    pub(super) change_account: bool,
    pub(super) nice: i32,
    pub(super) umask: u32,
    pub(super) socket: Option<BorrowedFd<'a>>,
    /// The listening sockets of the interface and of the plain health listener.
    pub(super) listeners: [Option<BorrowedFd<'a>>; 2],
    /// The cgroup that it is put into; one that is nowhere leaves it in ours.
    pub(super) group: &'a Group,
}

impl Binary {
    /// Those beside this program; they must be ones that may be run.
    pub(super) fn beside_us(config: &Path) -> Result<Binary, BinaryError> {
        let own = std::fs::read_link("/proc/self/exe").map_err(BinaryError::Own)?;
        let config = std::path::absolute(config).map_err(BinaryError::Own)?;
        let config = CString::new(config.as_os_str().as_bytes()).map_err(BinaryError::Config)?;
        let binary = Binary { own, config };
        for role in ["api", "sync"] {
            open(&binary.path(role))?;
        }
        Ok(binary)
    }

    fn path(&self, role: &str) -> PathBuf {
        self.own.with_file_name(if role == "sync" { "bolt-sync" } else { "bolt-agent" })
    }

    /// Starts it.
    pub(super) fn spawn(&self, role: &Role<'_>) -> Result<Pid, BinaryError> {
        let path = self.path(role.name);
        let binary = open(&path)?;
        let failed = |e| BinaryError::Fork(path.clone(), e);
        let mut given: Vec<(OwnedFd, i32)> = Vec::new();
        if let Some(fd) = role.socket {
            given.push((above(fd).map_err(failed)?, SOCKET));
        }
        for (fd, (number, _)) in role.listeners.iter().zip(LISTENERS) {
            if let Some(fd) = fd {
                given.push((above(fd).map_err(failed)?, number));
            }
        }
        let text = |text: String| CString::new(text).unwrap_or_default();
        let mut arguments = match role.name {
            "sync" => vec![c"bolt-sync".to_owned()],
            name => vec![c"bolt-agent".to_owned(), text(name.to_owned())],
        };
        arguments.extend([c"--config".to_owned(), self.config.clone()]);
        arguments.extend(role.option.map(CStr::to_owned));
        let mut environment = vec![
            text(format!("PATH={PATH}")),
            text(format!("HOME={}", role.account.home)),
            text(format!("USER={}", role.account.name)),
            c"LANG=C.UTF-8".to_owned(),
        ];
        environment.extend(handed_on::to(role.name).into_iter().map(text));
        let listeners = role.listeners.iter().zip(LISTENERS).filter(|(fd, _)| fd.is_some());
        environment.extend(listeners.map(|(_, (number, variable))| text(format!("{variable}={number}"))));
        let null = File::open("/dev/null").map_err(|e| failed(nix::Error::from_raw(e.raw_os_error().unwrap_or(0))))?;
        let unknown = |e: io::Error| failed(nix::Error::from_raw(e.raw_os_error().unwrap_or(0)));
        let mut doors = role.group.doors().map_err(unknown)?;
        match doors.fork().map_err(failed)? {
            Some(pid) => Ok(pid),
            None => {
                if doors.join().is_ok() && prepare(role, &null, &given).is_ok() {
                    let _ = unistd::fexecve(&binary, &arguments, &environment);
                }
                sys::exit_now(127)
            }
        }
    }
}

/// Opened anew each time: an upgrade puts another file there.
fn open(path: &Path) -> Result<OwnedFd, BinaryError> {
    let failed = |e| BinaryError::Open(path.to_owned(), e);
    let fd = nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    let stat = fstat(&fd).map_err(failed)?;
    let owned = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    if !owned || stat.st_mode & LAX != 0 || !is_kind(&stat, libc::S_IFREG) {
        let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
        return Err(BinaryError::Untrusted { path: path.to_owned(), owner, mode });
    }
    above(&fd).map_err(failed)
}

fn above(fd: impl AsFd) -> nix::Result<OwnedFd> {
    let mut copy = fd.as_fd().try_clone_to_owned().map_err(|_| nix::Error::EMFILE)?;
    // try_clone_to_owned takes the lowest number above standard error: climb until it is out of the way.
    let mut below = Vec::new();
    while std::os::fd::AsRawFd::as_raw_fd(&copy) < ABOVE {
        let next = copy.try_clone().map_err(|_| nix::Error::EMFILE)?;
        below.push(std::mem::replace(&mut copy, next));
    }
    fcntl(&copy, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(copy)
}

/// In the child.
fn prepare(role: &Role<'_>, null: &File, given: &[(OwnedFd, i32)]) -> nix::Result<()> {
    // A session of its own: Ctrl-C in a terminal reaches the launcher, which stops it in order.
    unistd::setsid()?;
    unistd::dup2_stdin(null)?;
    unistd::chdir("/")?;
    umask(Mode::from_bits_truncate(role.umask));
    sys::renice(role.nice);
    if role.change_account {
        let (uid, gid) = (role.account.uid, role.account.gid);
        unistd::setgroups(&[])?;
        unistd::setresgid(gid, gid, gid)?;
        unistd::setresuid(uid, uid, uid)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    sys::close_rest_on_exec()?;
    for (fd, number) in given {
        sys::copy_to(fd.as_fd(), *number)?;
    }
    sys::default_signals();
    SigSet::empty().thread_set_mask()
}
