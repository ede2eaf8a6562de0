//! The programs `bolt-agent` and `bolt-sync`, installed beside `bolt-launch`. The launcher opens them and checks their owner and
//! mode, then executes them by descriptor, so that their accounts need no access to the path.

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

use super::{inherited_env, sandbox};
use crate::account::Account;
use crate::cgroup::Group;
use crate::dir::{WRITABLE_BY_OTHERS, is_kind};
use crate::search_path::SEARCH_PATH;
use crate::sys;

/// Descriptor of the socket to the launcher, in the api.
const SOCKET: i32 = 3;
/// Descriptors of the listening sockets and of the socket for signs of life in the api, and the variables that contain their numbers.
/// An api of an earlier release ignores those that it does not know.
const PASSED: [(i32, &str); 4] =
    [(4, launch::LISTEN_FD), (5, launch::HEALTH_LISTEN_FD), (6, launch::LOCAL_LISTEN_FD), (7, launch::ALIVE_FD)];
/// Lowest number of descriptors that a child needs only until `exec`: above those that it inherits.
const MIN_FD: i32 = 10;

/// Paths of the programs, and the configuration that they are started with.
pub(crate) struct AgentPrograms {
    own: PathBuf,
    config: CString,
}

/// Error returned when a program cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("cannot determine the directory of bolt-launch")]
    Own(#[source] io::Error),
    #[error("the path of the configuration contains a NUL character")]
    Config(#[source] NulError),
    #[error("cannot open {0:?}; install it beside bolt-launch")]
    Open(PathBuf, #[source] nix::Error),
    #[error(
        "{path:?} must be a regular file that belongs to root or the current user and is not writable by group or others; it has owner {owner}, mode {mode:o}"
    )]
    Untrusted { path: PathBuf, owner: u32, mode: u32 },
    #[error("cannot create a process for {0:?}")]
    Fork(PathBuf, #[source] nix::Error),
}

/// The role in which a program is started.
pub(super) struct Role<'a> {
    /// `api` or `sync`.
    pub(super) name: &'static str,
    /// Additional argument.
    pub(super) option: Option<&'static CStr>,
    pub(super) account: &'a Account,
    pub(super) change_account: bool,
    pub(super) nice: i32,
    pub(super) umask: u32,
    pub(super) socket: Option<BorrowedFd<'a>>,
    /// Listening sockets of the REST interface, of the plain-text health listener, and of local access; the socket for signs of
    /// life.
    pub(super) passed: [Option<BorrowedFd<'a>>; 4],
    /// Cgroup of the process; without directories, it stays in the launcher's group.
    pub(super) group: &'a Group,
}

impl AgentPrograms {
    /// Locates the programs beside this one and checks them.
    pub(super) fn locate(config: &Path) -> Result<AgentPrograms, ProgramError> {
        let own = std::fs::read_link("/proc/self/exe").map_err(ProgramError::Own)?;
        let config = std::path::absolute(config).map_err(ProgramError::Own)?;
        let config = CString::new(config.as_os_str().as_bytes()).map_err(ProgramError::Config)?;
        let programs = AgentPrograms { own, config };
        for role in ["api", "sync"] {
            open(&programs.path(role))?;
        }
        Ok(programs)
    }

    fn path(&self, role: &str) -> PathBuf {
        self.own.with_file_name(if role == "sync" { "bolt-sync" } else { "bolt-agent" })
    }

    /// Starts a program in a role.
    pub(super) fn spawn(&self, role: &Role<'_>) -> Result<Pid, ProgramError> {
        let path = self.path(role.name);
        let program = open(&path)?;
        let failed = |e| ProgramError::Fork(path.clone(), e);
        let mut inherited: Vec<(OwnedFd, i32)> = Vec::new();
        if let Some(fd) = role.socket {
            inherited.push((duplicate_above(fd).map_err(failed)?, SOCKET));
        }
        for (fd, (number, _)) in role.passed.iter().zip(PASSED) {
            if let Some(fd) = fd {
                inherited.push((duplicate_above(fd).map_err(failed)?, number));
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
            text(format!("PATH={SEARCH_PATH}")),
            text(format!("HOME={}", role.account.home)),
            text(format!("USER={}", role.account.name)),
            c"LANG=C.UTF-8".to_owned(),
        ];
        if role.name == "api" {
            let (variable, value) = launch::HEAP;
            environment.push(text(format!("{variable}={value}")));
        }
        environment.extend(inherited_env::for_role(role.name).into_iter().map(text));
        let passed = role.passed.iter().zip(PASSED).filter(|(fd, _)| fd.is_some());
        environment.extend(passed.map(|(_, (number, variable))| text(format!("{variable}={number}"))));
        let null = File::open("/dev/null").map_err(|e| failed(nix::Error::from_raw(e.raw_os_error().unwrap_or(0))))?;
        let failed_io = |e: io::Error| failed(nix::Error::from_raw(e.raw_os_error().unwrap_or(0)));
        let mut cgroup = role.group.open().map_err(failed_io)?;
        match cgroup.fork().map_err(failed)? {
            Some(pid) => Ok(pid),
            None => {
                if cgroup.join().is_ok() && prepare(role, &null, &inherited).is_ok() {
                    let _ = unistd::fexecve(&program, &arguments, &environment);
                }
                sys::exit_now(127)
            }
        }
    }
}

/// Opens and checks a program. Done for each start, because an upgrade replaces the file.
fn open(path: &Path) -> Result<OwnedFd, ProgramError> {
    let failed = |e| ProgramError::Open(path.to_owned(), e);
    let fd = nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    let stat = fstat(&fd).map_err(failed)?;
    let owned = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    if !owned || stat.st_mode & WRITABLE_BY_OTHERS != 0 || !is_kind(&stat, libc::S_IFREG) {
        let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
        return Err(ProgramError::Untrusted { path: path.to_owned(), owner, mode });
    }
    duplicate_above(&fd).map_err(failed)
}

/// Duplicates a descriptor to a number of at least [`MIN_FD`], closed on `exec`.
fn duplicate_above(fd: impl AsFd) -> nix::Result<OwnedFd> {
    let mut copy = fd.as_fd().try_clone_to_owned().map_err(|_| nix::Error::EMFILE)?;
    // try_clone_to_owned uses the lowest free number above standard error: duplicate until the number is high enough.
    let mut below = Vec::new();
    while std::os::fd::AsRawFd::as_raw_fd(&copy) < MIN_FD {
        let next = copy.try_clone().map_err(|_| nix::Error::EMFILE)?;
        below.push(std::mem::replace(&mut copy, next));
    }
    fcntl(&copy, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(copy)
}

/// Prepares the child before `exec`.
fn prepare(role: &Role<'_>, null: &File, inherited: &[(OwnedFd, i32)]) -> nix::Result<()> {
    // A session of its own: Ctrl-C in a terminal reaches only the launcher, which stops its children in order.
    unistd::setsid()?;
    unistd::dup2_stdin(null)?;
    unistd::chdir("/")?;
    umask(Mode::from_bits_truncate(role.umask));
    sys::renice(role.nice);
    if role.change_account {
        sandbox::drop_bounding_set();
        let (uid, gid) = (role.account.uid, role.account.gid);
        unistd::setgroups(&[])?;
        unistd::setresgid(gid, gid, gid)?;
        unistd::setresuid(uid, uid, uid)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    sys::close_rest_on_exec()?;
    for (fd, number) in inherited {
        sys::copy_to(fd.as_fd(), *number)?;
    }
    sys::default_signals(&sys::ignored_signals());
    SigSet::empty().thread_set_mask()?;
    sandbox::install()
}
