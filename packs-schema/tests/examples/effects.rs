//! Effects and measurements of `linux` on real counters, logs and caches: those of the host, or some that are mounted in a
//! namespace in their place.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{action, can_be_alone, have, skip};
use crate::service::programs;

/// Program that writes and syncs a file, a megabyte at a time, until it is killed.
const WRITER: &str = "import os,sys\nfd=os.open(sys.argv[1],os.O_CREAT|os.O_WRONLY,0o600)\nwhile True:\n  os.pwrite(fd,b'x'*(1<<20),0)\n  os.fsync(fd)\n";

#[test]
fn the_process_that_writes_most_is_named() {
    if fs::read("/proc/self/io").is_err() {
        return skip("the_process_that_writes_most_is_named", "this kernel does not count the I/O of processes");
    }
    if fs::read_to_string("/proc/diskstats").unwrap_or_default().is_empty() {
        return skip("the_process_that_writes_most_is_named", "this host has no block device");
    }
    // Temporary directories may be in memory, which no device sees.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut writer = Command::new("python3").args(["-c", WRITER]).arg(place.path().join("file")).spawn().unwrap();
    let pid = writer.id();
    let written = |row: &&Value| row["written_bytes"].as_u64().unwrap() >= 1 << 20;
    let found = (0..20).find_map(|_| {
        let ended = action("linux.io_activity", json!({"seconds": 1, "top": 100})).go().well();
        let rows = |key: &str| ended.result[key].as_array().unwrap().clone();
        let process = rows("processes").iter().filter(written).find(|row| row["pid"] == pid).cloned()?;
        let device = rows("devices").iter().find(written).cloned()?;
        Some((process, device))
    });
    writer.kill().unwrap();
    writer.wait().unwrap();
    let (process, device) = found.expect("the writer and its device are among the busiest");
    assert!(process["name"].as_str().unwrap().starts_with("python3"), "{process}");
    let busy = device["busy_percent"].as_f64().unwrap();
    assert!(busy > 0.0 && busy <= 100.0, "{device}");
    assert!(device["writes"].as_u64() > Some(0) && !device["device"].as_str().unwrap().is_empty(), "{device}");
}

#[test]
fn a_socket_that_is_not_read_shows_as_growing_errors() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    let sends = AtomicBool::new(true);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            while sends.load(Ordering::Relaxed) {
                for _ in 0..200 {
                    let _ = sender.send_to(&[0; 8192], address);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // The buffer is full before the first sample, or at the latest in a later one.
        let found = (0..20).find_map(|_| {
            let ended = action("linux.network_errors", json!({"seconds": 0.5})).go().well();
            (ended.result["growth"]["Udp.RcvbufErrors"].as_u64() > Some(0)).then_some(ended.result)
        });
        sends.store(false, Ordering::Relaxed);
        found
    });
    let result = result.expect("errors grew");
    assert_eq!(result["growing"], true);
    let rows = result["interfaces"].as_array().unwrap();
    let loopback = rows.iter().find(|row| row["name"] == "lo").unwrap();
    assert!(loopback["received_bytes"].as_u64().unwrap() > 8192, "{loopback}");
}

#[test]
fn kernel_problems_are_read_from_the_journal_where_the_device_cannot_be_opened() {
    if !can_be_alone("kernel_problems_are_read_from_the_journal_where_the_device_cannot_be_opened") {
        return;
    }
    let place = TempDir::new().unwrap();
    let socket = place.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let log = "1700000000.5 h kernel: Out of memory: Killed process 42 (big) total-vm:1kB\n\
               1700000001.0 h kernel: Out of memory: Kill process 1234 (java) score 900 or sacrifice child\n\
               1700000001.0 h kernel: Killed process 1234 (java) total-vm:9kB, anon-rss:8kB, file-rss:0kB\n\
               1700000002.0 h kernel: INFO: task dd:77 blocked for more than 120 seconds.\n";
    let bin = programs(&[("journalctl", &format!("cat <<'END'\n{log}END\n"))]);
    // Opening a socket fails for every account.
    let instead = format!("[ ! -e /dev/kmsg ] || mount --bind '{}' /dev/kmsg", socket.display());
    let ended = action("linux.kernel_log", json!({})).programs(bin.path()).after(&instead).go().well();
    drop(listener);
    assert_eq!(ended.result["source"], "journalctl -k");
    assert_eq!(ended.result["counts"], json!({"oom": 3, "hung": 1}));
    // Linux 4.14 writes the victim on a line of its own.
    let victims = json!([
        {"time": "2023-11-14T22:13:20Z", "pid": 42, "name": "big"},
        {"time": "2023-11-14T22:13:21Z", "pid": 1234, "name": "java"}
    ]);
    assert_eq!(ended.result["oom_killed"], victims);
}

