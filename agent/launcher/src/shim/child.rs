//! The action's process: forked, moved into its cgroup, deprived of privileges and descriptors, and executed.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Pid, pipe2};

use packs_schema::base::quantity::format_duration;

use super::job::{Plan, Program};
use super::result;
use crate::cgroup::CgroupFds;
use crate::sys;

/// Size of the output pipes, in bytes: a large pipe saves context switches when an action writes much.
const PIPE_SIZE: i32 = 256 << 10;

/// Maximum time to execute a program, while the shim is suspended: opening a file may block, on a network file system or by a
/// scanner that must allow it.
const MAX_EXECUTE: Duration = Duration::from_secs(30);
/// Maximum time to wait for the start. The launcher discards what is not started much earlier.
const MAX_WAITING: Duration = Duration::from_secs(30);
/// Maximum time between the moment at which a killed child wakes the shim and its end.
const MAX_DYING: Duration = Duration::from_secs(1);

/// A running action and the shim's ends of its pipes, all of them non-blocking.
pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) setup_error: SetupErrorPipe,
    /// True for a process of a prepared execution that is known to have ended before it was released.
    is_unreleased: bool,
}

/// A process that has ended without being released to execute its program.
pub(super) struct Cancelled;

impl Child {
    /// Returns the child, unless it was made for a prepared execution and has not been released; it is then reaped. Waits until it
    /// has executed its program or has ended, which is so already where it shared this process's memory.
    pub(super) fn or_cancelled(mut self) -> Result<Child, Cancelled> {
        self.setup_error.wait();
        self.setup_error.receive();
        let is_cancelled = match self.setup_error.report {
            Some((step, _)) => matches!(step, Step::Release),
            None => self.is_unreleased,
        };
        if is_cancelled {
            sys::wait_for(self.pid);
            return Err(Cancelled);
        }
        Ok(self)
    }
}

/// A pipe on which the child reports why it could not execute the program; closed without data on success.
pub(super) struct SetupErrorPipe {
    pipe: OwnedFd,
    /// The report, once it was read.
    report: Option<(Step, Errno)>,
}

/// The parts of a job from which its process is made.
pub(super) struct Blueprint<'a> {
    pub(super) plan: &'a Plan,
    pub(super) result: &'a File,
    pub(super) pack: &'a OwnedFd,
    pub(super) has_own_account: bool,
    /// Signals that this process ignores, and the action must not.
    pub(super) ignored_signals: &'a [i32],
    /// Pipe on which the process waits for a byte before it executes its program; it ends when the pipe is closed.
    pub(super) go: Option<&'a OwnedFd>,
}

/// Steps between fork and exec. The child reports the number of a step that fails.
#[derive(Debug, Clone, Copy)]
enum Step {
    Session,
    Cgroup,
    Limits,
    Pipes,
    Directory,
    Account,
    Privileges,
    Release,
    Execute,
}

impl Step {
    const ALL: [Step; 9] = [
        Step::Session,
        Step::Cgroup,
        Step::Limits,
        Step::Pipes,
        Step::Directory,
        Step::Account,
        Step::Privileges,
        Step::Release,
        Step::Execute,
    ];
}

