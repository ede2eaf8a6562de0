//! Leftover processes of an action: stopped and listed, or kept when the action file says so.

use std::path::PathBuf;

use packs_schema::agent::execution::{Leftovers, State};
use packs_schema::base::name::ExecutionId;
use serde_json::json;

use crate::driver::{Host, is_alive, is_root, skipped, wait_for};

/// Starts a service like a SysV script, prints its pid, and exits with the given status.
fn start_service_script(status: &str) -> String {
    format!(
        "#!/bin/sh
nohup setsid sh -c 'echo $$ >\"$0\"; exec sleep 600' \"$BOLT_PARAM_PID\" </dev/null >/dev/null 2>&1 &
while [ ! -s \"$BOLT_PARAM_PID\" ]; do sleep 0.01; done
cat \"$BOLT_PARAM_PID\"
{status}
"
    )
}

struct Ended {
    exit: packs_schema::agent::execution::Exit,
    pid: String,
}

fn run(host: &mut Host, script: &str, changes: serde_json::Value) -> Ended {
    let mut changes = changes;
    changes["parameters"] = json!({"pid": {"type": "string"}});
    host.action("it", script, changes);
    let shared = tempfile::tempdir().unwrap();
    std::fs::set_permissions(shared.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let pid = shared.path().join("pid");
    let request = host.request("it", json!({"pid": pid.display().to_string()}));
    let finished = host.started(&request).finished();
    Ended { pid: finished.stdout().trim().to_owned(), exit: finished.exit }
}

/// Returns the leftover group of an execution, in every hierarchy.
fn leftover_groups(host: &Host, id: &ExecutionId) -> Vec<PathBuf> {
    let places = host.enforcement().groups.into_iter().map(|place| place.path);
    let mut dirs: Vec<PathBuf> = places.map(|path| path.parent().unwrap().join(format!("bolt-kept-{id}"))).collect();
    dirs.sort_unstable();
    dirs.dedup();
    dirs
}

/// Ends the service of a test.
struct Service(String);

impl Service {
    fn end(&self) {
        let pid = nix::unistd::Pid::from_raw(self.0.parse().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        wait_for("the end of the service", || (!is_alive(&self.0)).then_some(()));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if is_alive(&self.0) {
            let pid = nix::unistd::Pid::from_raw(self.0.parse().unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
fn a_leftover_service_is_stopped_and_listed() {
    let mut host = Host::new();
    let Ended { exit, pid } = run(&mut host, &start_service_script("exit 0"), json!({}));
    assert_eq!(exit.state, State::Succeeded);
    let left = exit.leftovers.unwrap();
    assert_eq!(
        (left.after_term, left.after_subreaper, left.kept, left.programs.as_slice()),
        (1, 0, 0, &["sleep".to_owned()][..])
    );
    assert_eq!(left.describe(exit.state).unwrap(), "1 process (sleep) still running at the exit was stopped");
    assert!(!is_alive(&pid));
}

#[test]
fn a_service_is_kept_without_the_limits_of_the_execution() {
    let mut host = Host::new();
    let Ended { exit, pid } = run(&mut host, &start_service_script("exit 0"), json!({"leftovers": "keep"}));
    let service = Service(pid.clone());
    assert_eq!((exit.state, &exit.reason), (State::Succeeded, &None));
    let left = exit.leftovers.unwrap();
    assert_eq!(left, Leftovers { kept: 1, programs: vec!["sleep".to_owned()], ..Leftovers::default() });
    assert_eq!(left.describe(exit.state).unwrap(), "1 process (sleep) kept running after the exit");
    assert!(is_alive(&pid));

    let groups = leftover_groups(&host, &exit.id);
    let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(!membership.contains(&format!("bolt-{}", exit.id)), "{membership}");
    for group in &groups {
        assert!(std::fs::read_to_string(group.join("cgroup.procs")).unwrap().contains(&pid), "{}", group.display());
        for (file, none) in [("pids.max", "max"), ("memory.max", "max")] {
            let limit = std::fs::read_to_string(group.join(file));
            assert!(limit.is_err() || limit.unwrap().trim() == none, "{}/{file}", group.display());
        }
    }
    // This launcher and the next one keep the group while the service is alive, and prune it when it is empty.
    let next = Host::new();
    assert!(is_alive(&pid) && groups.iter().all(|group| group.is_dir()));
    drop(next);
    service.end();
    host.kill_launcher();
    let last = Host::new();
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    drop(last);
}

#[test]
fn nothing_is_kept_after_a_failure_a_time_out_or_a_kill() {
    let keep = |more: serde_json::Value| {
        let mut changes = json!({"leftovers": "keep"});
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        changes
    };
    for (status, changes, state) in [
        ("exit 3", json!({}), State::Failed),
        ("sleep 600", json!({"timeout": "1s", "grace": "100ms"}), State::TimedOut),
    ] {
        let mut host = Host::new();
        let Ended { exit, pid } = run(&mut host, &start_service_script(status), keep(changes));
        assert_eq!(exit.state, state);
        assert!(!is_alive(&pid), "{status}");
        let left = exit.leftovers.unwrap();
        assert_eq!((left.kept, left.after_subreaper), (0, 0), "{status}");
        assert!(leftover_groups(&host, &exit.id).iter().all(|group| !group.exists()));
    }
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\nsetsid sleep 600 &\necho ready; exec sleep 600\n", keep(json!({"grace": "100ms"})));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    running.wait_for_stdout("ready");
    host.ask(packs_schema::agent::launch::Operation::Kill { execution: running.id.clone() });
    let exit = running.finished().exit;
    assert_eq!((exit.state, exit.leftovers.unwrap().kept), (State::Killed, 0));
}

/// The shim dies between the move and the exit record: without a record, nothing is kept.
#[test]
fn leftovers_without_an_exit_record_are_killed() {
    let mut host = Host::new();
    if !is_root() || leftover_groups(&host, &"00000000-0000-7000-8000-000000000000".parse().unwrap()).is_empty() {
        return skipped("leftovers_without_an_exit_record_are_killed", "needs cgroups");
    }
    host.action(
        "it",
        "#!/bin/sh\necho $PPID $$; setsid sleep 600 & echo $! ready; exec sleep 600\n",
        json!({"leftovers": "keep"}),
    );
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let said = running.wait_for_stdout("ready");
    let ids: Vec<String> = said.split_whitespace().filter(|w| w.parse::<i32>().is_ok()).map(str::to_owned).collect();
    let (shim, main, service) = (&ids[0], Service(ids[1].clone()), Service(ids[2].clone()));
    let groups = leftover_groups(&host, &running.id);
    for group in &groups {
        std::fs::create_dir(group).unwrap();
        std::fs::write(group.join("cgroup.procs"), &service.0).unwrap();
    }
    let pid = nix::unistd::Pid::from_raw(shim.parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the end of the shim", || (!is_alive(shim)).then_some(()));
    // The state before the exit record is written: the execution's group, its run-time directory and the record of its user id are
    // removed, so that none of them leads to the living processes.
    main.end();
    std::fs::remove_dir_all(host.path(&format!("run/{}", running.id))).unwrap();
    for account in std::fs::read_dir(host.path("run/accounts")).unwrap().flatten() {
        if account.file_name().to_string_lossy().parse::<u32>().is_ok() {
            std::fs::remove_file(account.path()).unwrap();
        }
    }
    for place in host.enforcement().groups {
        std::fs::remove_dir(place.path.join(format!("bolt-{}", running.id))).unwrap();
    }
    assert!(is_alive(&service.0));
    let outcome = host.ask(packs_schema::agent::launch::Operation::Kill { execution: running.id.clone() });
    assert_eq!(outcome, packs_schema::agent::launch::Outcome::Done);
    wait_for("the end of the service", || (!is_alive(&service.0)).then_some(()));
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
}

#[test]
fn a_missing_interpreter_is_named() {
    let mut host = Host::new();
    for (script, says) in [
        (
            "#!/bin/sh\r\necho x\r\n",
            "the interpreter \"/bin/sh\\r\" of its first line does not exist on this host; save the file with LF line ends",
        ),
        ("#! /opt/none/perl -w\n", "the interpreter \"/opt/none/perl\" of its first line does not exist on this host"),
    ] {
        let ended = host.run(script, json!({}));
        assert_eq!(ended.exit.state, State::Error);
        let reason = ended.exit.reason.unwrap();
        assert!(reason.contains(says), "{reason}");
    }
}