#[test]
fn caches_are_dropped_as_asked() {
    if !can_be_alone("caches_are_dropped_as_asked") {
        return;
    }
    let place = TempDir::new().unwrap();
    let control = place.path().join("control");
    for (caches, written) in [("page", "1\n"), ("slab", "2\n"), ("both", "3\n")] {
        fs::write(&control, "").unwrap();
        let instead = format!("mount --bind '{}' /proc/sys/vm/drop_caches", control.display());
        let ended = action("linux.drop_caches", json!({"caches": caches})).after(&instead).go().well();
        assert_eq!(
            (ended.result["noop"].clone(), fs::read_to_string(&control).unwrap().as_str()),
            (json!(false), written)
        );
        assert!(ended.result["cached_before"].as_u64() > Some(0) && ended.result["cached_after"].as_u64() > Some(0));
    }
}

#[test]
fn the_cache_of_apt_is_cleaned_by_apt() {
    let test = "the_cache_of_apt_is_cleaned_by_apt";
    if !have(test, "apt-get") || !can_be_alone(test) {
        return;
    }
    if !fs::exists("/var/cache/apt/archives").unwrap() {
        return skip(test, "apt has no cache on this host");
    }
    let (place, lists) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let cached = place.path().join("tool_1.0_all.deb");
    // In the namespace the account of apt's own downloads does not exist, and its directories cannot be read.
    let instead = format!(
        "mount --bind '{}' /var/cache/apt/archives\nmount --bind '{}' /var/lib/apt/lists",
        place.path().display(),
        lists.path().display()
    );
    let clean = || action("linux.clean_package_cache", json!({})).after(&instead);
    fs::write(&cached, vec![1; 1 << 20]).unwrap();
    let size = json!(1 << 20);
    let dry = clean().noop().go().well();
    assert_eq!((&dry.result["files"], &dry.result["bytes_reclaimed"]), (&json!(1), &size));
    assert!(cached.exists(), "a dry run removes nothing");
    let ended = clean().go().well();
    assert_eq!((&ended.result["bytes_reclaimed"], &ended.result["bytes_after"]), (&size, &json!(0)));
    assert!(!cached.exists());
}

#[test]
fn a_busy_process_is_sampled_by_strace_and_perf() {
    let test = "a_busy_process_is_sampled_by_strace_and_perf";
    let mut busy =
        Command::new("/bin/bash").args(["-c", "while :; do : >/dev/null; done"]).stdin(Stdio::null()).spawn().unwrap();
    let sample =
        |method: &str| action("linux.sample_process", json!({"pid": busy.id(), "seconds": 1, "method": method})).go();
    let mut seen = Vec::new();
    for (method, word) in [("strace", "openat"), ("perf", "bash")] {
        if !have(test, method) {
            continue;
        }
        let ended = sample(method);
        // Containers forbid both.
        let forbidden = ended.status == Some(1) && ended.stderr.to_lowercase().contains("permi");
        seen.push((method, word, ended, forbidden));
    }
    busy.kill().unwrap();
    busy.wait().unwrap();
    for (method, word, ended, forbidden) in seen {
        if forbidden {
            skip(test, &format!("this host forbids {method}: {}", ended.stderr.trim()));
            continue;
        }
        let ended = ended.well();
        let report: Vec<&Value> = ended.result["report"].as_array().unwrap().iter().collect();
        assert!(report.iter().any(|line| line.as_str().unwrap().contains(word)), "{method}: {report:?}");
    }
}