/// Starts the action's process. The error is the reason for the exit record.
///
/// Until it executes the program, the process may share the memory of the shim, which is suspended meanwhile: the child must
/// allocate nothing, or each execution would leave memory behind in the shim.
pub(super) fn spawn(blueprint: &Blueprint<'_>, stack: &mut sys::Stack) -> Result<Child, String> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("cannot create a pipe: {e}"));
    let ((their_in, stdin), (stdout, their_out)) = (pipe()?, pipe()?);
    let ((stderr, their_err), (setup_error, their_setup_error)) = (pipe()?, pipe()?);
    for end in [&stdin, &stdout, &stderr, &setup_error] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|e| format!("cannot make a pipe non-blocking: {e}"))?;
    }
    for end in [&stdout, &stderr] {
        // May fail: the number of large pipes per user is limited.
        let _ = fcntl(end, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
    }
    let plan = blueprint.plan;
    let mut cgroup = plan.group.open().map_err(|e| format!("cannot open its cgroup: {e}"))?;
    let program = &plan.program;
    let mut image = sys::Image::new(&program.path, &program.arguments, &program.environment);
    let pipes = [&their_in, &their_out, &their_err];
    let stack = may_share_memory(program, blueprint.has_own_account).then_some(stack);
    let limit = stack.as_ref().map(|_| plan.timeout.min(MAX_EXECUTE));
    let (mut begun, mut released) = (Instant::now(), false);
    let shim = unistd::getpid();
    let spawned = cgroup.spawn(stack, |cgroup| {
        let (begun, released) = (&mut begun, &mut released);
        let report = &their_setup_error;
        let mut setup = ChildSetup { blueprint, cgroup, pipes, report, shim, limit, begun, released };
        let (step, e) = match setup.prepare() {
            Ok(result) => (Step::Execute, image.execute(result::variable(&result))),
            Err(failed) => failed,
        };
        let mut message = [step as u8, 0, 0, 0, 0];
        message[1..].copy_from_slice(&(e as i32).to_le_bytes());
        let _ = unistd::write(&their_setup_error, &message);
    });
    let pid = spawned.map_err(|e| format!("cannot create a process: {e}"))?;
    if limit.is_some_and(|limit| begun.elapsed() >= limit) && sys::is_ended_by(pid, Signal::SIGKILL, MAX_DYING) {
        let path = program.path.to_string_lossy();
        let within = format_duration(limit.unwrap_or_default());
        return Err(format!(
            "{path}: could not be executed within {within}: its file system, or a scanner of files, does not answer"
        ));
    }
    let setup_error = SetupErrorPipe { pipe: setup_error, report: None };
    // A forked child, which has no limit here, has changed a copy of the flag.
    let is_unreleased = blueprint.go.is_some() && limit.is_some() && !released;
    Ok(Child { pid, stdin, stdout, stderr, setup_error, is_unreleased })
}

/// Returns true if no process of another execution has the account that the child takes on. One that has it could stop the child by
/// a signal, and the suspended shim with it, or trace the child (with `fs.suid_dumpable = 1`), and change the memory of the shim.
pub(super) fn may_share_memory(program: &Program, has_own_account: bool) -> bool {
    !program.change_account || has_own_account || program.account.uid.is_root()
}

struct ChildSetup<'a> {
    blueprint: &'a Blueprint<'a>,
    cgroup: &'a mut CgroupFds,
    pipes: [&'a OwnedFd; 3],
    /// Pipe on which an error is reported.
    report: &'a OwnedFd,
    /// The parent.
    shim: Pid,
    /// Time after which a child that has not executed the program is killed; `None`: the shim sees to that.
    limit: Option<Duration>,
    /// Beginning of that time. A child that shares the memory of the shim changes it there.
    begun: &'a mut Instant,
    /// Becomes true when a process that waited is released, likewise.
    released: &'a mut bool,
}

impl ChildSetup<'_> {
    /// Carries out all steps before `exec`; returns the descriptor of the result file.
    fn prepare(&mut self) -> Result<OwnedFd, (Step, Errno)> {
        let at = |step: Step| move |e: Errno| (step, e);
        let &Blueprint { plan, pack, ignored_signals, go, .. } = self.blueprint;
        // Before the limit on open files is lowered.
        let result = result::duplicate(self.blueprint.result).map_err(at(Step::Pipes))?;
        unistd::setsid().map_err(at(Step::Session))?;
        let timer = match self.limit {
            Some(limit) => {
                let limit = if go.is_some() { MAX_WAITING } else { limit };
                Some(sys::kill_unless_executed(limit).map_err(at(Step::Session))?)
            }
            None => None,
        };
        self.cgroup.join().map_err(|e| (Step::Cgroup, errno(&e)))?;
        // When memory is short, the kernel should kill an action before the service that the host runs.
        let _ = fs::write("/proc/self/oom_score_adj", "500");
        limit_files(plan.rules.open_files).map_err(at(Step::Limits))?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(at(Step::Limits))?;
        umask(Mode::from_bits_truncate(0o077));
        let program = &plan.program;
        let [stdin, stdout, stderr] = self.pipes;
        unistd::dup2_stdin(stdin).map_err(at(Step::Pipes))?;
        unistd::dup2_stdout(stdout).map_err(at(Step::Pipes))?;
        unistd::dup2_stderr(stderr).map_err(at(Step::Pipes))?;
        unistd::fchdir(pack).map_err(at(Step::Directory))?;
        if program.change_account {
            change_account(program).map_err(at(Step::Account))?;
        }
        if !plan.rules.new_privileges {
            prctl::set_no_new_privs().map_err(at(Step::Privileges))?;
        }
        sys::close_rest_on_exec().map_err(at(Step::Privileges))?;
        sys::keep_on_exec(result.as_fd()).map_err(at(Step::Pipes))?;
        sys::default_signals(ignored_signals);
        SigSet::empty().thread_set_mask().map_err(at(Step::Privileges))?;
        if let Some(go) = go {
            // With a copy of the shim's socket it would take a claim for a shim that has died.
            sys::close_all_but([go.as_fd(), result.as_fd(), self.report.as_fd()]).map_err(at(Step::Release))?;
            self.wait_for_go(go).map_err(at(Step::Release))?;
            *self.released = true;
            *self.begun = Instant::now();
            if let Some((timer, limit)) = timer.zip(self.limit) {
                timer.restart(limit).map_err(at(Step::Session))?;
            }
        }
        Ok(result)
    }

    /// Waits until the launcher has started the execution; an error when it does not. Ends with the shim, without which no process would
    /// supervise the action.
    fn wait_for_go(&self, go: &OwnedFd) -> nix::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if unistd::getppid() != self.shim {
            return Err(Errno::ECANCELED);
        }
        let mut byte = [0];
        loop {
            match unistd::read(go, &mut byte) {
                Ok(1) => return prctl::set_pdeathsig(None),
                Ok(_) => return Err(Errno::ECANCELED),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn change_account(program: &Program) -> nix::Result<()> {
    let (uid, gid) = (program.account.uid, program.account.gid);
    unistd::setgroups(&[])?;
    unistd::setresgid(gid, gid, gid)?;
    unistd::setresuid(uid, uid, uid)
}

/// Limits open files to `limit`, or to the hard limit of this process when that is lower.
fn limit_files(limit: u32) -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = u64::from(limit);
    if setrlimit(Resource::RLIMIT_NOFILE, limit, limit).is_ok() {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(limit), hard.min(limit))
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO))
}

