//! The shim's loop: output in, parameters out, children taken in, deadline and `kill` heeded.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::execution::{Leftovers, State, file};
use packs_schema::base::quantity::{format_bytes, format_duration};
use packs_schema::pack::action::{LeftoverPolicy, Limits};

use super::Job;
use super::capture::{Capture, Read};
use super::child::Child;
use super::clock::Clock;
use super::record::Outcome;
use super::stop::Family;
use crate::cgroup::Figures;

/// How long processes that the action left behind may go on: long enough for a pipeline to write its last lines.
const DRAIN: Duration = Duration::from_millis(100);
/// How often what is being stopped is looked at: grandchildren end without a signal to us.
const TICK: Duration = Duration::from_millis(20);
/// How often `kill` is looked for where the kernel has no inotify instance for us.
const KILL_TICK: Duration = Duration::from_millis(200);
/// How many reads of one stream in a row before the other events are looked at again.
const BURST: usize = 16;

/// Why it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Deadline,
    Asked,
}

/// How it came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// By itself, with exit status 0.
    Done,
    /// By itself, with another one.
    Failed,
    /// By its deadline or a kill.
    Stopped,
}

pub(super) struct Watch<'a> {
    job: &'a Job<'a>,
    clock: &'a Clock,
    capture: Capture<'a>,
    signals: SignalFd,
    changes: Option<Inotify>,
}

/// The action's pipes, as far as they are open.
struct Pipes {
    stdin: Option<OwnedFd>,
    fed: usize,
    output: [Option<OwnedFd>; 2],
}

impl<'a> Watch<'a> {
    pub(super) fn new(job: &'a Job<'a>, clock: &'a Clock) -> nix::Result<Watch<'a>> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let capture = Capture::new(&job.directory, clock, job.action.output_max.0);
        Ok(Watch { job, clock, capture, signals, changes: watch_directories(job) })
    }

    /// True if someone has asked for the end.
    pub(super) fn kill_asked(&self) -> bool {
        [&self.job.directory, &self.job.runtime].iter().any(|dir| dir.has(file::KILL).unwrap_or(false))
    }

    /// Watches the action until nothing of it is left.
    pub(super) fn run(mut self, child: Child) -> Outcome {
        let mut family = Family::new(&self.job.group, child.pid);
        let mut pipes = Pipes { stdin: Some(child.stdin), fed: 0, output: [Some(child.stdout), Some(child.stderr)] };
        let why = self.until_ended(&mut family, &mut pipes);
        let failure = child.failure.reason(&self.job.program);
        let ending = match why {
            Some(_) => Ending::Stopped,
            None if failure.is_none() && family.ended.is_some_and(|ended| ended.status == Some(0)) => Ending::Done,
            None => Ending::Failed,
        };
        let (leftovers, not_kept) = self.end_rest(&mut family, &mut pipes, ending);
        let duration = self.clock.elapsed();
        pipes.stdin = None;
        self.drain(&mut pipes);
        let figures = self.job.group.figures();
        let (state, reason) = self.judge(&family, why, failure, &figures);
        let reason = reason.or(not_kept);
        let totals = Stream::ALL.map(|stream| self.capture.totals(stream));
        // Closing it takes the kernel milliseconds (it waits for all who might still send an event): the end of this
        // process does so, once the exit record is written.
        std::mem::forget(self.changes.take());
        Outcome { state, reason, ended: family.ended, leftovers, totals, figures, duration }
    }

