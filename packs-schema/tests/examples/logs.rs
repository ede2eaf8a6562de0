//! Tests of `linux.rotate_logs` with logrotate itself, on a configuration that is mounted in place of the host's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action, can_be_alone, have};
use crate::incidents::NO_SPACE;
use crate::python::altered;
use crate::service::programs;

/// Global options of Ubuntu's logrotate.conf; those in blocks and behind the include hold for other logs.
const DEFAULTS: &str = "# see \"man logrotate\"\nweekly\nsu root root\nrotate 2\ncreate\n/var/log/btmp\n{\n  rotate 0\n\
    \x20 postrotate\n    { true; }\n  endscript\n}\n/var/log/wtmp { rotate 0 }\ninclude /etc/logrotate.d\nrotate 0\n";

/// Host with a log and a configuration of it.
struct Host {
    place: TempDir,
}

impl Host {
    fn new(defaults: &str, options: &str) -> Host {
        let host = Host { place: TempDir::new().unwrap() };
        for directory in ["conf", "log", "state"] {
            fs::create_dir(host.at(directory)).unwrap();
        }
        fs::write(host.at("logrotate.conf"), defaults).unwrap();
        fs::write(host.at("log/app.log"), "one\ntwo\n").unwrap();
        let block = format!("\"{}\" {{\n missingok\n{options}}}\n", host.at("log/app.log").display());
        fs::write(host.at("conf/app"), block).unwrap();
        host
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn rotate(&self, name: &str) -> Run {
        let mounts =
            [("conf", "/etc/logrotate.d"), ("state", "/var/lib/logrotate"), ("logrotate.conf", "/etc/logrotate.conf")];
        let instead: Vec<String> =
            mounts.iter().map(|(from, to)| format!("mount --bind '{}' {to}", self.at(from).display())).collect();
        action("linux.rotate_logs", json!({"configuration": name})).after(&instead.join("\n"))
    }

    fn outcome(&self, outcome: &str) -> Value {
        json!([{"file": self.at("log/app.log"), "bytes": 8, "outcome": outcome}])
    }
}

/// True if the tests of this module can run.
fn possible(test: &str) -> bool {
    have(test, "logrotate") && can_be_alone(test)
}

#[test]
fn logrotate_rotates_one_configuration_with_the_defaults_of_the_host() {
    if !possible("logrotate_rotates_one_configuration_with_the_defaults_of_the_host") {
        return;
    }
    let host = Host::new(DEFAULTS, "");
    // Without the option `su` logrotate skips logs in a directory that others can write to, such as Ubuntu's /var/log.
    fs::set_permissions(host.at("log"), fs::Permissions::from_mode(0o777)).unwrap();
    let dry = host.rotate("app").noop().go().well();
    assert!(!dry.result["report"].as_array().unwrap().is_empty() && !host.at("log/app.log.1").exists());
    assert_eq!(dry.result["logs"], host.outcome("would_rotate"));
    let ended = host.rotate("app").go().well();
    let report = ended.result["report"].as_array().unwrap();
    assert!(report.iter().any(|line| line.as_str().unwrap().contains("renaming")), "{report:?}");
    assert_eq!(fs::read_to_string(host.at("log/app.log.1")).unwrap(), "one\ntwo\n");
    assert_eq!(fs::read_to_string(host.at("log/app.log")).unwrap(), "", "create is a default of the host");
    assert_eq!(ended.result["logs"], host.outcome("rotated"));
    host.rotate("other").go().error(2, "this host has: app");
}

#[test]
fn a_log_of_which_no_old_one_is_kept_is_not_rotated() {
    if !possible("a_log_of_which_no_old_one_is_kept_is_not_rotated") {
        return;
    }
    for (defaults, options) in [("weekly\n", ""), (DEFAULTS, " rotate 0\n")] {
        let host = Host::new(defaults, options);
        host.rotate("app").noop().go().error(2, "the rotate count of");
        host.rotate("app").go().error(2, "logrotate would remove logs");
        assert_eq!(fs::read_to_string(host.at("log/app.log")).unwrap(), "one\ntwo\n");
    }
}

#[test]
fn a_log_that_is_truncated_in_place_counts_as_rotated() {
    if !possible("a_log_that_is_truncated_in_place_counts_as_rotated") {
        return;
    }
    let host = Host::new(DEFAULTS, " copytruncate\n");
    assert_eq!(host.rotate("app").go().well().result["logs"], host.outcome("rotated"));
    assert_eq!(fs::metadata(host.at("log/app.log")).unwrap().len(), 0);
}

#[test]
fn logs_are_rotated_on_a_disk_without_space_for_a_temporary_file() {
    if !possible("logs_are_rotated_on_a_disk_without_space_for_a_temporary_file") {
        return;
    }
    let (host, bin) = (Host::new(DEFAULTS, ""), altered(NO_SPACE));
    assert_eq!(host.rotate("app").programs(bin.path()).go().well().result["logs"], host.outcome("rotated"));
}

#[test]
fn a_log_that_is_due_and_unchanged_is_a_failure() {
    if !possible("a_log_that_is_due_and_unchanged_is_a_failure") {
        return;
    }
    let host = Host::new(DEFAULTS, "");
    let text = format!("echo 'considering log {}'\necho '  log needs rotating'\n", host.at("log/app.log").display());
    let bin = programs(&[("logrotate", &text)]);
    let ended = host.rotate("app").programs(bin.path()).go().refused(1, "not rotated although due");
    assert_eq!(ended.result["logs"], host.outcome("unchanged"));
}

#[test]
fn options_that_others_can_write_are_not_used() {
    if !possible("options_that_others_can_write_are_not_used") {
        return;
    }
    let host = Host::new(DEFAULTS, "");
    fs::set_permissions(host.at("logrotate.conf"), fs::Permissions::from_mode(0o666)).unwrap();
    host.rotate("app").go().error(2, "/etc/logrotate.conf is not a regular file that only root can write");
}
