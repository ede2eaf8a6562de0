//! A cgroup per execution, in whatever hierarchies this host has.
//!
//! ```text
//!  detect ──▶ Tree ──create(id, limits)──▶ Group ──▶ join (by the child, before exec)
//!                └──find(id)───────────────▶   └──▶ kill, count, figures, remove
//! ```
//!
//! An execution's group is called `bolt-<id>`, so that what a dead shim left behind can be found again without any
//! stored number. Nothing here is assumed: a limit counts as set when the kernel took it.

mod detect;
mod v1;
mod v2;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use packs_schema::action::Limits;
use packs_schema::name::ExecutionId;
use packs_schema::rest::Enforcement;

use crate::sys;
pub(crate) use detect::detect;

/// Where executions get their groups.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The parent directory in the v2 hierarchy.
    v2: Option<v2::Parent>,
    /// The parent directories in the v1 hierarchies that we use.
    v1: Vec<v1::Parent>,
}

/// The group of one execution: a directory in each hierarchy.
#[derive(Debug, Default)]
pub(crate) struct Group {
    v2: Option<PathBuf>,
    v1: Vec<(v1::Controller, PathBuf)>,
}

/// The ways into a group, open before the fork.
pub(crate) struct Doors {
    /// The directory and its `cgroup.procs`.
    v2: Option<(File, File)>,
    /// The `tasks` of each hierarchy: a process that moves its only thread through it does not wait, as it would at
    /// `cgroup.procs`, until every processor has passed a quiet moment (ten milliseconds).
    v1: Vec<File>,
}

/// What the kernel counted for a group.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// The most memory at once, in bytes.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Processes that the kernel killed at the memory limit.
    pub(crate) oom_kills: u64,
    /// Processor time in user mode and in the kernel, in microseconds.
    pub(crate) cpu_us: Option<(u64, u64)>,
}

/// A limit that was not set: which, and why.
pub(crate) type Missing = (&'static str, String);

const LIMITS: [&str; 3] = ["memory", "cpu", "pids"];

impl Tree {
    /// Makes the group of an execution with these limits; tells which could not be set.
    pub(crate) fn create(&self, name: &str, limits: &Limits) -> io::Result<(Group, Vec<Missing>)> {
        let mut group = Group::default();
        let mut missing = Vec::new();
        let made = self.fill(name, limits, &mut group, &mut missing);
        if let Err(e) = made {
            group.remove();
            return Err(e);
        }
        Ok((group, missing))
    }

    fn fill(&self, name: &str, limits: &Limits, group: &mut Group, missing: &mut Vec<Missing>) -> io::Result<()> {
        let mut set: Vec<&str> = Vec::new();
        let mut note = |limit: &'static str, result: io::Result<()>, missing: &mut Vec<Missing>| match result {
            Ok(()) => set.push(limit),
            Err(e) => missing.push((limit, e.to_string())),
        };
        if let Some(parent) = &self.v2 {
            let dir = parent.dir.join(name);
            make_dir(&dir)?;
            group.v2 = Some(dir.clone());
            for limit in &parent.limits {
                note(limit, v2::set(&dir, limit, limits), missing);
            }
        }
        for parent in &self.v1 {
            let dir = parent.dir.join(name);
            make_dir(&dir)?;
            group.v1.push((parent.controller, dir.clone()));
            if let Some(limit) = parent.controller.limit() {
                note(limit, v1::set(&dir, parent.controller, limits), missing);
            }
        }
        for limit in LIMITS {
            if !set.contains(&limit) && !missing.iter().any(|(m, _)| *m == limit) {
                missing.push((limit, format!("no {limit} controller")));
            }
        }
        Ok(())
    }

    /// The group that an earlier shim made for an execution, as far as it is still there.
    pub(crate) fn find(&self, execution: &ExecutionId) -> Group {
        let name = name_of(execution);
        let there = |dir: PathBuf| dir.is_dir().then_some(dir);
        Group {
            v2: self.v2.as_ref().and_then(|p| there(p.dir.join(&name))),
            v1: self.v1.iter().filter_map(|p| Some((p.controller, there(p.dir.join(&name))?))).collect(),
        }
    }

    /// What can be enforced, found out with a group that is made for it.
    pub(crate) fn probe(&self, required: bool, root: bool) -> (Enforcement, Vec<Missing>) {
        let kind = match (&self.v2, self.v1.is_empty()) {
            (None, true) => "none",
            (None, false) => "v1",
            (Some(_), true) => "v2",
            (Some(_), false) => "hybrid",
        };
        let mut found = Enforcement { cgroups: kind.to_owned(), run_as: root, required, ..Enforcement::default() };
        let name = format!("bolt-probe-{}", std::process::id());
        let missing = match self.create(&name, &Limits::default()) {
            Ok((group, missing)) => {
                found.cgroup_kill = group.v2.as_ref().is_some_and(|dir| dir.join("cgroup.kill").exists());
                group.remove();
                missing
            }
            Err(e) => LIMITS.map(|limit| (limit, format!("no cgroup can be made: {e}"))).to_vec(),
        };
        let has = |limit| !missing.iter().any(|(m, _)| *m == limit);
        (found.memory, found.cpu, found.pids) = (has("memory"), has("cpu"), has("pids"));
        if LIMITS.iter().all(|limit| !has(limit)) && !found.cgroup_kill {
            found.cgroups = "none".to_owned();
        }
        (found, missing)
    }
}

