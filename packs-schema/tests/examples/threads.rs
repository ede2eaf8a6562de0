//! Tests of `linux` on processes of which only some threads have ended or wait, and on names that the kernel cuts.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action};
use crate::linux::{end, started};

/// Ends its first thread, and goes on in another one until its input ends. Python itself would end with the first.
const FIRST_THREAD_ENDS: &str = "import ctypes, os, signal, threading\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
    threading.Thread(target=lambda: os.read(0, 1)).start()\nprint('ready', flush=True)\n\
    ctypes.CDLL(None).syscall({'x86_64': 60}.get(os.uname().machine, 93), 0)";

/// Waits uninterruptibly in a second thread, as for a disk, until the child of vfork(2) executes or ends; see vfork(2).
const SECOND_THREAD_WAITS: &str = "import ctypes, os, threading\nlibc = ctypes.CDLL(None)\n\
    stack = ctypes.create_string_buffer(1 << 16)\ntop = ctypes.addressof(stack) + (1 << 16) & ~15\n\
    threading.Thread(target=lambda: libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), ctypes.c_void_p(top), 0x4000 | 17, None)).start()\n\
    print('ready', flush=True)\nos.read(0, 1)";

/// Starts Python with this program, and waits until it says that it is ready.
fn python(program: &str) -> Child {
    let mut command = Command::new("python3");
    command.args(["-c", program]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    child
}

fn kill(child: &Child, more: Value) -> Run {
    let mut parameters = json!({"pid": child.id(), "started": started(child.id()), "wait": 1});
    parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    action("linux.kill_process", parameters)
}

/// Waits until the process has this state in /proc, which is that of its first thread.
fn wait_for_state(child: &Child, state: &str) {
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let began = std::time::Instant::now();
    while !stat().rsplit_once(") ").unwrap().1.starts_with(state) {
        assert!(began.elapsed().as_secs() < 60, "{}", stat());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_process_whose_first_thread_has_ended_is_no_zombie() {
    let child = python(FIRST_THREAD_ENDS);
    wait_for_state(&child, "Z");
    let sampled = action("linux.sample_process", json!({"pid": child.id(), "seconds": 1})).go().well();
    assert_eq!(sampled.result["ended"], false);
    assert_eq!(kill(&child, json!({})).go().refused(1, "kill=true").result["outcome"], "still_running");
    assert_eq!(kill(&child, json!({"kill": true})).go().well().result["outcome"], "killed");
    kill(&child, json!({})).go().error(2, "is a zombie");
    end(child);
}

#[test]
fn a_process_with_one_thread_that_waits_in_the_kernel_is_listed() {
    let mut child = python(SECOND_THREAD_WAITS);
    let (id, start) = (json!(child.id()), started(child.id()));
    let found = (0..20).find_map(|_| {
        let ended = action("linux.stuck_processes", json!({"seconds": 0.2, "top": 100})).go().well();
        ended.result["waiting"].as_array().unwrap().iter().find(|row| row["pid"] == id).cloned()
    });
    // The child that is not executed is in the same group.
    let group = format!("kill -KILL -- -{}", child.id());
    assert!(Command::new("/bin/bash").args(["-c", &group]).status().unwrap().success());
    child.wait().unwrap();
    let row = found.expect("it waits in both samples");
    assert_eq!((&row["started"], &row["threads"]), (&json!(start), &json!(1)), "{row}");
}

#[test]
fn a_name_that_the_kernel_cuts_is_protected_by_its_full_name() {
    let place = TempDir::new().unwrap();
    let program = place.path().join("very-important-service");
    std::fs::copy("/bin/bash", &program).unwrap();
    let mut child = Command::new(&program).args(["-c", "read -r _"]).stdin(Stdio::piped()).spawn().unwrap();
    let refused = |pattern: &str| kill(&child, json!({})).config(json!({"kill_refused": [pattern]})).noop().go();
    for pattern in ["very-important-service", "very-important-serv*", "*-service", "very-important-*"] {
        refused(pattern).error(2, "very-important- is not ended by this action");
    }
    for pattern in ["very-important-task", "*-tasks", "important-service"] {
        // The first is cut to the same name.
        let status = if pattern == "very-important-task" { 2 } else { 0 };
        assert_eq!(refused(pattern).status, Some(status), "{pattern}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
