//! Tests of actions on hosts in the state in which they are needed: without space for a temporary file, with programs that hang,
//! more failures than are listed, a time server that is gone.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{action, python};
use crate::python::altered;
use crate::service::{programs, script};

/// As on a host whose disk is full or read-only, so that no directory takes the file with which Python tries them.
pub(crate) const NO_SPACE: &str = "import tempfile\ndef full(*_):\n  raise FileNotFoundError(2, 'No usable temporary directory found')\n\
    tempfile._get_default_tempdir = full";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn programs_are_run_without_space_for_a_temporary_file() {
    let bin = altered(NO_SPACE);
    script(bin.path(), "apt-get", "echo 'Inst bash [5.1] (5.2 Debian:12/stable [amd64])'\n");
    let ended = action("linux.pending_updates", json!({})).programs(bin.path()).go().well();
    assert_eq!(ended.result["count"], 1);
    // Statements for psql are its input.
    script(
        bin.path(),
        "psql",
        "case $(cat) in\n*server_version_num*) echo '[{\"version\": 150000}]' ;;\n*) echo '[]' ;;\nesac\n",
    );
    let ended = action("postgres.locks", json!({})).programs(bin.path()).go().well();
    assert_eq!(ended.result["waiting"], 0);
    script(bin.path(), "perf", "true\n");
    let parameters = json!({"pid": std::process::id(), "seconds": 1, "method": "perf"});
    action("linux.sample_process", parameters).programs(bin.path()).go().error(1, "there is no place for the samples");
}

#[test]
fn a_program_may_end_without_reading_its_input() {
    let program = "import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True\nfrom lib import tool\n\
        print(tool.run(['head', '-c', '3'], 60, b'x' * 3000000)[1], len(tool.run(['cat'], 60, b'x' * 3000000)[1]))";
    let mut command = std::process::Command::new(python());
    let actions = crate::driver::directory("linux").join("actions");
    let output = command.args(["-c", program]).arg(actions).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text, "b'xxx' 3000000\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_program_that_hangs_is_ended_with_what_it_started() {
    let systemctl = "case $1 in\nis-system-running) echo running ;;\n\
        show) printf 'LoadState=loaded\\nActiveState=active\\nSubState=running\\nMainPID=7\\n' ;;\nesac\n";
    // The shell waits for a process that holds the pipe as well.
    let bin = programs(&[("systemctl", systemctl), ("journalctl", "sleep 90\ntrue\n")]);
    let began = Instant::now();
    let status = action("linux.service_status", json!({"service": "app"})).programs(bin.path()).deadline(now() + 10);
    let ended = status.go().well();
    assert!(began.elapsed() < Duration::from_secs(60), "it ended only with what hangs");
    assert_eq!((&ended.result["state"], &ended.result["log"]), (&json!("active"), &json!([])));
}

#[test]
fn more_failed_units_than_are_listed_are_counted() {
    let systemctl = "case \"$*\" in\nis-system-running) echo degraded ;;\n\
        list-units*) for n in {1..60}; do echo \"app@$n.service loaded failed failed A\"; done ;;\nesac\n";
    let bin = programs(&[("systemctl", systemctl)]);
    let ended = action("linux.failed_units", json!({"lines": 0})).programs(bin.path()).go().well();
    assert_eq!((&ended.result["failed"], &ended.result["complete"]), (&json!(60), &json!(false)));
    assert_eq!(ended.result["units"].as_array().unwrap().len(), 50);
    assert!(ended.stdout.starts_with("60 failed units; "), "{}", ended.stdout);
}

#[test]
fn directories_beyond_what_memory_holds_make_the_search_incomplete() {
    let place = TempDir::new().unwrap();
    // A cache with a directory for each entry; what is listed is not there when it is read.
    let many = format!(
        "import os\nscandir, place = os.scandir, os.fsencode('{}')\nclass Entry:\n  __slots__ = ('path',)\n\
         \x20 def is_dir(self, follow_symlinks):\n    return True\nclass Many:\n\
         \x20 def __init__(self, path):\n    self.path = path\n\
         \x20 def __enter__(self):\n    return self\n  def __exit__(self, *_):\n    pass\n\
         \x20 def __iter__(self):\n    for n in range(900000):\n      entry = Entry()\n\
         \x20     entry.path = b'%s/%060d' % (place, n)\n      yield entry\nos.scandir = Many",
        place.path().display()
    );
    let ended = action("linux.inode_hogs", json!({"path": place.path()})).programs(altered(&many).path()).go().well();
    assert_eq!((&ended.result["complete"], &ended.result["entries"]), (&json!(false), &json!(900_000)));
    assert_eq!(ended.result["directories"][0]["entries"], 900_000);
}

#[test]
fn a_chrony_that_no_server_answers_does_not_know_the_time() {
    let tracking = |ago: u64, slow: &str, leap: &str| {
        let line = format!("A9FEA97B,169.254.169.123,4,{}.5,{slow},0,0,0,0,0,0,0,64.2,{leap}", now() - ago);
        programs(&[("chronyc", &format!("[[ $* != *tracking ]] || echo '{line}'\n"))])
    };
    for (ago, slow, leap, known) in [
        (10, "0.000000000", "Normal", true),
        (90_000, "0.000000000", "Normal", false),
        (10, "0.000000000", "Not synchronised", false),
        // The clock is a day ahead, so that a fresh answer looks old.
        (86_400, "-86400.0", "Normal", true),
    ] {
        let bin = tracking(ago, slow, leap);
        let health = action("linux.clock_health", json!({"max_offset_ms": 500})).programs(bin.path()).go();
        assert_eq!(health.result["offset_known"], known, "{ago} {leap}: {}", health.result);
        // Whatever the kernel says: without rtcsync, chrony does not tell it.
        assert_eq!(health.status, Some(i32::from(!known || slow != "0.000000000")), "{ago} {leap}: {}", health.result);
        let fixed =
            action("linux.fix_clock", json!({"wait": 1, "max_step_seconds": 100_000})).programs(bin.path()).go();
        let outcome = if known && slow == "0.000000000" { "synchronized" } else { "not_synchronized" };
        assert_eq!(fixed.result["outcome"], Value::from(outcome), "{ago} {leap}");
    }
}
