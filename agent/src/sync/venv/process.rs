//! Runs a program to its end or to a time limit, and keeps the end of its output.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Number of bytes kept from the end of the output.
const KEPT: usize = 32 << 10;
/// Interval of checks of a process that has closed its output and has not ended.
const INTERVAL: Duration = Duration::from_millis(10);
/// Interval at which the caller may object to a process that runs.
const ASKED: Duration = Duration::from_secs(2);
/// Time limit for reading the output of a killed process.
const DRAIN: Duration = Duration::from_secs(5);

/// Running process groups.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills everything that [`run`] runs.
pub(super) fn end_all() {
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = killpg(*group, Signal::SIGKILL);
    }
}

/// Entry of [`RUNNING`], until this is dropped.
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

/// End of a program.
#[derive(Debug)]
pub(super) struct Ended {
    /// Exit status; `None` if it was killed, at the time limit or for `objection`.
    pub(super) status: Option<ExitStatus>,
    /// Objection of the caller for which it was killed.
    pub(super) objection: Option<String>,
    /// End of the output of both streams, interleaved.
    pub(super) output: Vec<u8>,
}

impl Ended {
    pub(super) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Describes the failure, without the output.
    pub(super) fn reason(&self, within: Duration) -> String {
        if let Some(objection) = &self.objection {
            return format!("{objection}, and it was killed");
        }
        match self.status {
            None => format!("it took longer than {} s and was killed", within.as_secs()),
            Some(status) => match status.signal() {
                // The alarm of install.py, slightly before our time limit.
                Some(signal) if signal == Signal::SIGALRM as i32 => {
                    format!("it took longer than {} s and was killed", within.as_secs())
                }
                Some(signal) if signal == Signal::SIGXCPU as i32 => "it took too much processor time".to_owned(),
                Some(signal) => format!("it was killed by signal {signal}"),
                None => format!("it ended with status {}", status.code().unwrap_or(-1)),
            },
        }
    }
}

/// Runs `command` for at most `within`. Both output streams go to one pipe; standard input is empty.
pub(super) fn run(command: Command, within: Duration) -> io::Result<Ended> {
    run_unless(command, within, || None)
}

/// As [`run`], until `objection`, which is called every few seconds, gives a reason to kill it.
pub(super) fn run_unless(
    mut command: Command,
    within: Duration,
    objection: impl Fn() -> Option<String>,
) -> io::Result<Ended> {
    let until = Instant::now() + within;
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    // A process group of its own, so that its children are killed with it.
    let mut child = command.process_group(0).spawn()?;
    let _entry = Entry::new(Pid::from_raw(child.id().cast_signed()));
    // Drops the command, which holds ends of the pipe.
    drop(command);
    let (send, receive) = mpsc::channel();
    let thread = std::thread::Builder::new().name("output".to_owned()).spawn(move || send.send(tail(reader)));
    if let Err(error) = thread {
        end(&mut child);
        return Err(error);
    }
    let mut objected = None;
    let output = loop {
        let left = until.saturating_duration_since(Instant::now());
        match receive.recv_timeout(left.min(ASKED)) {
            Ok(output) => break Some(output),
            Err(RecvTimeoutError::Timeout) if !left.is_zero() => objected = objection(),
            Err(_) => break None,
        }
        if objected.is_some() {
            break None;
        }
    };
    let status = wait(&mut child, if output.is_some() { until } else { Instant::now() })?;
    let output = match output {
        Some(output) => output,
        None => receive.recv_timeout(DRAIN).unwrap_or_default(),
    };
    Ok(Ended { status, objection: objected, output })
}

/// Waits for the exit status; `None` if the process was killed after `until`.
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

/// Reads to the end; keeps the last bytes.
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
    fn a_program_that_is_objected_to_is_killed_within_seconds() {
        let temp = tempfile::tempdir().unwrap();
        let mark = temp.path().join("mark");
        let script = format!("echo said; echo > {}; sleep 600", mark.display());
        let objection = || mark.exists().then(|| "it has too many files".to_owned());
        let ended = run_unless(shell(&script), Duration::from_secs(500), objection).unwrap();
        assert!(ended.status.is_none() && !ended.succeeded(), "{ended:?}");
        assert_eq!(ended.reason(Duration::ZERO), "it has too many files, and it was killed");
        assert_eq!(ended.output, b"said\n");
    }

    #[test]
    fn a_hanging_program_is_killed_with_its_children() {
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
        // A process that closes its output and does not end is killed as well.
        let ended = run(shell("exec >&- 2>&-; exec sleep 600"), Duration::from_secs(1)).unwrap();
        assert!(ended.status.is_none(), "{ended:?}");
    }
}
