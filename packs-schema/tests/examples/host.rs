//! Tests of `linux.top_processes`, `sockets`, `memory_pressure` and `kernel_log` on the host that runs the tests.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{action, have, skip};

/// Memory of a named process, enough to be among the largest on a busy host.
const HELD: usize = 96 << 20;

/// Process with a chosen name, killed when dropped.
struct Named(Child);

impl Named {
    fn new(name: &str, directory: &Path) -> Named {
        // The kernel names a process after its executable file; tail keeps input that it may have to print.
        let program = directory.join(name);
        std::fs::copy("/usr/bin/tail", &program).unwrap();
        let bytes = HELD.to_string();
        let mut child =
            Command::new(&program).args(["-c", &bytes]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // Once it has read its input, except what fits into the pipe, it has executed tail.
        child.stdin.as_mut().unwrap().write_all(&vec![0; HELD]).unwrap();
        Named(child)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_cannot_forge_output_by_its_name() {
    let directory = TempDir::new().unwrap();
    let named = Named::new("a) R 1\n\u{1b}[2J\"x", directory.path());
    let ended = action("linux.top_processes", json!({"top": 100, "seconds": 0.1, "arguments": true})).go().well();
    let rows = ended.result["by_memory"].as_array().unwrap();
    let row = rows.iter().find(|r| r["pid"] == named.0.id()).expect("it is among the largest");
    assert!(row["rss_bytes"].as_u64().unwrap() > HELD as u64 / 2, "{row}");
    assert_eq!(row["name"], "a) R 1\\x0a\\x1b[2J\"x");
    assert_eq!(row["ppid"], std::process::id(), "what follows the name is still read rightly");
    assert!(row["arguments"].as_str().unwrap().contains("a) R 1\\x0a\\x1b[2J\"x -c "));
}

#[test]
fn command_lines_are_shown_only_when_asked_for() {
    let ended = action("linux.top_processes", json!({"seconds": 0.1})).go().well();
    let rows = ended.result["by_memory"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|r| r.get("arguments").is_none()));
    assert!(rows.len() <= 10);
}

#[test]
fn a_listener_and_a_connection_are_seen_with_their_process() {
    if !have("a_listener_and_a_connection_are_seen_with_their_process", "python3") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.write_all(&[0; 1000]).unwrap();
    let mut peeked = [0; 1000];
    while server.peek(&mut peeked).unwrap() < 1000 {}
    let ended = action("linux.sockets", json!({"top": 100})).go().well();
    let listening = ended.result["listening"].as_array().unwrap();
    let row = listening.iter().find(|l| l["port"] == port).unwrap_or_else(|| panic!("{listening:?}"));
    assert_eq!((&row["address"], &row["pid"]), (&json!("127.0.0.1"), &json!(std::process::id())));
    let processes = ended.result["processes"].as_array().unwrap();
    let own = processes.iter().find(|p| p["pid"] == std::process::id()).unwrap_or_else(|| panic!("{processes:?}"));
    assert!(own["states"]["established"].as_u64().unwrap() >= 2, "{own}");
    assert!(own["receive_queue_bytes"].as_u64().unwrap() >= 1000, "{own}");
    assert!(ended.result["states"]["tcp established"].as_u64().unwrap() >= 2);
}

#[test]
fn memory_adds_up() {
    let ended = action("linux.memory_pressure", json!({"near_percent": 1, "top": 5})).go().well();
    let number = |key: &str| ended.result[key].as_u64().unwrap();
    assert!(number("total") > 0 && number("available") <= number("total"), "{}", ended.result);
    assert_eq!(number("available_percent"), number("available") * 100 / number("total"));
    assert!(ended.result["cgroups"].as_array().unwrap().len() <= 5);
}

#[test]
fn the_kernel_log_is_read_or_its_absence_explained() {
    let ended = action("linux.kernel_log", json!({"lines": 5})).go();
    match ended.status {
        Some(0) => assert!(ended.result["excerpts"].as_array().unwrap().len() <= 5),
        _ => drop(ended.refused(3, "the kernel log cannot be read: ")),
    }
}

#[test]
fn kernel_problems_are_classified() {
    // journalctl is used only if /dev/kmsg cannot be read.
    if std::fs::File::open("/dev/kmsg").is_ok() {
        return skip("kernel_problems_are_classified", "/dev/kmsg is readable, so no recorded log is read");
    }
    let log = [
        "1700000000.5 host kernel: Out of memory: Killed process 42 (ev\u{1b}il) total-vm:1kB, anon-rss:1kB",
        "1700000001.0 host kernel: blk_update_request: I/O error, dev nvme1n1, sector 7",
        "1700000002.0 host kernel: INFO: task dd:77 blocked for more than 120 seconds.",
        "1700000003.0 host kernel: eth0: all is well",
    ];
    let bin = crate::service::programs(&[("journalctl", &format!("cat <<'END'\n{}\nEND\n", log.join("\n")))]);
    let ended = action("linux.kernel_log", json!({})).programs(bin.path()).go().well();
    assert_eq!(ended.result["counts"], json!({"oom": 1, "io": 1, "hung": 1}));
    assert_eq!(ended.result["oom_killed"], json!([{"time": "2023-11-14T22:13:20Z", "pid": 42, "name": "ev\\x1bil"}]));
    let texts: Vec<&Value> = ended.result["excerpts"].as_array().unwrap().iter().map(|e| &e["kind"]).collect();
    assert_eq!(texts, ["oom", "io", "hung"]);
}
