//! Processes that an idle shim makes for prepared executions, and that wait for the start.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{PREPARED_FOR, Start};
use serde_json::{Value, json};

use crate::driver::{Host, is_alive, is_root, wait_for};
use crate::preparing::{is_gone, made, prepare};

/// Appends a line to the file `ran` for each time that it runs, and says its process id.
const SCRIPT: &str = "#!/bin/sh\necho ran >>\"$1\"\necho $$\n";

/// A process that waits, and its shim.
struct Waiting {
    request: Start,
    shim: i32,
    pid: i32,
    /// The time of the preparation.
    since: Instant,
}

fn with_action() -> Host {
    let host = Host::new();
    let mut changes = json!({"parameters": {"ran": {"type": "string", "position": 0},
        "token": {"type": "string", "secret": true}}});
    if is_root() {
        // The file that it writes to is of root.
        changes["run_as"] = json!("root");
    }
    host.action("it", SCRIPT, changes);
    host
}

fn parameters(host: &Host) -> Value {
    json!({"ran": host.path("ran"), "token": "canary-of-a-parameter"})
}

fn times_ran(host: &Host) -> usize {
    fs::read_to_string(host.path("ran")).unwrap_or_default().lines().count()
}

/// Returns the children of a process.
fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Returns true if a process waits in a read of a pipe.
fn waits(pid: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split_whitespace().next() == Some("0")
}

/// Prepares executions until one has a process that waits, and time is left to start it.
fn waiting(host: &mut Host) -> Waiting {
    for _ in 0..100 {
        // Its shim is idle afterwards.
        let request = host.request("it", json!({"ran": host.path("ran")}));
        host.started(&request).finished();
        fs::remove_file(host.path("ran")).unwrap();
        let request = host.request("it", parameters(host));
        let since = Instant::now();
        assert_eq!(prepare(host, &request), None);
        while since.elapsed() < PREPARED_FOR / 3 {
            let made = host.shims().into_iter().find_map(|shim| Some((shim, *children(shim).first()?)));
            if let Some((shim, pid)) = made.filter(|(_, pid)| waits(*pid)) {
                return Waiting { request, shim, pid, since };
            }
        }
        is_gone(host, &request);
    }
    panic!("no process waits");
}

/// As [`waiting`], until `attempt` was carried out in time.
fn in_time<T>(host: &mut Host, mut attempt: impl FnMut(&mut Host, &Waiting) -> T) -> (Waiting, T) {
    for _ in 0..50 {
        let waiting = waiting(host);
        let outcome = attempt(host, &waiting);
        if waiting.since.elapsed() < PREPARED_FOR * 3 / 4 {
            return (waiting, outcome);
        }
        is_gone(host, &waiting.request);
        let _ = fs::remove_file(host.path("ran"));
    }
    panic!("nothing was fast enough");
}

#[test]
fn nothing_of_an_action_runs_before_its_start() {
    let mut host = with_action();
    let (waiting, before) = in_time(&mut host, |host, waiting| {
        let program = fs::read_link(format!("/proc/{}/exe", waiting.pid)).unwrap();
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", waiting.pid)).unwrap();
        (program, groups, times_ran(host))
    });
    let (program, groups, ran) = before;
    assert_eq!(program, fs::read_link(format!("/proc/{}/exe", waiting.shim)).unwrap(), "it has executed something");
    assert!(host.enforcement().cgroups == "none" || groups.contains(waiting.request.execution.as_str()), "{groups}");
    assert_eq!(ran, 0);
    assert!(!host.path(&format!("state/exec/{}/lock", waiting.request.execution)).exists(), "it is not claimed");
    is_gone(&host, &waiting.request);
}

#[test]
fn the_process_that_waited_becomes_the_action() {
    let mut host = with_action();
    let (waiting, execution) = in_time(&mut host, |host, waiting| host.started(&waiting.request));
    let ended = execution.finished();
    assert_eq!(ended.stdout().trim(), waiting.pid.to_string());
    assert_eq!((ended.exit.state, times_ran(&host)), (State::Succeeded, 1));
    let started = ended.started.unwrap();
    assert_eq!(started.started_at_ms, ended.exit.started_at_ms);
    is_gone(&host, &waiting.request);
}

#[test]
fn without_a_start_its_process_ends_and_the_shim_stays() {
    let mut host = with_action();
    let waiting = waiting(&mut host);
    is_gone(&host, &waiting.request);
    assert!(!is_alive(&waiting.pid.to_string()), "it still waits");
    assert_eq!((times_ran(&host), host.shims()), (0, vec![waiting.shim]));
    let ended = host.started(&waiting.request).finished();
    assert_eq!((ended.exit.state, times_ran(&host)), (State::Succeeded, 1));
    assert_eq!(host.shims(), [waiting.shim], "the shim is used again");
}

#[test]
fn another_request_than_the_prepared_one_runs_in_a_process_of_its_own() {
    let mut host = with_action();
    let (waiting, execution) = in_time(&mut host, |host, waiting| {
        let mut request = waiting.request.clone();
        request.timeout_ms = Some(5_000);
        host.started(&request)
    });
    let ended = execution.finished();
    assert_ne!(ended.stdout().trim(), waiting.pid.to_string());
    assert_eq!((ended.started.unwrap().timeout_ms, times_ran(&host)), (5_000, 1));
    is_gone(&host, &waiting.request);
}

