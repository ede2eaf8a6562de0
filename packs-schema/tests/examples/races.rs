//! Tests of `linux` with files and processes that vanish while they are read, and with a deadline that has passed.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{action, can_be_alone};
use crate::linux::{end, row, started, waiting};
use crate::python::altered;
use crate::service::programs;

/// Removes what has `vanishing` in its name when it is listed, and directories with `leaving` at the end of the list.
const VANISHING: &str = "import os\nscandir = os.scandir\nclass Vanishing:\n\
    \x20 def __init__(self, place):\n    self.place, self.entries, self.leaving = place, scandir(place), []\n\
    \x20 def __enter__(self):\n    return self\n\
    \x20 def __iter__(self):\n    return self\n\
    \x20 def __next__(self):\n    entry = next(self.entries)\n\
    \x20   if 'vanishing' in os.fsdecode(entry.name):\n      self.remove(os.unlink, entry)\n\
    \x20   if 'leaving' in os.fsdecode(entry.name):\n      self.leaving.append(entry)\n\
    \x20   return entry\n\
    \x20 def remove(self, how, entry):\n\
    \x20   how(entry.name, dir_fd=self.place) if isinstance(self.place, int) else how(entry.path)\n\
    \x20 def __exit__(self, *_):\n    self.entries.close()\n\
    \x20   for entry in self.leaving:\n      self.remove(os.rmdir, entry)\n\
    os.scandir = Vanishing";

/// Collects a process as soon as it has ended.
fn collected(mut child: Child) -> JoinHandle<()> {
    std::thread::spawn(move || {
        // `wait` would close it first, and the process ends at the end of its input.
        let _input = child.stdin.take();
        drop(child.wait());
    })
}

#[test]
fn a_log_that_vanishes_does_not_hide_the_others() {
    let (bin, place) = (altered(VANISHING), TempDir::new().unwrap());
    let at = |name: &str| place.path().join(name);
    for name in ["a.log", "vanishing.log", "z.log"] {
        fs::write(at(name), vec![1; 9000]).unwrap();
        let then = SystemTime::now() - Duration::from_secs(30 * 86_400);
        fs::File::open(at(name)).unwrap().set_modified(then).unwrap();
    }
    fs::create_dir(at("leaving")).unwrap();
    let run = action("linux.free_disk_space", json!({"older_than_days": 7, "patterns": ["*.log"]}));
    let ended = run.config(json!({"log_directories": [place.path()]})).programs(bin.path()).go().well();
    assert!(!at("vanishing.log").exists() && !at("leaving").exists(), "they vanished as intended");
    assert_eq!((&ended.result["candidates"], &ended.result["skipped"]), (&json!(2), &json!([])), "{}", ended.result);
}

#[test]
fn a_core_dump_that_vanishes_does_not_hide_the_others() {
    let (bin, place) = (altered(VANISHING), TempDir::new().unwrap());
    for name in ["core.a.1", "core.vanishing.2", "core.z.3"] {
        fs::write(place.path().join(name), "x").unwrap();
    }
    let run = action("linux.core_dumps", json!({"top": 200})).config(json!({"core_directories": [place.path()]}));
    let ended = run.programs(bin.path()).go().well();
    let here = |row: &&Value| row["file"].as_str().unwrap().contains(place.path().to_str().unwrap());
    assert_eq!(ended.result["dumps"].as_array().unwrap().iter().filter(here).count(), 2, "{}", ended.result);
}

#[test]
fn a_directory_that_vanishes_is_not_unreadable() {
    let (bin, place) = (altered(VANISHING), TempDir::new().unwrap());
    fs::create_dir(place.path().join("leaving")).unwrap();
    fs::create_dir(place.path().join("stays")).unwrap();
    let ended = action("linux.inode_hogs", json!({"path": place.path()})).programs(bin.path()).go().well();
    assert!(!place.path().join("leaving").exists());
    assert_eq!((&ended.result["unreadable_directories"], &ended.result["entries"]), (&json!(0), &json!(2)));
}

#[test]
fn a_process_that_ends_while_it_is_sampled_keeps_its_samples() {
    let child = Command::new("sleep").arg("2").spawn().unwrap();
    let parameters = json!({"pid": child.id(), "started": started(child.id()), "seconds": 10});
    let collector = collected(child);
    let ended = action("linux.sample_process", parameters).go().well();
    collector.join().unwrap();
    assert_eq!(ended.result["ended"], true);
    assert!(ended.result["threads"][0]["samples"].as_u64().unwrap() >= 1, "{}", ended.result);
}

#[test]
fn threads_that_cannot_be_listed_end_the_sample() {
    let child = waiting("");
    let gone_after = |times: u32| {
        altered(&format!(
            "import os\nlistdir, calls = os.listdir, []\ndef ending(path):\n\
             \x20 calls.append(path)\n  if len(calls) > {times}:\n    raise FileNotFoundError(2, 'No such file or directory')\n\
             \x20 return listdir(path)\nos.listdir = ending"
        ))
    };
    let sample = || action("linux.sample_process", json!({"pid": child.id(), "seconds": 1}));
    sample().programs(gone_after(0).path()).go().error(2, "the process ended before it could be sampled");
    let ended = sample().programs(gone_after(2).path()).go().well();
    assert_eq!(ended.result["threads"][0]["samples"], 2);
    end(child);
}

