//! The action's process: made, put into its cgroup, stripped of everything that it should not have, and executed.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Pid, pipe2};

use super::{Job, Program, result};
use crate::cgroup::Doors;
use crate::sys;

/// The kernel's buffer between action and shim, in bytes: fewer switches between them when much is written.
const PIPE: i32 = 256 << 10;

/// The running action and our ends of its pipes, all of them non-blocking.
pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) failure: Failure,
}

/// A pipe on which the child says why it could not be executed; closed without a word when it was.
pub(super) struct Failure(OwnedFd);

/// What a child does before it is the action. Its number is what it reports when that fails.
#[derive(Debug, Clone, Copy)]
enum Step {
    Session,
    Cgroup,
    Limits,
    Pipes,
    Directory,
    Account,
    Privileges,
    Execute,
}

impl Step {
    const ALL: [Step; 8] = [
        Step::Session,
        Step::Cgroup,
        Step::Limits,
        Step::Pipes,
        Step::Directory,
        Step::Account,
        Step::Privileges,
        Step::Execute,
    ];
}

/// Forks the action; the error says in words why there is none.
pub(super) fn spawn(job: &Job<'_>) -> Result<Child, String> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("no pipe can be made: {e}"));
    let ((their_in, stdin), (stdout, their_out)) = (pipe()?, pipe()?);
    let ((stderr, their_err), (failure, their_failure)) = (pipe()?, pipe()?);
    for end in [&stdin, &stdout, &stderr, &failure] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| format!("a pipe cannot be set up: {e}"))?;
    }
    for end in [&stdout, &stderr] {
        // Refused where the user has too many large pipes already.
        let _ = fcntl(end, FcntlArg::F_SETPIPE_SZ(PIPE));
    }
    let mut doors = job.group.doors().map_err(|e| format!("its cgroup cannot be opened: {e}"))?;
    let forked = doors.fork();
    match forked {
        Ok(Some(pid)) => Ok(Child { pid, stdin, stdout, stderr, failure: Failure(failure) }),
        Ok(None) => {
            let plan = Plan { job, doors, pipes: [&their_in, &their_out, &their_err] };
            let (step, e) = plan.become_action();
            let mut message = [step as u8, 0, 0, 0, 0];
            message[1..].copy_from_slice(&(e as i32).to_le_bytes());
            let _ = File::from(their_failure).write_all(&message);
            sys::exit_now(127)
        }
        Err(e) => Err(format!("no process can be made: {e}")),
    }
}

struct Plan<'a> {
    job: &'a Job<'a>,
    doors: Doors,
    pipes: [&'a OwnedFd; 3],
}

impl Plan<'_> {
    /// Returns only when something failed.
    fn become_action(mut self) -> (Step, Errno) {
        let program = &self.job.program;
        let result = match self.prepare() {
            Ok(result) => result,
            Err(failed) => return failed,
        };
        let mut environment: Vec<&CStr> = program.environment.iter().map(CString::as_c_str).collect();
        let variable = result::variable(&result);
        environment.push(&variable);
        match unistd::execve(&program.path, &program.arguments, &environment) {
            Ok(never) => match never {},
            Err(e) => (Step::Execute, e),
        }
    }

    /// Everything up to the `exec`; gives the descriptor of the result file.
    fn prepare(&mut self) -> Result<OwnedFd, (Step, Errno)> {
        let at = |step: Step| move |e: Errno| (step, e);
        // While the limit on descriptors is still ours.
        let result = result::give(&self.job.result).map_err(at(Step::Pipes))?;
        unistd::setsid().map_err(at(Step::Session))?;
        self.doors.join().map_err(|e| (Step::Cgroup, errno(&e)))?;
        // The kernel should take an action before it takes the service that the host is there for.
        let _ = fs::write("/proc/self/oom_score_adj", "500");
        limit_files(self.job.action.limits.open_files).map_err(at(Step::Limits))?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(at(Step::Limits))?;
        umask(Mode::from_bits_truncate(0o077));
        let program = &self.job.program;
        let [stdin, stdout, stderr] = self.pipes;
        unistd::dup2_stdin(stdin).map_err(at(Step::Pipes))?;
        unistd::dup2_stdout(stdout).map_err(at(Step::Pipes))?;
        unistd::dup2_stderr(stderr).map_err(at(Step::Pipes))?;
        unistd::fchdir(&program.directory).map_err(at(Step::Directory))?;
        if program.change_account {
            change_account(program).map_err(at(Step::Account))?;
        }
        if !self.job.action.new_privileges {
            nix::sys::prctl::set_no_new_privs().map_err(at(Step::Privileges))?;
        }
        sys::close_rest_on_exec().map_err(at(Step::Privileges))?;
        sys::keep_on_exec(result.as_fd()).map_err(at(Step::Pipes))?;
        sys::default_signals();
        SigSet::empty().thread_set_mask().map_err(at(Step::Privileges))?;
        Ok(result)
    }
}

fn change_account(program: &Program) -> nix::Result<()> {
    let (uid, gid) = (program.account.uid, program.account.gid);
    unistd::setgroups(&[])?;
    unistd::setresgid(gid, gid, gid)?;
    unistd::setresuid(uid, uid, uid)
}

/// Open files: what the action says, or what this process may have at most, when that is less.
fn limit_files(limit: u32) -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = u64::from(limit);
    if setrlimit(Resource::RLIMIT_NOFILE, limit, limit).is_ok() {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, most.min(limit), most.min(limit))
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO))
}

impl Failure {
    /// Why the program was not executed, when it was not. To be asked once the child has ended.
    pub(super) fn reason(self, program: &Program) -> Option<String> {
        let mut message = [0; 5];
        File::from(self.0).read_exact(&mut message).ok()?;
        let step = *Step::ALL.get(usize::from(message[0]))?;
        let [_, code @ ..] = message;
        Some(explain(step, Errno::from_raw(i32::from_le_bytes(code)), &program.path, &program.account.name))
    }
}

/// The program that the first line of a script names.
fn interpreter(path: &str) -> Option<String> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    let named = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or_default();
    (!named.is_empty()).then(|| named.to_owned())
}

fn explain(step: Step, e: Errno, path: &CString, account: &str) -> String {
    let path = path.to_string_lossy();
    match (step, e) {
        (Step::Execute, Errno::ENOENT) => match interpreter(&path) {
            Some(named) => {
                let crlf = if named.ends_with('\r') { "; save the file with LF line ends" } else { "" };
                format!("{path}: its first line names the interpreter {named:?}, which is not on this host{crlf}")
            }
            None => format!("{path}: it, or what it is run by, is not on this host"),
        },
        (Step::Execute, Errno::ENOEXEC) => {
            format!("{path}: is neither a program nor a script; its first line must be like #!/bin/sh")
        }
        (Step::Execute, Errno::EACCES) => {
            format!("{path}: {account} may not execute it; check the modes of it, its directories and its interpreter")
        }
        (Step::Execute, Errno::E2BIG) => format!("{path}: arguments and environment are too long"),
        (Step::Execute, e) => format!("{path}: cannot be executed: {e}"),
        (Step::Cgroup, e) => format!("it could not join its cgroup: {e}"),
        (Step::Account, e) => format!("it could not become {account}: {e}"),
        (step, e) => format!("it could not be set up ({step:?}): {e}"),
    }
}