/// The name of an execution's group.
pub(crate) fn name_of(execution: &ExecutionId) -> String {
    format!("bolt-{execution}")
}

impl Group {
    fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.v2.iter().map(PathBuf::as_path).chain(self.v1.iter().map(|(_, dir)| dir.as_path()))
    }

    /// Opens the ways in.
    pub(crate) fn doors(&self) -> io::Result<Doors> {
        let door = |dir: &PathBuf, file: &str| OpenOptions::new().write(true).open(dir.join(file));
        Ok(Doors {
            v2: self
                .v2
                .as_ref()
                .map(|dir| Ok::<_, io::Error>((File::open(dir)?, door(dir, "cgroup.procs")?)))
                .transpose()?,
            v1: self.v1.iter().map(|(_, dir)| door(dir, "tasks")).collect::<io::Result<_>>()?,
        })
    }

    /// The processes in any directory of the group.
    pub(crate) fn members(&self) -> Vec<Pid> {
        let mut pids: Vec<Pid> = self.dirs().flat_map(procs).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Sends `signal` to every member, and to nobody who has taken over a member's number.
    pub(crate) fn signal(&self, signal: Signal) {
        let held: Vec<_> =
            self.members().into_iter().filter_map(|pid| Some((pid, sys::pidfd_open(pid).ok()?))).collect();
        if held.is_empty() {
            return;
        }
        let still = self.members();
        for (pid, pidfd) in held {
            if still.contains(&pid) {
                let _ = sys::pidfd_signal(&pidfd, signal);
            }
        }
    }

    /// Kills every member, those included that are being forked, until there is none or `patience` has passed.
    pub(crate) fn kill(&self, patience: Duration) {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if self.v2.as_ref().is_none_or(|dir| fs::write(dir.join("cgroup.kill"), "1").is_err()) {
                self.freeze(true);
            }
            self.signal(Signal::SIGKILL);
            self.freeze(false);
            if self.members().is_empty() || begun.elapsed() > patience {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Stops members from running while they are counted; thaws them again even if they were frozen by themselves.
    fn freeze(&self, on: bool) {
        if let Some(dir) = &self.v2 {
            let _ = fs::write(dir.join("cgroup.freeze"), if on { "1" } else { "0" });
        }
        for (_, dir) in self.v1.iter().filter(|(controller, _)| *controller == v1::Controller::Freezer) {
            let _ = fs::write(dir.join("freezer.state"), if on { "FROZEN" } else { "THAWED" });
        }
    }

    /// What the kernel counted.
    pub(crate) fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        if let Some(dir) = &self.v2 {
            v2::figures(dir, &mut figures);
        }
        for (controller, dir) in &self.v1 {
            v1::figures(*controller, dir, &mut figures);
        }
        figures
    }

    /// Removes the group, which must be empty; a directory that the kernel still holds is tried again for a moment.
    pub(crate) fn remove(&self) {
        for dir in self.dirs() {
            for attempt in 0..50 {
                match fs::remove_dir(dir) {
                    Err(e) if e.raw_os_error() == Some(nix::libc::EBUSY) => {
                        remove_children(dir);
                        std::thread::sleep(Duration::from_millis(attempt.min(10)));
                    }
                    _ => break,
                }
            }
        }
    }
}

impl Doors {
    /// Forks a child that is in the v2 group from its first moment, where the kernel can do that, and that still has to
    /// [`join`](Self::join) the rest.
    pub(crate) fn fork(&mut self) -> nix::Result<Option<Pid>> {
        if let Some((dir, _)) = &self.v2 {
            // It fails before Linux 5.7, behind a system call filter, or for want of a process: that shows below.
            if let Ok(forked) = sys::fork_into(dir.as_fd()) {
                self.v2 = None;
                return Ok(forked);
            }
        }
        sys::fork()
    }

    /// Puts this process into what is left.
    pub(crate) fn join(&mut self) -> io::Result<()> {
        let mut doors = self.v2.iter_mut().map(|(_, door)| door).chain(&mut self.v1);
        doors.try_for_each(|door| door.write_all(b"0"))
    }
}

/// A root action may have made groups of its own below.
fn remove_children(dir: &Path) {
    for child in children(dir) {
        remove_children(&child);
        let _ = fs::remove_dir(child);
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", dir.display())))
}

/// The processes of a directory and of those below it.
fn procs(dir: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<Pid> =
        text.lines().filter_map(|l| l.parse().ok()).filter(|p| *p > 0).map(Pid::from_raw).collect();
    for child in children(dir) {
        pids.extend(procs(&child));
    }
    pids
}

/// The groups directly below one. Cgroup file systems count them in the link number, which is cheaper than a look.
fn children(dir: &Path) -> Vec<PathBuf> {
    if fs::metadata(dir).is_ok_and(|stat| stat.nlink() == 2) {
        return Vec::new();
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Writes one value into a control file.
fn control(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.join(file).display()));
    let mut opened = OpenOptions::new().write(true).open(dir.join(file)).map_err(named)?;
    opened.write_all(value.as_bytes()).map_err(named)
}

/// The number behind `key` in a file of `key number` lines.
fn keyed(dir: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number that a file consists of.
fn number(dir: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}
