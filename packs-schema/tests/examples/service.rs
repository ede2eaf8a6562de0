//! Tests of `linux.restart_service` and `service_status` with scripts in place of systemctl.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::driver::{Ended, Run, action, have};

/// Creates a directory with these bash scripts.
pub(crate) fn programs(list: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in list {
        script(directory.path(), name, text);
    }
    directory
}

/// Writes a bash script.
pub(crate) fn script(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/bash\n{text}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Fake systemd with one service: its state and main pid are in files; `restart` runs the test's commands.
struct Systemd {
    bin: TempDir,
}

impl Systemd {
    fn new(state: &str, restart: &str) -> Systemd {
        let bin = programs(&[]);
        let here = bin.path().display().to_string();
        let systemctl = format!(
            "cd '{here}'\n\
             echo \"$*\" >>calls\n\
             case $1 in\n\
             is-system-running) echo running ;;\n\
             show) echo LoadState=$(cat load); echo ActiveState=$(cat state); echo SubState=$(cat state)\n\
                   echo MainPID=$(cat pid); echo NRestarts=$(cat restarts) ;;\n\
             restart) {restart} ;;\n\
             esac\n"
        );
        for (name, text) in [("load", "loaded"), ("state", state), ("pid", "100"), ("restarts", "0"), ("calls", "")] {
            fs::write(bin.path().join(name), text).unwrap();
        }
        let journalctl = "printf 'one\\ntwo \\033[31m\\nthree\\n'\n";
        for (name, text) in [("systemctl", systemctl.as_str()), ("journalctl", journalctl)] {
            script(bin.path(), name, text);
        }
        Systemd { bin }
    }

    fn restart(&self, service: &str) -> Run {
        let parameters = json!({"service": service, "settle": 0, "start_wait": 2});
        action("linux.restart_service", parameters)
            .programs(self.bin.path())
            .config(json!({"restart_allow": ["app-*.service", "nginx.service"]}))
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.bin.path().join("calls")).unwrap()
    }
}

fn outcome(ended: &Ended) -> (&str, bool) {
    (ended.result["outcome"].as_str().unwrap(), ended.result["healthy"].as_bool().unwrap())
}

#[test]
fn a_successful_restart_reports_both_states() {
    let systemd = Systemd::new("failed", "echo active >state; echo 200 >pid");
    let ended = systemd.restart("nginx").go().well();
    assert_eq!(outcome(&ended), ("restarted", true));
    assert_eq!(ended.result["before"], json!({"state": "failed", "detail": "failed", "main_pid": 100}));
    assert_eq!(ended.result["after"], json!({"state": "active", "detail": "active", "main_pid": 200}));
    assert!(systemd.calls().contains("restart -- nginx.service"));
}

