//! A program of the interpreter's, run to its end or to its time limit, with the last of what it said.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The most of its output that is kept, in bytes: the end of it.
const KEPT: usize = 32 << 10;
/// Between two looks at a process that has closed its output and goes on.
const INTERVAL: Duration = Duration::from_millis(10);
/// How long the end of the output is waited for once the process was killed.
const DRAIN: Duration = Duration::from_secs(5);

/// The process groups that run.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Ends everything that [`run`] runs.
pub(super) fn end_all() {
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = killpg(*group, Signal::SIGKILL);
    }
}

/// An entry of [`RUNNING`], until this is dropped.
struct Entry(Pid);

impl Entry {
    fn new(group: Pid) -> Entry {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(group);
        Entry(group)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|group| *group != self.0);
    }
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None`: it took too long and was killed.
    pub(super) status: Option<ExitStatus>,
    /// The end of both its streams, as they came.
    pub(super) output: Vec<u8>,
}

impl Ended {
    pub(super) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Why it failed, without what it said.
    pub(super) fn reason(&self, within: Duration) -> String {
        match self.status {
            None => format!("it took longer than {} s and was ended", within.as_secs()),
            Some(status) => match status.signal() {
                // The alarm of install.py, a moment before ours.
                Some(signal) if signal == Signal::SIGALRM as i32 => {
                    format!("it took longer than {} s and was ended", within.as_secs())
                }
                Some(signal) if signal == Signal::SIGXCPU as i32 => "it took too much processor time".to_owned(),
                Some(signal) => format!("it was ended by signal {signal}"),
                None => format!("it ended with status {}", status.code().unwrap_or(-1)),
            },
        }
    }
}

/// Runs `command` for at most `within`. Both its streams go into one pipe; it reads nothing.
pub(super) fn run(mut command: Command, within: Duration) -> io::Result<Ended> {
    let until = Instant::now() + within;
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    // A group of its own, so that what it starts ends with it.
    let mut child = command.process_group(0).spawn()?;
    let _entry = Entry::new(Pid::from_raw(child.id().cast_signed()));
    // The command holds our ends of the pipe.
    drop(command);
    let (send, receive) = mpsc::channel();
    let thread = std::thread::Builder::new().name("output".to_owned()).spawn(move || send.send(tail(reader)));
    if let Err(error) = thread {
        end(&mut child);
        return Err(error);
    }
    let output = receive.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
    let status = wait(&mut child, if output.is_some() { until } else { Instant::now() })?;
    let output = match output {
        Some(output) => output,
        None => receive.recv_timeout(DRAIN).unwrap_or_default(),
    };
    Ok(Ended { status, output })
}

/// Its status; past `until` it is killed, and there is none.
fn wait(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            end(child);
            return Ok(None);
        }
        std::thread::sleep(INTERVAL);
    }
}

fn end(child: &mut Child) {
    let group = Pid::from_raw(child.id().cast_signed());
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads to the end; keeps the last of it.
fn tail(mut reader: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 8 << 10]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return kept,
            Ok(count) => kept.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
        let more = kept.len().saturating_sub(KEPT);
        kept.drain(..more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_are_kept_and_a_long_output_by_its_end() {
        let ended = run(shell("echo one; echo two >&2; exit 3"), Duration::from_secs(60)).unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.output), "one\ntwo\n");
        assert!(!ended.succeeded() && ended.reason(Duration::ZERO).contains("status 3"), "{ended:?}");
        let ended = run(shell("head -c 200000 /dev/zero; echo end"), Duration::from_secs(60)).unwrap();
        assert!(ended.succeeded() && ended.output.len() == KEPT && ended.output.ends_with(b"end\n"));
    }

    #[test]
    fn what_hangs_is_ended_with_all_that_it_started() {
        let temp = tempfile::tempdir().unwrap();
        let mark = temp.path().join("pid");
        // The second process holds the pipe open as well, and the first has told of both before it hangs. A busy host gets
        // more time until it has come that far.
        let script = format!("echo said; sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", mark.display());
        let mut within = Duration::from_secs(1);
        let ended = loop {
            let ended = run(shell(&script), within).unwrap();
            if mark.exists() || within > Duration::from_secs(60) {
                break ended;
            }
            within *= 2;
        };
        assert!(ended.status.is_none() && ended.reason(within).contains("longer than"), "{ended:?}");
        assert_eq!(ended.output, b"said\n");
        let pid = std::fs::read_to_string(mark).unwrap();
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let until = Instant::now() + Duration::from_secs(60);
        while lives() && Instant::now() < until {
            std::thread::sleep(INTERVAL);
        }
        assert!(!lives(), "{pid} is left");
        // One that closes its output and goes on is ended as well.
        let ended = run(shell("exec >&- 2>&-; exec sleep 600"), Duration::from_secs(1)).unwrap();
        assert!(ended.status.is_none(), "{ended:?}");
    }
}
