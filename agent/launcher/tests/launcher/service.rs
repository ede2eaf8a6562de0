//! The launcher as a service: arguments, configuration, and conditions of its start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::unistd::{Gid, Uid, chown};
use packs_schema::agent::launch::{Outcome, Refusal};
use serde_json::json;

use crate::driver::{Host, base, is_root, launcher, put, skipped, wait_for, write_config, writing};
use crate::stand_in::Service;

fn fails(command: &mut Command) -> String {
    let _guard = writing();
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn help_and_version_are_printed() {
    let run = |arg| Command::new(env!("CARGO_BIN_EXE_bolt-launch")).arg(arg).output().unwrap();
    let version = run("--version");
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("bolt-launch ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(String::from_utf8_lossy(&run("--help").stdout).contains("--attach"));
    assert_eq!(run("--no-such-thing").status.code(), Some(2));
}

#[test]
fn invalid_configurations() {
    let dir = base();
    let config = write_config(dir.path(), "max_runing = 3", "", "");
    let said = fails(launcher(&config).arg("--attach").stdin(Stdio::null()));
    assert!(said.contains("standard input must be a connected Unix stream socket"), "{said}");
    let said = attached_fails(&config);
    assert!(said.contains("max_runing"), "{said}");
    let said = attached_fails(&dir.path().join("none.toml"));
    assert!(said.contains("none.toml") && said.contains("No such file"), "{said}");
    let config = write_config(dir.path(), "", "", "");
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o664, 0o646] {
        set(&config, mode);
        let said = attached_fails(&config);
        assert!(said.contains("agent.toml may be changed by others"), "{said}");
    }
    set(&config, 0o644);
    // Write access to the directory allows replacing the file.
    set(dir.path(), 0o777);
    let said = attached_fails(&config);
    assert!(said.contains("may be changed by others (mode 0777)"), "{said}");
}

fn attached_fails(config: &Path) -> String {
    let _guard = writing();
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let theirs = std::os::fd::OwnedFd::from(theirs);
    let output = launcher(config).arg("--attach").stdin(Stdio::from(theirs)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn two_launchers_cannot_share_a_runtime_directory() {
    let host = Host::new();
    let said = attached_fails(&host.path("agent.toml"));
    assert!(said.contains("in use by another launcher"), "{said}");
}

#[test]
fn a_runtime_directory_writable_by_others() {
    let dir = base();
    let config = write_config(dir.path(), "", "", "");
    fs::create_dir(dir.path().join("run")).unwrap();
    fs::set_permissions(dir.path().join("run"), fs::Permissions::from_mode(0o777)).unwrap();
    let said = attached_fails(&config);
    assert!(said.contains("must have owner") && said.contains("mode 777"), "{said}");
}

#[test]
fn an_invalid_frame_ends_the_attached_launcher() {
    for frame in [&b"not json"[..], br#"{"seq":1,"ask":{"shell":"id"}}"#, b""] {
        let mut host = Host::new();
        host.send_frame(frame);
        assert!(host.receive().is_none());
        assert_eq!(host.wait_launcher().code(), Some(1));
    }
}

/// An api that is newer than this launcher: requests of a later format are refused, others are served.
#[test]
fn a_request_of_a_later_format_is_refused() {
    let mut host = Host::new();
    let newer = json!({"seq": 9, "format": packs_schema::agent::launch::FORMAT + 1, "ask": {"freeze": {"execution": "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa"}}});
    host.send_frame(newer.to_string().as_bytes());
    let reply = host.receive().unwrap();
    assert_eq!(reply.seq, 9);
    match reply.outcome {
        Outcome::Refused { code: Refusal::Unsupported, message } => {
            assert!(message.contains("restart the service bolt-launch"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    host.run("#!/bin/sh\n", json!({}));
}

#[test]
fn many_executions_leak_no_descriptor() {
    let mut host = Host::new();
    host.run("#!/bin/sh\n", json!({}));
    let open = |host: &Host| fs::read_dir(format!("/proc/{}/fd", host.launcher_pid())).unwrap().count();
    let before = open(&host);
    for _ in 0..20 {
        host.run("#!/bin/sh\n", json!({}));
    }
    // Two shims were needed at most: one may still have been busy when the next execution was started.
    assert!(open(&host) <= before + 1, "{} descriptors, {before} before", open(&host));
    assert!(host.shims().len() <= 2, "{:?}", host.shims());
    // A shim has the descriptors of its equipment only: three of /dev/null, its socket, the run-time directory, signals, new files.
    for shim in host.shims() {
        wait_for("its descriptors to be closed", || {
            (fs::read_dir(format!("/proc/{shim}/fd")).map_or(0, Iterator::count) <= 7).then_some(())
        });
    }
    wait_for("the idle shims to end", || host.shims().is_empty().then_some(()));
    wait_for("their sockets to be closed", || (open(&host) < before).then_some(()));
}

#[test]
fn untrusted_accounts_and_programs() {
    let guard = writing();
    let (dir, config) = Service::place("api = \"64101\"\nsync = \"64102\"");
    drop(guard);
    let run = |config: &Path| {
        let _guard = writing();
        let output = Service::command(dir.path(), config).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run(&config);
    assert!(said.contains("bolt-agent") && said.contains("cannot open"), "{said}");
    put(&dir.path().join("bin/bolt-agent"), b"", 0o755);
    let said = run(&config);
    assert!(said.contains("bolt-sync") && said.contains("cannot open"), "{said}");
    put(&dir.path().join("bin/bolt-sync"), b"", 0o755);
    for program in ["bolt-agent", "bolt-sync"] {
        put(&dir.path().join("bin").join(program), b"", 0o775);
        let said = run(&config);
        assert!(said.contains(program) && said.contains("not writable by group or others"), "{said}");
        put(&dir.path().join("bin").join(program), b"", 0o755);
    }
    if !is_root() {
        return skipped("untrusted_accounts_and_programs (accounts)", "without root there is one account");
    }
    let config = write_config(dir.path(), "", "api = \"root\"\nsync = \"64102\"", "");
    let said = run(&config);
    assert!(said.contains("users.api = root is root"), "{said}");
    let config = write_config(dir.path(), "", "api = \"64101\"\nsync = \"64102\"", "");
    fs::create_dir(dir.path().join("state")).unwrap();
    let said = run(&config);
    assert!(said.contains("must have owner") && said.contains("owner 0") && said.contains("owner 64101"), "{said}");
    let own = (Some(Uid::from_raw(64101)), Some(Gid::from_raw(64101)));
    chown(&dir.path().join("state"), own.0, own.1).unwrap();
    fs::set_permissions(dir.path().join("state"), fs::Permissions::from_mode(0o777)).unwrap();
    let said = run(&config);
    assert!(said.contains("mode 777"), "{said}");
}

/// A range of user ids that overlaps others is refused at the start, not when an action runs.
#[test]
fn a_uid_range_that_is_in_use() {
    if !is_root() {
        return skipped("a_uid_range_that_is_in_use", "only root has accounts");
    }
    let dir = base();
    let subordinate = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let subordinate = subordinate.lines().find_map(|line| line.split(':').nth(1)?.parse::<u32>().ok());
    let mut cases = vec![
        ("uid_range = \"70000-70099\"".to_owned(), "sync = \"70005\"", "users.sync names the account 70005"),
        ("uid_range = \"70000-70007\"".to_owned(), "", "has 8 ids, and 16 executions may run at once"),
        ("uid_range = \"60000-70000\"".to_owned(), "", "65534"),
        ("max_shims = 3".to_owned(), "", "execution.max_shims = 3 must be at least execution.max_running = 8"),
    ];
    cases.extend(subordinate.map(|id| (format!("uid_range = \"{id}-{}\"", id + 99), "", "subordinate ids")));
    for (execution, users, why) in cases {
        let said = attached_fails(&write_config(dir.path(), &execution, users, ""));
        assert!(said.contains(why), "{execution}: {said}");
    }
}

#[test]
fn a_default_account_is_checked_at_the_start() {
    if !is_root() {
        return skipped("a_default_account_is_checked_at_the_start", "only root changes accounts");
    }
    for (account, shared, warning) in [
        ("no-such-account", true, "there is no account no-such-account"),
        ("root", true, "is root"),
        ("64100", true, ""),
    ] {
        let host = Host::with(&format!("require_limits = false\ndefault_run_as = \"{account}\""), "");
        let found = host.enforcement();
        assert_eq!(found.shared_account.as_deref() == Some(account), shared);
        assert_eq!(found.warnings.is_empty(), warning.is_empty(), "{:?}", found.warnings);
        assert!(found.warnings.iter().all(|said| said.contains(warning)), "{:?}", found.warnings);
    }
    let found = Host::new().enforcement();
    assert_eq!((found.shared_account, found.warnings), (None, Vec::new()));
}