#[test]
fn a_service_that_does_not_become_active_is_a_failure() {
    let failing = Systemd::new("active", "echo failed >state; echo 0 >pid; exit 1");
    assert_eq!(
        outcome(&failing.restart("nginx").go().refused(1, "is failed after the restart")),
        ("not_active", false)
    );
    let slow = Systemd::new("active", "echo activating >state; echo 0 >pid");
    assert_eq!(outcome(&slow.restart("nginx").go().refused(1, "is activating")), ("not_active", false));
    let same = Systemd::new("active", "true");
    assert_eq!(outcome(&same.restart("nginx").go().refused(1, "it was not restarted")), ("same_process", false));
    // Active at first, but with another process at the second check.
    let looping = Systemd::new("active", "echo 200 >pid; printf 'echo $((RANDOM + 300))' >loop");
    fs::write(
        looping.bin.path().join("cat"),
        "#!/bin/bash\nif [[ $1 == pid && -e loop ]]; then echo $BASHPID; else /bin/cat \"$@\"; fi\n",
    )
    .unwrap();
    fs::set_permissions(looping.bin.path().join("cat"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(outcome(&looping.restart("nginx").go().refused(1, "keeps crashing")), ("unstable", false));
}

#[test]
fn a_noop_restarts_nothing() {
    let systemd = Systemd::new("active", "echo 200 >pid");
    let ended = systemd.restart("app-web").noop().go().well();
    assert_eq!(outcome(&ended), ("would_restart", true));
    assert!(!systemd.calls().contains("restart"), "{}", systemd.calls());
}

#[test]
fn only_units_in_restart_allow_are_restarted() {
    let systemd = Systemd::new("active", "echo 200 >pid");
    for (unit, why) in [
        ("sshd", "may not be restarted on this host"),
        ("app-.socket", "may not be restarted"),
        ("bolt-launch", "does not restart"),
        ("systemd-journald.service", "does not restart"),
        ("multi-user.target", "does not restart"),
    ] {
        systemd.restart(unit).go().refused(2, why);
    }
    let nothing = systemd.restart("nginx").config(json!({}));
    nothing.go().refused(2, "allowed now: nothing");
    let all = systemd.restart("nginx").config(json!({"restart_allow": ["[a-z]*"]}));
    all.go().refused(2, "contains an invalid pattern of units");
    assert!(!systemd.calls().contains("restart"), "{}", systemd.calls());
}

#[test]
fn a_stopped_service_is_started_only_on_request() {
    let systemd = Systemd::new("inactive", "echo active >state; echo 200 >pid");
    assert_eq!(outcome(&systemd.restart("nginx").go().refused(2, "start_inactive=true")), ("refused_inactive", false));
    let parameters = json!({"service": "nginx", "settle": 0, "start_inactive": true});
    let asked = action("linux.restart_service", parameters).programs(systemd.bin.path());
    asked.config(json!({"restart_allow": ["*"]})).go().well();
}

#[test]
fn an_unknown_unit_and_a_host_without_systemd_are_named() {
    let systemd = Systemd::new("inactive", "true");
    fs::write(systemd.bin.path().join("load"), "not-found").unwrap();
    systemd.restart("nginx").go().refused(2, "is not loaded (not-found)");
    let offline = programs(&[("systemctl", "echo offline; exit 1\n")]);
    let parameters = json!({"service": "nginx"});
    let run = action("linux.restart_service", parameters).programs(offline.path());
    run.config(json!({"restart_allow": ["nginx.service"]})).go().refused(3, "systemd is not running on this host");
}

#[test]
fn the_status_comes_from_systemd_with_the_last_log_lines() {
    if !have("the_status_comes_from_systemd_with_the_last_log_lines", "python3") {
        return;
    }
    let systemd = Systemd::new("active", "true");
    let status = |parameters| action("linux.service_status", parameters).programs(systemd.bin.path()).go();
    let ended = status(json!({"service": "nginx", "lines": 2})).well();
    assert_eq!((&ended.result["service"], &ended.result["manager"]), (&json!("nginx.service"), &json!("systemd")));
    assert_eq!((&ended.result["state"], &ended.result["main_pid"]), (&json!("active"), &json!(100)));
    assert_eq!(ended.result["log"], json!(["two \\x1b[31m", "three"]));
    fs::write(systemd.bin.path().join("state"), "failed").unwrap();
    assert_eq!(status(json!({"service": "nginx"})).well().result["state"], "failed");
    assert_eq!(status(json!({"service": "nginx", "require_active": true})).status, Some(1));
    fs::write(systemd.bin.path().join("load"), "not-found").unwrap();
    status(json!({"service": "nginx"})).refused(2, "has no unit");
}

#[test]
fn without_systemd_the_status_comes_from_the_processes() {
    let offline = programs(&[("systemctl", "echo offline; exit 1\n")]);
    let own =
        std::process::Command::new("/bin/bash").args(["-c", "read -r _"]).stdin(std::process::Stdio::piped()).spawn();
    let mut own = own.unwrap();
    let ended = action("linux.service_status", json!({"service": "bash"})).programs(offline.path()).go().well();
    assert_eq!((&ended.result["manager"], &ended.result["state"]), (&json!("processes by name"), &json!("active")));
    drop(own.stdin.take());
    own.wait().unwrap();
    let unknown = action("linux.service_status", json!({"service": "no-such-service"})).programs(offline.path());
    unknown.go().refused(3, "the state is unknown");
}
