//! Phases of one execution, from the system calls of api, launcher, shim and action as `perf trace` reports them.
//!
//! ```text
//!  request read ─▶ directory ─▶ commit ─▶ launcher ─▶ claim ─▶ exec ─▶ end ─▶ exit record ─▶ commit ─▶ answer
//! ```
//!
//! The launcher prepares the start, and a shim makes the process, beside the api until the commit: no landmark is taken of that.
//!
//! Tracing costs a microsecond or so for each call: the phases add up to more than the request takes without it.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex_lite::Regex;

/// Calls that mark a phase.
const CALLS: &str =
    "recvfrom,mkdir,mkdirat,fsync,fdatasync,execve,wait4,rename,renameat,renameat2,writev,sendto,sendmsg";

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

/// A traced call.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    /// Milliseconds from the beginning of the trace.
    began: f64,
    ended: f64,
    program: String,
    name: String,
    arguments: String,
    result: i64,
}

/// A running trace of the whole host; it ends when dropped.
#[derive(Debug)]
pub struct Trace(Child);

impl Trace {
    /// Starts to write a trace to `file`; `None` where `perf` is missing or not allowed.
    pub fn start(file: &Path) -> Option<Trace> {
        let mut perf = Command::new("perf");
        perf.args(["trace", "-a", "-e", CALLS, "-o"]).arg(file);
        let mut trace = perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        // Time to begin: perf prints nothing when it is ready.
        std::thread::sleep(Duration::from_secs(1));
        trace.try_wait().ok()?.is_none().then_some(Trace(trace))
    }

    /// Ends it; the file is then complete.
    pub fn stop(mut self) {
        self.interrupt();
    }

    fn interrupt(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT);
        let _ = self.0.wait();
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.interrupt();
    }
}

/// Returns the median of each phase in milliseconds, with its name, and the number of executions.
pub fn medians(file: &Path) -> (Vec<(&'static str, f64)>, usize) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let calls: Vec<Call> = text.lines().filter_map(parse).collect();
    let all = executions(&calls);
    let median = |phase: usize| {
        let mut times: Vec<f64> = all.iter().map(|times| times[phase]).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let names = PHASES.into_iter().chain([LAST]).enumerate();
    (names.map(|(phase, name)| (name, median(phase))).collect(), all.len())
}

fn parse(line: &str) -> Option<Call> {
    static LINE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern =
            r"^\s*([0-9.]+) \(\s*([0-9.]+) ms\): (.+)/[0-9]+ +(?:\.\.\. \[continued\]: )?(\w+)\((.*)\) += (-?[0-9]+)";
        Regex::new(pattern).expect("a valid pattern")
    });
    let found = LINE.captures(line)?;
    let number = |at: usize| found[at].parse::<f64>().ok();
    let began = number(1)?;
    Some(Call {
        began,
        ended: began + number(2)?,
        program: found[3].to_owned(),
        name: found[4].to_owned(),
        arguments: found[5].to_owned(),
        result: found[6].parse().ok()?,
    })
}

/// Returns the times of the phases of each execution of which every landmark was seen.
fn executions(calls: &[Call]) -> Vec<Vec<f64>> {
    let mut calls: Vec<&Call> = calls.iter().collect();
    calls.sort_by(|one, other| one.ended.total_cmp(&other.ended));
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = calls[at..].iter().position(|call| is_request(call)) {
        at += begin + 1;
        if let Some(times) = landmarks(calls[at - 1].ended, &calls[at..]) {
            found.push(times);
        }
    }
    found
}

fn is_request(call: &Call) -> bool {
    call.program == "bolt-agent" && call.name == "recvfrom" && call.result > 100
}

/// Returns the length of each phase of the execution that began at `began`; `calls` are those after it.
fn landmarks(began: f64, calls: &[&Call]) -> Option<Vec<f64>> {
    let is_sync =
        |call: &Call| call.program.starts_with("history") && matches!(call.name.as_str(), "fdatasync" | "fsync");
    // A spare directory is renamed, or one is made.
    let is_made = |call: &Call| {
        call.program == "bolt-agent" && (call.name.starts_with("mkdir") || call.name.starts_with("rename"))
    };
    let is_asked = |call: &Call| call.program == "bolt-launch" && call.name == "recvfrom" && call.result > 100;
    let is_given = |call: &Call| call.program == "bolt-launch" && call.name == "sendmsg" && call.result > 0;
    let is_executed = |call: &Call| call.name == "execve" && call.result == 0;
    let is_reaped = |call: &Call| call.program == "bolt-shim" && call.name == "wait4" && call.result > 0;
    let is_renamed = |call: &Call| call.program == "bolt-shim" && call.name.starts_with("rename");
    let is_answered = |call: &Call| {
        call.program == "bolt-agent" && matches!(call.name.as_str(), "writev" | "sendto") && call.result > 100
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
    let reaped = next(&is_reaped)?;
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
        reaped.began,
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

    #[test]
    fn a_line_is_parsed_whole_or_continued() {
        let line = "  1906.909 ( 0.175 ms): bolt-launch/2285 clone(clone_flags: CHILD_SETTID|0x11, child_tidptr: 0x7e) = 2532 (bolt-launch)";
        let call = parse(line).unwrap();
        assert_eq!((call.program.as_str(), call.name.as_str(), call.result), ("bolt-launch", "clone", 2532));
        assert!((call.ended - 1907.084).abs() < 1e-6, "{call:?}");
        let line = "  1851.369 ( 0.024 ms): bolt-agent/2288  ... [continued]: recvfrom())                                         = 1455";
        assert_eq!(parse(line).map(|call| (call.name, call.result)), Some(("recvfrom".to_owned(), 1455)));
        assert_eq!(parse("     ? (         ): bolt-shim/2533  ... [continued]: clone3())    = 0"), None);
        assert_eq!(parse("  1851.369 (         ): bolt-agent/2288 recvfrom(fd: 18, size: 4096) ..."), None);
    }

    #[test]
    fn the_phases_of_a_whole_execution_are_measured() {
        let landmarks = [
            ("bolt-agent", "recvfrom", 700),
            // Prepared beside the api.
            ("bolt-launch", "recvfrom", 339),
            ("bolt-agent", "rename", 0),
            ("bolt-launch", "sendmsg", 1800),
            ("history-write", "fdatasync", 0),
            ("bolt-launch", "recvfrom", 339),
            ("bolt-launch", "sendmsg", 120),
            ("bolt-shim", "execve", 0),
            ("bolt-agent", "mkdir", 0),
            ("bolt-shim", "wait4", 8),
            ("bolt-shim", "renameat", 0),
            ("history-write", "fdatasync", 0),
            ("bolt-agent", "writev", 900),
        ];
        let line = |(index, (program, name, result)): (usize, &(&str, &str, i64))| {
            format!("{}.900 ( 0.500 ms): {program}/1 {name}(fd: 1) = {result}", index + 1)
        };
        let lines: Vec<String> = landmarks.iter().enumerate().map(line).collect();
        let calls: Vec<Call> = lines.iter().filter_map(|line| parse(line)).collect();
        assert_eq!(calls.len(), landmarks.len());
        let found = executions(&calls);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].len(), PHASES.len() + 1);
        let whole: f64 = found[0].iter().sum();
        assert!((whole - 12.0).abs() < 1e-6, "{found:?}");
        // Without one of them, there is no execution to measure.
        assert_eq!(executions(&calls[..12]).len(), 0);
    }
}
