//! Objects that a shim makes once and uses for all its executions. Making them takes longer than using them; closing an inotify descriptor alone
//! takes the kernel milliseconds (an RCU grace period).

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use packs_schema::agent::execution::output::{HEADER, MAX_CHUNK};

use super::job::Job;
use crate::sys;

/// See the module.
pub(super) struct Equipment {
    /// Reports the end of children.
    pub(super) signals: SignalFd,
    /// Reports new files; `None` when the kernel has no inotify instance left.
    pub(super) changes: Option<Inotify>,
    /// Receives SIGTERM, which a host that goes down sends to every process.
    pub(super) terminations: SignalFd,
    /// Space for a header of a frame, then for its data.
    pub(super) buffer: sys::Pages,
    /// Stack of a child until it executes its program.
    pub(super) stack: sys::Stack,
}

/// Watches on the two directories of an execution, in which the file `kill` may appear. Removed when dropped.
pub(super) struct Watches<'a> {
    pub(super) changes: &'a Inotify,
    watches: Vec<WatchDescriptor>,
}

impl Equipment {
    pub(super) fn new() -> nix::Result<Equipment> {
        let receive = |signal: Signal| {
            let mut mask = SigSet::empty();
            mask.add(signal);
            SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        };
        Ok(Equipment {
            signals: receive(Signal::SIGCHLD)?,
            terminations: receive(Signal::SIGTERM)?,
            changes: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok(),
            buffer: sys::Pages::map(HEADER + MAX_CHUNK)?,
            stack: sys::Stack::map()?,
        })
    }

    /// Drops a signal that arrived during an earlier execution.
    pub(super) fn drop_terminations(&self) {
        while let Ok(Some(_)) = self.terminations.read_signal() {}
    }
}

impl<'a> Watches<'a> {
    /// Watches for new files in both directories of an execution; `None` when the kernel has no watch left.
    pub(super) fn new(changes: &'a Inotify, job: &Job) -> Option<Watches<'a>> {
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        let mut watches = Watches { changes, watches: Vec::new() };
        for directory in [&job.handles.directory, &job.handles.runtime] {
            // By descriptor: the path may refer to another directory by now.
            let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
            watches.watches.push(changes.add_watch(path.as_str(), flags).ok()?);
        }
        Some(watches)
    }
}

impl Drop for Watches<'_> {
    fn drop(&mut self) {
        for watch in self.watches.drain(..) {
            let _ = self.changes.rm_watch(watch);
        }
        // Events of this execution would wake the next one.
        let _ = self.changes.read_events();
    }
}
