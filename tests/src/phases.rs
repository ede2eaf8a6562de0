//! Phases of one execution, from the system calls of api, launcher, shim and action as the kernel's tracepoints report them.
//!
//! ```text
//!  request read ─▶ directory ─▶ commit ─▶ launcher ─▶ claim ─▶ exec ─▶ end ─▶ exit record ─▶ commit ─▶ answer
//! ```
//!
//! The launcher prepares the start, and a shim makes the process, beside the api until the commit: no landmark is taken of that.
//!
//! The kernel writes the events to a buffer of their own instance, a fraction of a microsecond each, and nothing reads them before
//! the end. tracefs is mounted where no other process sees it.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;

use nix::libc;
use regex_lite::Regex;

/// Records until its standard input ends. Its argument is the file of the trace.
const RECORD: &str = r#"
set -eu
[ -d /sys/kernel/tracing/instances ] || mount -t tracefs bolt /sys/kernel/tracing
cd /sys/kernel/tracing
mkdir "instances/bolt-$$"
trap 'cd /sys/kernel/tracing; rmdir "instances/bolt-$$"' EXIT
cd "instances/bolt-$$"
echo 8192 > buffer_size_kb
echo mono > trace_clock
echo 'comm ~ "bolt-*" || comm ~ "history*"' > events/raw_syscalls/filter
echo 1 > events/raw_syscalls/enable
echo 1 > events/sched/sched_process_exec/enable
echo 1 > events/sched/sched_process_exit/enable
echo ready
read -r _ || true
echo 0 > tracing_on
cat trace > "$1"
echo 0 > events/enable
"#;