#[test]
fn the_report_about_a_process_that_has_ended_is_kept() {
    let child = waiting("");
    let pid = child.id();
    let parameters = json!({"pid": pid, "started": started(pid), "seconds": 1, "method": "strace"});
    let timeout = format!(
        "kill -KILL {pid}\nwhile [[ -e /proc/{pid} ]]; do sleep 0.01; done\necho ' 90.00 0.1 1 1 openat' >&2\nexit 0\n"
    );
    let collector = collected(child);
    let bin = programs(&[("timeout", &timeout), ("strace", "")]);
    let ended = action("linux.sample_process", parameters).programs(bin.path()).go().well();
    collector.join().unwrap();
    assert_eq!(ended.result["ended"], true);
    assert_eq!(ended.result["report"], json!([" 90.00 0.1 1 1 openat"]));
}

#[test]
fn failed_units_are_listed_after_the_deadline_without_their_logs() {
    let systemctl = "case \"$*\" in\nis-system-running) echo degraded ;;\n\
        list-units*) printf 'a.service loaded failed failed A\\nb.service loaded failed failed B\\n' ;;\n\
        show*) sleep 20 ;;\nesac\n";
    let bin = programs(&[("systemctl", systemctl), ("journalctl", "sleep 20\n")]);
    let ended = action("linux.failed_units", json!({})).deadline(1).programs(bin.path()).go().well();
    assert_eq!(ended.result["complete"], false);
    let units = ended.result["units"].as_array().unwrap();
    assert_eq!(units.iter().map(|unit| &unit["unit"]).collect::<Vec<_>>(), ["a.service", "b.service"]);
    assert_eq!((&units[0]["result"], &units[0]["log"]), (&json!(""), &json!([])));
    assert!(ended.stdout.contains("a.service: reason unknown"), "{}", ended.stdout);
}

#[test]
fn lists_of_processes_say_that_the_deadline_was_reached() {
    for name in ["linux.memory_hogs", "linux.descriptor_use"] {
        let ended = action(name, json!({})).deadline(1).go().well();
        assert_eq!(ended.result["complete"], false, "{name}");
        assert!(ended.stdout.contains("INCOMPLETE"), "{}", ended.stdout);
        assert_eq!(action(name, json!({})).go().well().result["complete"], true, "{name}");
    }
}

#[test]
fn a_process_that_holds_memory_is_among_the_largest() {
    let held: u64 = 96 << 20;
    let program = format!("import os\nheld = b\"x\" * {held}\nprint(1, flush=True)\nos.read(0, 1)");
    let child = waiting(&format!("exec python3 -c '{program}'"));
    let ended = action("linux.memory_hogs", json!({"top": 100})).go().well();
    let hog = row(&ended.result["hogs"], "pid", &json!(child.id()));
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap();
    assert!(number(hog, "private_bytes") + number(hog, "swap_bytes") >= held, "{hog}");
    assert!(number(hog, "peak_bytes") >= held && number(hog, "pss_bytes") < 2 * held, "{hog}");
    for pair in ended.result["hogs"].as_array().unwrap().windows(2) {
        let first = number(&pair[0], "pss_bytes") + number(&pair[0], "swap_bytes");
        assert!(first >= number(&pair[1], "pss_bytes"), "{} before {}", pair[0], pair[1]);
    }
    end(child);
}

#[test]
fn processes_without_memory_are_not_unreadable() {
    if !can_be_alone("processes_without_memory_are_not_unreadable") {
        return;
    }
    // A zombie has no memory, as a thread of the kernel; in a pid namespace it is beside the action only.
    let zombie = "import os\nchild = os.fork() or os._exit(0)\nos.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)";
    let ended = action("linux.memory_hogs", json!({})).programs(altered(zombie).path()).alone().go().well();
    assert_eq!((&ended.result["processes"], &ended.result["not_readable"]), (&json!(1), &json!(0)));
}

#[test]
fn a_process_that_waits_in_the_kernel_is_listed() {
    // A parent waits uninterruptibly, as for a disk, until the child of vfork(2) executes or ends; SIGKILL ends it.
    let program = "import ctypes\nlibc = ctypes.CDLL(None)\nstack = ctypes.create_string_buffer(1 << 16)\n\
        top = ctypes.addressof(stack) + (1 << 16) & ~15\n\
        libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), ctypes.c_void_p(top), 0x4000 | 17, None)";
    let mut child = Command::new("python3").args(["-c", program]).process_group(0).spawn().unwrap();
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
    assert_eq!((&row["started"], &row["ppid"]), (&json!(start), &json!(std::process::id())), "{row}");
    assert!(row["name"].as_str().unwrap().starts_with("python3"), "{row}");
}

#[test]
fn a_process_is_ended_without_a_pidfd_after_another_check() {
    let without = "import os, signal\nfor place, name in ((os, 'pidfd_open'), (signal, 'pidfd_send_signal')):\n\
        \x20 if hasattr(place, name):\n    delattr(place, name)";
    let child = waiting("");
    let pid = child.id();
    let parameters = json!({"pid": pid, "started": started(pid)});
    // The second time that its start time is read, right before the signal, the pid is that of another process.
    let reused = format!(
        "{without}\nopened, calls = os.open, []\ndef reused(path, *rest, **more):\n\
         \x20 if path == '/proc/{pid}/stat':\n    calls.append(path)\n\
         \x20   if len(calls) == 2:\n      path = '/proc/{}/stat'\n\
         \x20 return opened(path, *rest, **more)\nos.open = reused",
        std::process::id()
    );
    let kill = |bin: &TempDir| action("linux.kill_process", parameters.clone()).programs(bin.path()).go();
    kill(&altered(&reused)).error(2, "is another one now");
    assert_eq!(parameters["started"], started(pid), "it still runs");
    let collector = collected(child);
    assert_eq!(kill(&altered(without)).well().result["outcome"], "terminated");
    collector.join().unwrap();
}