#[test]
fn a_kill_before_the_start_is_obeyed() {
    let mut host = with_action();
    let (waiting, execution) = in_time(&mut host, |host, waiting| {
        fs::write(host.path(&format!("state/exec/{}/kill", waiting.request.execution)), "").unwrap();
        host.started(&waiting.request)
    });
    assert_eq!((execution.finished().exit.state, times_ran(&host)), (State::Killed, 0));
    is_gone(&host, &waiting.request);
}

#[test]
fn the_process_ends_with_its_launcher() {
    let mut host = with_action();
    let waiting = waiting(&mut host);
    host.kill_launcher();
    for pid in [waiting.pid, waiting.shim] {
        wait_for("the end of the process", || (!is_alive(&pid.to_string())).then_some(()));
    }
    assert_eq!(times_ran(&host), 0);
    assert!(!host.path(&format!("state/exec/{}/lock", waiting.request.execution)).exists());
    host.restart_launcher();
    is_gone(&host, &waiting.request);
    assert_eq!(host.started(&waiting.request).finished().exit.state, State::Succeeded);
    assert_eq!(times_ran(&host), 1);
}

#[test]
fn an_execution_whose_shim_died_while_its_process_waited_is_started_by_another_one() {
    let mut host = with_action();
    let (waiting, execution) = in_time(&mut host, |host, waiting| {
        kill(Pid::from_raw(waiting.shim), Signal::SIGKILL).unwrap();
        while is_alive(&waiting.shim.to_string()) {
            std::thread::yield_now();
        }
        host.started(&waiting.request)
    });
    let ended = execution.finished();
    assert_ne!(ended.stdout().trim(), waiting.pid.to_string());
    assert_eq!((ended.exit.state, times_ran(&host)), (State::Succeeded, 1));
    wait_for("the end of the process", || (!is_alive(&waiting.pid.to_string())).then_some(()));
    is_gone(&host, &waiting.request);
}

#[test]
fn a_shim_that_dies_while_its_process_waits_leaves_nothing() {
    let mut host = with_action();
    let waiting = waiting(&mut host);
    kill(Pid::from_raw(waiting.shim), Signal::SIGKILL).unwrap();
    is_gone(&host, &waiting.request);
    wait_for("the end of the process", || (!is_alive(&waiting.pid.to_string())).then_some(()));
    assert_eq!((times_ran(&host), made(&host, &waiting.request)), (0, Vec::new()));
}

#[test]
fn a_process_that_was_ended_while_it_waited_is_made_again() {
    let mut host = with_action();
    let (waiting, execution) = in_time(&mut host, |host, waiting| {
        kill(Pid::from_raw(waiting.pid), Signal::SIGKILL).unwrap();
        host.started(&waiting.request)
    });
    let ended = execution.finished();
    assert_ne!(ended.stdout().trim(), waiting.pid.to_string());
    assert_eq!((ended.exit.state, times_ran(&host)), (State::Succeeded, 1), "{:?}", ended.exit);
    is_gone(&host, &waiting.request);
}

#[test]
fn a_process_that_waits_has_no_socket_of_its_shim() {
    let mut host = with_action();
    let (_, files) = in_time(&mut host, |_, waiting| {
        let files = fs::read_dir(format!("/proc/{}/fd", waiting.pid)).unwrap();
        let files = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
        files.map(|file| file.display().to_string()).collect::<Vec<_>>()
    });
    let is_expected = |file: &String| file.starts_with("pipe:") || file.starts_with("/memfd:");
    // Three standard ones, the release, the report, the result.
    assert!(files.len() == 6 && files.iter().all(is_expected), "{files:?}");
}

#[test]
fn a_process_that_waits_ends_with_its_shim_while_the_launcher_does_nothing() {
    let mut host = with_action();
    let waiting = waiting(&mut host);
    let launcher = Pid::from_raw(host.launcher_pid().try_into().unwrap());
    kill(launcher, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(waiting.shim), Signal::SIGKILL).unwrap();
    wait_for("the end of the process", || (!is_alive(&waiting.pid.to_string())).then_some(()));
    // Its timer would end it as well, half a minute after it was made.
    let was_by_timer = waiting.since.elapsed() >= Duration::from_secs(25);
    kill(launcher, Signal::SIGCONT).unwrap();
    is_gone(&host, &waiting.request);
    assert_eq!((was_by_timer, times_ran(&host)), (false, 0));
}

#[test]
fn secrets_of_what_was_not_started_are_overwritten() {
    if !is_root() {
        return crate::driver::skipped("secrets_of_what_was_not_started_are_overwritten", "only root reads memory");
    }
    let mut host = with_action();
    let waiting = waiting(&mut host);
    is_gone(&host, &waiting.request);
    wait_for("the process to end", || children(waiting.shim).is_empty().then_some(()));
    // The launcher removes the directory when the shim has reported that it is idle.
    assert!(!has_in_memory(waiting.shim, b"canary-of-a-parameter"));
}

/// Returns true if a writable mapping of a process contains these bytes.
fn has_in_memory(pid: i32, what: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))).any(|line| {
        let range = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [range.0, range.1].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        memory.seek(SeekFrom::Start(from)).unwrap();
        memory.read_exact(&mut bytes).is_ok() && bytes.windows(what.len()).any(|window| window == what)
    })
}