/// Names of the system calls that mark a phase.
const CALLS: [(libc::c_long, &str); 12] = [
    (libc::SYS_recvfrom, "recvfrom"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir"),
    #[cfg(not(target_arch = "x86_64"))]
    (-1, "mkdir"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename"),
    #[cfg(not(target_arch = "x86_64"))]
    (-2, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
];

/// Name of the end of each phase, in order.
const PHASES: [&str; 10] = [
    "TLS, parse, grant, bind",
    "directory and spec",
    "commit 1",
    "to the launcher",
    "claim, and what is not prepared",
    "to the shim; `started`; release of the process",
    "the action",
    "who is left, figures, exit record",
    "exit noticed",
    "commit 2",
];
/// Name of the time after the last phase.
const LAST: &str = "to the client";

/// A traced call, a program that is executed (`exec`), or the end of a process (`exit`).
#[derive(Debug, Clone, PartialEq)]
struct Call {
    /// Milliseconds of the monotonic clock.
    began: f64,
    ended: f64,
    program: String,
    task: u32,
    name: &'static str,
    result: i64,
}

/// A running trace of the whole host; it ends when dropped.
#[derive(Debug)]
pub struct Trace {
    recorder: Child,
    /// Closing it ends the recording.
    stdin: Option<ChildStdin>,
}

impl Trace {
    /// Starts to record a trace to `file`; `None` where that is not possible or not allowed.
    pub fn start(file: &Path) -> Option<Trace> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", RECORD, "sh"]).arg(file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut recorder = command.spawn().ok()?;
        let (stdin, stdout) = (recorder.stdin.take(), recorder.stdout.take()?);
        let mut line = String::new();
        let trace = Trace { recorder, stdin };
        BufReader::new(stdout).read_line(&mut line).ok()?;
        (line == "ready\n").then_some(trace)
    }

    /// Ends it; the file is then complete.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stdin.take());
        let _ = self.recorder.wait();
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns the median of each phase in milliseconds, with its name, and the number of executions.
pub fn medians(file: &Path) -> (Vec<(&'static str, f64)>, usize) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let all = executions(&calls(&text));
    let median = |phase: usize| {
        let mut times: Vec<f64> = all.iter().map(|times| times[phase]).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let names = PHASES.into_iter().chain([LAST]).enumerate();
    (names.map(|(phase, name)| (name, median(phase))).collect(), all.len())
}

/// Returns the calls in a trace: the beginning and the end of each are lines of their own.
fn calls(text: &str) -> Vec<Call> {
    static LINE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"^\s*(.+)-(\d+)\s+\[\d+\]\s+\S+\s+([0-9.]+): (sys_enter|sys_exit|sched_process_exec|sched_process_exit): (?:NR (-?\d+) (?:\(|= (-?\d+)))?";
        Regex::new(pattern).expect("a valid pattern")
    });
    let mut begun: HashMap<u32, f64> = HashMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(parts) = LINE.captures(line) else { continue };
        let (Ok(task), Ok(seconds)) = (parts[2].parse(), parts[3].parse::<f64>()) else { continue };
        let (at, program) = (seconds * 1e3, parts[1].to_owned());
        let moment = match &parts[4] {
            "sched_process_exec" => Some("exec"),
            "sched_process_exit" => Some("exit"),
            _ => None,
        };
        if let Some(name) = moment {
            found.push(Call { began: at, ended: at, program, task, name, result: 0 });
            continue;
        }
        let Some(number) = parts.get(5).and_then(|number| number.as_str().parse::<libc::c_long>().ok()) else {
            continue;
        };
        let Some((_, name)) = CALLS.iter().find(|(known, _)| *known == number) else { continue };
        match parts.get(6).and_then(|result| result.as_str().parse().ok()) {
            None => _ = begun.insert(task, at),
            Some(result) => {
                let began = begun.remove(&task).unwrap_or(at);
                found.push(Call { began, ended: at, program, task, name, result });
            }
        }
    }
    found
}

/// Returns the times of the phases of each execution of which every landmark was seen.
fn executions(calls: &[Call]) -> Vec<Vec<f64>> {
    let mut calls: Vec<&Call> = calls.iter().collect();
    calls.sort_by(|one, other| one.ended.total_cmp(&other.ended));
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = calls[at..].iter().position(|call| is_request(call)) {
        at += begin + 1;
        let until = calls[at..].iter().position(|call| is_request(call)).map_or(calls.len(), |next| at + next);
        if let Some(times) = landmarks(calls[at - 1].ended, &calls[at..until]) {
            found.push(times);
        }
    }
    found
}

fn is_request(call: &Call) -> bool {
    call.program == "bolt-agent" && call.name == "recvfrom" && call.result > 200
}

/// Returns the length of each phase of the execution that began at `began`; `calls` are those after it, before the next request.
fn landmarks(began: f64, calls: &[&Call]) -> Option<Vec<f64>> {
    let is_sync = |call: &Call| call.program.starts_with("history") && matches!(call.name, "fdatasync" | "fsync");
    // A spare directory is renamed, or one is made.
    let is_made = |call: &Call| {
        call.program == "bolt-agent" && (call.name.starts_with("mkdir") || call.name.starts_with("rename"))
    };
    let is_asked = |call: &Call| call.program == "bolt-launch" && call.name == "recvfrom" && call.result > 100;
    let is_given = |call: &Call| call.program == "bolt-launch" && call.name == "sendmsg" && call.result > 0;
    let is_executed = |call: &Call| call.name == "exec";
    let is_renamed = |call: &Call| call.program == "bolt-shim" && call.name.starts_with("rename");
    let is_answered = |call: &Call| {
        call.program == "bolt-agent" && matches!(call.name, "write" | "writev" | "sendto") && call.result > 200
    };
    let at = Cell::new(0);
    let next = |is: &dyn Fn(&Call) -> bool| {
        let found = at.get() + calls[at.get()..].iter().position(|call| is(call))?;
        at.set(found + 1);
        Some(calls[found])
    };
    let made = next(&is_made)?;
    let first = next(&is_sync)?;
    let asked = next(&is_asked)?;
    let given = next(&is_given)?;
    let executed = next(&is_executed)?;
    let ended = next(&|call: &Call| call.name == "exit" && call.task == executed.task)?;
    let renamed = next(&is_renamed)?;
    let second = next(&is_sync)?;
    let answered = next(&is_answered)?;
    let ends = [
        made.began,
        first.began,
        first.ended,
        asked.ended,
        given.began,
        executed.began,
        ended.began,
        renamed.ended,
        second.began,
        second.ended,
        answered.ended,
    ];
    let begins = std::iter::once(began).chain(ends);
    Some(begins.zip(ends).map(|(begin, end)| end - begin).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(program: &str, task: u32, name: &str, result: i64, at: f64) -> String {
        let number = CALLS.iter().find(|(_, known)| *known == name).unwrap().0;
        let head = |at: f64| format!("     {program}-{task}    [001] .....  {at:.6}");
        let (begin, end) = (head(at), head(at + 0.0005));
        format!("{begin}: sys_enter: NR {number} (b, 7ffc, 0)\n{end}: sys_exit: NR {number} = {result}\n")
    }

    #[test]
    fn a_call_has_a_beginning_and_an_end_in_its_own_task() {
        let text = format!(
            "# tracer: nop\n  bolt-shim-7 [000] d.... 1.000000: sys_enter: NR {number} (3, 0)\n{}  bolt-shim-7 [000] d.... 1.900000: sys_exit: NR {number} = 8\n  true-9 [001] ..... 2.5: sched_process_exit: comm=true pid=9\n",
            lines("tokio-rt-worker", 8, "sendmsg", 120, 1.25),
            number = libc::SYS_sendmsg,
        );
        let found = calls(&text);
        let told: Vec<_> =
            found.iter().map(|call| (call.program.as_str(), call.task, call.name, call.result)).collect();
        assert_eq!(
            told,
            [("tokio-rt-worker", 8, "sendmsg", 120), ("bolt-shim", 7, "sendmsg", 8), ("true", 9, "exit", 0)]
        );
        assert!((found[1].ended - found[1].began - 900.0).abs() < 1e-6, "{found:?}");
        assert_eq!(found[2].began, 2500.0);
    }

    #[test]
    fn the_phases_of_a_whole_execution_are_measured() {
        let landmarks = [
            ("bolt-agent", "recvfrom", 700),
            // Prepared beside the api.
            ("bolt-launch", "recvfrom", 339),
            ("bolt-agent", "renameat2", 0),
            ("bolt-launch", "sendmsg", 1800),
            ("history-write", "fdatasync", 0),
            ("bolt-launch", "recvfrom", 339),
            ("bolt-launch", "sendmsg", 120),
            ("", "exec", 0),
            ("bolt-agent", "mkdirat", 0),
            ("", "exit", 0),
            ("bolt-shim", "renameat", 0),
            ("history-write", "fdatasync", 0),
            ("bolt-agent", "writev", 900),
        ];
        let line = |(index, &(program, name, result)): (usize, &(&str, &str, i64))| {
            let at = index as f64 / 1000.0 + 1.0;
            match name {
                "exec" | "exit" => format!("  true-9  [000] ..... {at:.6}: sched_process_{name}: pid=9\n"),
                _ => lines(program, 1, name, result, at),
            }
        };
        let text: Vec<String> = landmarks.iter().enumerate().map(line).collect();
        let found = executions(&calls(&text.concat()));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].len(), PHASES.len() + 1);
        let whole: f64 = found[0].iter().sum();
        assert!((whole - 12.0).abs() < 1e-6, "{found:?}");
        // Without one of them, there is no execution to measure.
        assert_eq!(executions(&calls(&text[..12].concat())).len(), 0);
    }
}