impl SetupErrorPipe {
    /// Returns the reason why the program was not executed; `None` if it was. Call it after the child has ended.
    pub(super) fn read(mut self, program: &Program) -> Option<String> {
        self.receive();
        let (step, e) = self.report?;
        Some(explain(step, e, &program.path, &program.account.name))
    }

    /// Waits for the report, or for the end of what could write it.
    fn wait(&self) {
        let limit = PollTimeout::try_from(MAX_WAITING).expect("half a minute fits");
        let mut pipes = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        while poll(&mut pipes, limit) == Err(Errno::EINTR) {}
    }

    fn receive(&mut self) {
        let mut message = [0; 5];
        // The report is written at once.
        if unistd::read(&self.pipe, &mut message) == Ok(message.len()) {
            let [step, code @ ..] = message;
            let step = Step::ALL.get(usize::from(step)).copied();
            self.report = step.map(|step| (step, Errno::from_raw(i32::from_le_bytes(code))));
        }
    }
}

/// Returns the interpreter that the shebang line of a script names.
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
                format!("{path}: the interpreter {named:?} of its first line does not exist on this host{crlf}")
            }
            None => format!("{path}: the program or its loader does not exist on this host"),
        },
        (Step::Execute, Errno::ENOEXEC) => {
            format!("{path}: is neither a program nor a script; the first line of a script must be like #!/bin/sh")
        }
        (Step::Execute, Errno::EACCES) => {
            format!(
                "{path}: account {account} is not allowed to execute it; check the modes of the file, its directories and its interpreter"
            )
        }
        (Step::Execute, Errno::E2BIG) => format!("{path}: arguments and environment are too long"),
        (Step::Execute, e) => format!("{path}: cannot be executed: {e}"),
        (Step::Cgroup, e) => format!("cannot join its cgroup: {e}"),
        (Step::Account, e) => format!("cannot change to account {account}: {e}"),
        (step, e) => format!("cannot set up the process (step {step:?}): {e}"),
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;
    use crate::account::Account;

    #[test]
    fn memory_is_shared_with_no_account_that_others_have() {
        let may_share = |uid: u32, change_account: bool, has_own_account: bool| {
            let account = Account {
                name: uid.to_string(),
                uid: Uid::from_raw(uid),
                gid: Gid::from_raw(uid),
                home: "/".to_owned(),
            };
            let (path, arguments, environment) = (CString::default(), Vec::new(), Vec::new());
            may_share_memory(&Program { path, arguments, environment, account, change_account }, has_own_account)
        };
        assert!(!may_share(33, true, false), "www-data");
        assert!(may_share(2_000_000_001, true, true), "an account of its own");
        assert!(may_share(0, true, false), "root");
        assert!(may_share(1000, false, false), "the launcher's own");
    }
}
