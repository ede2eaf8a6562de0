//! The shim's event loop: records output, writes standard input, reaps children, and enforces the deadline and `kill`.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::InotifyEvent;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::execution::{Leftovers, State, file};
use packs_schema::base::quantity::{format_bytes, format_duration};
use packs_schema::pack::action::LeftoverPolicy;

use super::capture::{Capture, ReadOutcome};
use super::child::Child;
use super::clock::Clock;
use super::equipment::Watches;
use super::job::Job;
use super::process_tree::ProcessTree;
use super::record::Outcome;
use crate::cgroup::Counters;
use crate::sys::Pages;

/// Time that leftover processes may take to end by themselves: long enough for a pipeline to write its last lines.
const LEFTOVER_GRACE: Duration = Duration::from_millis(100);
/// Interval between counts of processes that are being stopped: the exit of a grandchild sends no signal to the shim.
const COUNT_INTERVAL: Duration = Duration::from_millis(20);
/// Interval between checks for the file `kill` when the kernel has no inotify instance left.
const KILL_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time without output after which the buffer's memory is freed.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// Maximum number of consecutive reads of one stream before other events are handled.
const MAX_READS: usize = 16;

/// The reason to stop an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopReason {
    Deadline,
    Kill,
}

/// How the action's own process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Exited with status 0.
    Succeeded,
    /// Exited with another status, or by a signal.
    Failed,
    /// Stopped at its deadline or by a kill.
    Stopped,
}

pub(super) struct Watch<'a> {
    job: &'a Job,
    clock: &'a Clock,
    capture: Capture<'a>,
    signals: &'a SignalFd,
    terminations: &'a SignalFd,
    /// `None`: the file `kill` is looked for at intervals.
    watches: Option<Watches<'a>>,
    /// True if the file `kill` may have appeared before the watches.
    look_for_kill: Cell<bool>,
}