    /// Until the action's own process has ended or, when it is being stopped, all of them have or the grace is over.
    fn until_ended(&mut self, family: &mut Family<'_>, pipes: &mut Pipes) -> Option<Why> {
        let mut stopping: Option<(Why, Instant)> = None;
        loop {
            family.reap();
            let due = match stopping {
                None if family.ended.is_some() => return None,
                None => {
                    let left = self.job.timeout.saturating_sub(self.clock.elapsed());
                    let why =
                        if self.kill_asked_now() { Some(Why::Asked) } else { left.is_zero().then_some(Why::Deadline) };
                    if let Some(why) = why {
                        stopping = Some((why, Instant::now() + self.job.action.grace.0));
                        family.terminate();
                        continue;
                    }
                    if self.changes.is_some() { left } else { left.min(KILL_TICK) }
                }
                Some((why, until)) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() || (family.ended.is_some() && family.alive() == 0) {
                        return Some(why);
                    }
                    left.min(TICK)
                }
            };
            self.wait(pipes, due);
        }
    }

    /// Stops what the action has left, or lets it go on where its file says so, and tells how much there was. The second is
    /// why something that should have been kept was not.
    fn end_rest(
        &mut self,
        family: &mut Family<'_>,
        pipes: &mut Pipes,
        ending: Ending,
    ) -> (Option<Leftovers>, Option<String>) {
        if ending == Ending::Stopped {
            return (Some(family.kill()), None);
        }
        let until = Instant::now() + DRAIN;
        while family.alive() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.end_survivors(family, ending);
            }
            self.wait(pipes, left.min(TICK));
        }
        (None, None)
    }

    fn end_survivors(&self, family: &mut Family<'_>, ending: Ending) -> (Option<Leftovers>, Option<String>) {
        if self.job.action.leftovers == LeftoverPolicy::Stop || ending != Ending::Done || self.kill_asked() {
            return (Some(family.kill()), None);
        }
        match family.keep(&self.job.execution) {
            Ok(kept) => (Some(kept), None),
            Err(e) => {
                let stopped = family.kill();
                self.job.group.remove_kept(&self.job.execution);
                (Some(stopped), Some(format!("the processes that it left could not be kept, and were stopped: {e}")))
            }
        }
    }

    /// Waits for something to happen, and sees to it.
    fn wait(&mut self, pipes: &mut Pipes, at_most: Duration) {
        let timeout =
            PollTimeout::try_from(at_most + Duration::from_millis(1)).unwrap_or(PollTimeout::from(60_000_u16));
        let ready = {
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.changes.as_ref().map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)));
            for pipe in pipes.output.iter().flatten() {
                fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
            }
            fds.extend(pipes.stdin.as_ref().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLOUT)));
            poll(&mut fds, timeout).unwrap_or(0)
        };
        if ready == 0 {
            return;
        }
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.feed(pipes);
        self.take_output(pipes, BURST);
    }

    /// Reads what there is of both streams, at most `reads` times each.
    fn take_output(&mut self, pipes: &mut Pipes, reads: usize) {
        for (stream, pipe) in Stream::ALL.into_iter().zip(&mut pipes.output) {
            for _ in 0..reads {
                let Some(open) = pipe.as_ref() else { break };
                match self.capture.read(stream, open) {
                    Read::Data => {}
                    Read::Empty => break,
                    Read::Ended => *pipe = None,
                }
            }
        }
    }

    /// Reads what is left in the pipes. Nobody writes any more, so what is not there now never will be; should one who was
    /// handed the pipe from outside go on writing, the size of a pipe is enough.
    fn drain(&mut self, pipes: &mut Pipes) {
        self.take_output(pipes, BURST * 4);
    }

    /// Writes as much of the parameters as the pipe takes. An action need not read them.
    fn feed(&self, pipes: &mut Pipes) {
        while let Some(pipe) = &pipes.stdin {
            let left = &self.job.stdin[pipes.fed..];
            match nix::unistd::write(pipe, left) {
                Ok(written) if written < left.len() => pipes.fed += written,
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(nix::errno::Errno::EINTR) => {}
                _ => pipes.stdin = None,
            }
        }
    }

    /// True if `kill` has appeared; looked up only when the directory has changed.
    fn kill_asked_now(&self) -> bool {
        match &self.changes {
            Some(changes) => changes.read_events().is_ok_and(|events| !events.is_empty()) && self.kill_asked(),
            None => self.kill_asked(),
        }
    }

    fn judge(
        &self,
        family: &Family<'_>,
        why: Option<Why>,
        failure: Option<String>,
        figures: &Figures,
    ) -> (State, Option<String>) {
        let status = family.ended.and_then(|e| e.status);
        match (failure, why) {
            (Some(failure), _) => (State::Error, Some(failure)),
            (None, Some(Why::Asked)) => (State::Killed, None),
            (None, Some(Why::Deadline)) => {
                let why = if self.job.ends_with_push { ", when the time of the pushed version was over" } else { "" };
                (State::TimedOut, Some(format!("stopped after {}{why}", format_duration(self.job.timeout))))
            }
            (None, None) if status == Some(0) => (State::Succeeded, None),
            (None, None) if figures.oom_kills > 0 => {
                (State::OutOfMemory, Some(out_of_memory(figures, &self.job.action.limits)))
            }
            (None, None) => (State::Failed, None),
        }
    }
}

/// Whose memory was used up: its own, or that of all executions, or another's.
fn out_of_memory(figures: &Figures, limits: &Limits) -> String {
    let own = format_bytes(limits.memory.0);
    match (figures.within_own_limit, figures.total_reached) {
        (false, _) => format!("reached its memory limit of {own}"),
        (true, true) => format!(
            "stopped within its own memory limit of {own}: all executions together reached theirs (execution.total.memory)"
        ),
        (true, false) => format!(
            "stopped within its own memory limit of {own}: the host, or a group that executions are in, was out of memory"
        ),
    }
}

/// Tells of new files in the execution's two directories. `None` when the kernel has no instance left for this account.
fn watch_directories(job: &Job<'_>) -> Option<Inotify> {
    use std::os::fd::AsRawFd;
    let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
    for directory in [&job.directory, &job.runtime] {
        // By descriptor: the path could lead elsewhere by now.
        let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        changes.add_watch(path.as_str(), flags).ok()?;
    }
    Some(changes)
}