/// The shim's ends of the action's pipes; `None` once closed.
struct Pipes {
    stdin: Option<OwnedFd>,
    /// Number of bytes written to `stdin`.
    written: usize,
    output: [Option<OwnedFd>; 2],
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        job: &'a Job,
        clock: &'a Clock,
        [signals, terminations]: [&'a SignalFd; 2],
        watches: Option<Watches<'a>>,
        buffer: &'a mut Pages,
    ) -> Watch<'a> {
        let capture = Capture::new(&job.handles.directory, clock, job.plan.rules.output_max, buffer);
        Watch { job, clock, capture, signals, terminations, watches, look_for_kill: Cell::new(false) }
    }

    /// Returns true if the file `kill` exists in the execution's directory or in its run-time directory.
    pub(super) fn kill_requested(&self) -> bool {
        [&self.job.handles.directory, &self.job.handles.runtime].iter().any(|dir| dir.has(file::KILL).unwrap_or(false))
    }

    /// Supervises an action that was released before its directory was watched.
    pub(super) fn run_released(self, child: Child) -> Outcome {
        self.look_for_kill.set(true);
        self.run(child)
    }

    /// Supervises the action until none of its processes is left, or the leftovers are kept.
    pub(super) fn run(mut self, child: Child) -> Outcome {
        let mut tree = ProcessTree::new(&self.job.plan.group, child.pid);
        let mut pipes =
            Pipes { stdin: Some(child.stdin), written: 0, output: [Some(child.stdout), Some(child.stderr)] };
        // Mostly all of it: otherwise the first wait would only find that the pipe takes it.
        self.feed(&mut pipes);
        let stopped = self.wait_for_exit(&mut tree, &mut pipes);
        let setup_error = child.setup_error.read(&self.job.plan.program);
        let ending = match stopped {
            Some(_) => Ending::Stopped,
            None if setup_error.is_none() && tree.main_exit.is_some_and(|exit| exit.status == Some(0)) => {
                Ending::Succeeded
            }
            None => Ending::Failed,
        };
        let (leftovers, not_kept) = self.handle_leftovers(&mut tree, &mut pipes, ending);
        let duration = self.clock.elapsed();
        pipes.stdin = None;
        self.drain(&mut pipes);
        let has_succeeded = stopped.is_none() && tree.main_exit.is_some_and(|exit| exit.status == Some(0));
        let counters = self.job.plan.group.counters(!has_succeeded);
        let (state, reason) = self.final_state(&tree, stopped, setup_error, &counters);
        let reason = reason.or(not_kept);
        let totals = Stream::ALL.map(|stream| self.capture.totals(stream));
        let output = self.capture.into_output();
        Outcome { state, reason, main_exit: tree.main_exit, leftovers, totals, counters, duration, output }
    }

    /// Waits until the action's own process has exited. When the action is being stopped, waits until all processes have exited or
    /// the grace period is over, and returns the reason.
    fn wait_for_exit(&mut self, tree: &mut ProcessTree<'_>, pipes: &mut Pipes) -> Option<StopReason> {
        let mut stopping: Option<(StopReason, Instant)> = None;
        loop {
            tree.reap();
            let at_most = match stopping {
                None if tree.main_exit.is_some() => return None,
                None => {
                    let left = self.job.plan.timeout.saturating_sub(self.clock.elapsed());
                    let reason = if self.poll_kill_request() {
                        Some(StopReason::Kill)
                    } else {
                        left.is_zero().then_some(StopReason::Deadline)
                    };
                    if let Some(reason) = reason {
                        stopping = Some((reason, Instant::now() + self.job.plan.rules.grace));
                        tree.terminate();
                        continue;
                    }
                    if self.watches.is_some() { left } else { left.min(KILL_POLL_INTERVAL) }
                }
                Some((reason, until)) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() || (tree.main_exit.is_some() && tree.count_alive() == 0) {
                        return Some(reason);
                    }
                    left.min(COUNT_INTERVAL)
                }
            };
            self.wait(pipes, at_most);
        }
    }

    /// Stops leftover processes, or keeps them when the action file says so, and returns their numbers. The second value is the
    /// reason why processes that should have been kept were stopped.
    fn handle_leftovers(
        &mut self,
        tree: &mut ProcessTree<'_>,
        pipes: &mut Pipes,
        ending: Ending,
    ) -> (Option<Leftovers>, Option<String>) {
        if ending == Ending::Stopped {
            return (Some(tree.kill()), None);
        }
        let until = Instant::now() + LEFTOVER_GRACE;
        while tree.count_alive() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.stop_or_keep(tree, ending);
            }
            self.wait(pipes, left.min(COUNT_INTERVAL));
        }
        (None, None)
    }

    fn stop_or_keep(&self, tree: &mut ProcessTree<'_>, ending: Ending) -> (Option<Leftovers>, Option<String>) {
        if self.job.plan.rules.leftovers == LeftoverPolicy::Stop || ending != Ending::Succeeded || self.kill_requested()
        {
            return (Some(tree.kill()), None);
        }
        match tree.keep(&self.job.plan.execution) {
            Ok(kept) => (Some(kept), None),
            Err(e) => {
                let stopped = tree.kill();
                self.job.plan.group.remove_leftover_group(&self.job.plan.execution);
                (Some(stopped), Some(format!("leftover processes could not be kept and were stopped: {e}")))
            }
        }
    }

    /// Waits for an event, at most `at_most`, and handles what is ready.
    fn wait(&mut self, pipes: &mut Pipes, at_most: Duration) {
        let at_most = if self.capture.holds_buffer() { at_most.min(QUIET_AFTER) } else { at_most };
        let timeout =
            PollTimeout::try_from(at_most + Duration::from_millis(1)).unwrap_or(PollTimeout::from(60_000_u16));
        let ready = {
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.watches.as_ref().map(|w| PollFd::new(w.changes.as_fd(), PollFlags::POLLIN)));
            for pipe in pipes.output.iter().flatten() {
                fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
            }
            fds.extend(pipes.stdin.as_ref().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLOUT)));
            poll(&mut fds, timeout).unwrap_or(0)
        };
        if ready == 0 {
            return self.capture.release_buffer();
        }
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.feed(pipes);
        self.read_output(pipes, MAX_READS);
    }

    /// Reads the available output of both streams, at most `reads` times each.
    fn read_output(&mut self, pipes: &mut Pipes, reads: usize) {
        for (stream, pipe) in Stream::ALL.into_iter().zip(&mut pipes.output) {
            for _ in 0..reads {
                let Some(open) = pipe.as_ref() else { break };
                match self.capture.read(stream, open) {
                    ReadOutcome::Recorded => {}
                    ReadOutcome::Empty => break,
                    ReadOutcome::Closed => *pipe = None,
                }
            }
        }
    }

    /// Reads the rest of the pipes. All writers of the execution have ended; the bound, the size of a pipe, is for a process outside
    /// the execution that was handed the pipe and keeps writing.
    fn drain(&mut self, pipes: &mut Pipes) {
        self.read_output(pipes, MAX_READS * 4);
    }

    /// Writes as much of the standard input as the pipe takes. An action need not read it.
    fn feed(&self, pipes: &mut Pipes) {
        while let Some(pipe) = &pipes.stdin {
            let left = &self.job.stdin[pipes.written..];
            match nix::unistd::write(pipe, left) {
                Ok(written) if written < left.len() => pipes.written += written,
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(nix::errno::Errno::EINTR) => {}
                _ => pipes.stdin = None,
            }
        }
    }

    /// Returns true if `kill` has appeared. Looks it up only when a file of this name is new, or when events were lost, of which
    /// the kernel tells without a name.
    fn poll_kill_request(&self) -> bool {
        match &self.watches {
            Some(watches) => {
                let may_be_kill = |event: &InotifyEvent| event.name.as_ref().is_none_or(|name| name == file::KILL);
                let is_told = watches.changes.read_events().is_ok_and(|events| events.iter().any(may_be_kill));
                (self.look_for_kill.take() || is_told) && self.kill_requested()
            }
            None => self.kill_requested(),
        }
    }

    fn final_state(
        &self,
        tree: &ProcessTree<'_>,
        stopped: Option<StopReason>,
        setup_error: Option<String>,
        counters: &Counters,
    ) -> (State, Option<String>) {
        let status = tree.main_exit.and_then(|exit| exit.status);
        match (setup_error, stopped) {
            (Some(error), _) => (State::Error, Some(error)),
            (None, Some(StopReason::Kill)) => (State::Killed, None),
            (None, Some(StopReason::Deadline)) => {
                let why = if self.job.plan.ends_with_push { ", when the pushed version expired" } else { "" };
                (State::TimedOut, Some(format!("stopped after {}{why}", format_duration(self.job.plan.timeout))))
            }
            (None, None) if status == Some(0) => (State::Succeeded, None),
            (None, None) if counters.oom_kills > 0 => {
                (State::OutOfMemory, Some(out_of_memory(counters, self.job.plan.rules.memory)))
            }
            (None, None) if self.was_terminated_with_the_host(tree) => {
                (State::Interrupted, Some("the host went down: its processes were sent SIGTERM".to_owned()))
            }
            (None, None) => (State::Failed, None),
        }
    }

    /// Returns true if SIGTERM ended the action, and the shim was sent it as well: a host that goes down sends it to every process,
    /// and the action ends before its shim.
    fn was_terminated_with_the_host(&self, tree: &ProcessTree<'_>) -> bool {
        const TERM: i32 = Signal::SIGTERM as i32;
        // A shell ends with 128 and the number of the signal that ended its command.
        let by_term = tree.main_exit.is_some_and(|exit| exit.signal == Some(TERM) || exit.status == Some(128 + TERM));
        by_term && matches!(self.terminations.read_signal(), Ok(Some(_)))
    }
}

/// Returns which limit was reached: the execution's own, that of all executions, or another one.
fn out_of_memory(counters: &Counters, limit: u64) -> String {
    let own = format_bytes(limit);
    match (counters.within_own_limit, counters.total_reached) {
        (false, _) => format!("reached its memory limit of {own}"),
        (true, true) => format!(
            "killed within its own memory limit of {own}: all executions together reached their limit (execution.total.memory)"
        ),
        (true, false) => {
            format!("killed within its own memory limit of {own}: the host, or a parent cgroup, was out of memory")
        }
    }
}
