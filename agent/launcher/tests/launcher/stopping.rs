//! Time-outs and kills stop all processes of an action, whatever it did.

use packs_schema::agent::execution::{Leftovers, State};
use packs_schema::agent::launch::{Operation, Outcome};
use serde_json::{Value, json};

use crate::driver::{Finished, Host, is_alive, is_root, put, skipped, wait_for};

/// Prints the pids of processes that ignore SIGTERM.
const STUBBORN: &str = "#!/bin/sh
trap '' TERM HUP INT
sh -c 'trap \"\" TERM; echo $$; exec sleep 600' &
setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 600' &
(setsid sh -c 'trap \"\" TERM; (sh -c \"echo \\$\\$; exec sleep 600\" &) ; exit' &)
sleep 600 & echo $!; kill -STOP $!
echo ready
while :; do sleep 600; done
";

fn nothing_is_left(ended: &Finished, state: State) {
    assert_eq!(ended.exit.state, state, "{:?}", ended.exit);
    let said = ended.stdout();
    let pids: Vec<&str> = said.lines().filter(|l| l.bytes().all(|b| b.is_ascii_digit())).collect();
    assert_eq!(pids.len(), 4, "{said}");
    for pid in pids {
        assert!(!is_alive(pid), "{pid} lives on");
    }
    let Leftovers { after_subreaper, after_term, .. } = ended.exit.leftovers.clone().unwrap();
    assert!(after_term >= 1, "the trap held");
    assert_eq!(after_subreaper, 0);
}

/// A caller may ask for any time-out below the action's, and the api is not trusted to refuse none at all.
#[test]
fn a_time_out_of_nothing_is_a_short_one() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\nexec sleep 600\n", json!({"grace": "100ms"}));
    for ms in [0, 1] {
        let mut request = host.request("it", json!({}));
        request.timeout_ms = Some(ms);
        let ended = host.started(&request).finished();
        assert_eq!(ended.started.unwrap().timeout_ms, 1);
        // On a slow host it may not have executed its program by then.
        assert!(matches!(ended.exit.state, State::TimedOut | State::Error), "{:?}", ended.exit);
    }
}

#[test]
fn a_time_out_leaves_no_process() {
    let mut host = Host::new();
    // Long enough for its processes to start on a slow machine.
    let ended = host.run(STUBBORN, json!({"timeout": "3s", "grace": "200ms"}));
    nothing_is_left(&ended, State::TimedOut);
    assert!(ended.exit.reason.as_ref().unwrap().contains("3s"));
    assert!(ended.exit.duration_ms >= 3200);
}

fn stubborn(host: &mut Host) -> crate::driver::Execution {
    host.action("it", STUBBORN, json!({"grace": "200ms"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    wait_for("four ids", || (running.wait_for_stdout("ready").lines().count() == 5).then_some(()));
    running
}

#[test]
fn what_ends_with_the_host_is_interrupted_and_not_failed() {
    let mut host = Host::new();
    // The second one is run by the same shim.
    for (with_shim, state) in [(true, State::Interrupted), (false, State::Failed)] {
        host.action("it", "#!/bin/sh\necho $$ $PPID pids\nsleep 600 &\nwait\n", json!({"grace": "200ms"}));
        let request = host.request("it", json!({}));
        let running = host.started(&request);
        let said = running.wait_for_stdout("pids");
        let pids: Vec<&str> = said.split_whitespace().take(2).collect();
        let [own, shim] = pids[..] else { panic!("{said}") };
        // As systemd does at a shutdown: to all, and the shim is older.
        let targets = if with_shim { vec![shim, own] } else { vec![own] };
        assert!(std::process::Command::new("kill").arg("-TERM").args(targets).status().unwrap().success());
        let ended = running.finished().exit;
        assert_eq!((ended.state, ended.signal), (state, Some(15)), "{ended:?}");
        assert_eq!(ended.reason.is_some(), with_shim, "{ended:?}");
    }
}

#[test]
fn a_kill_request_leaves_no_process() {
    let mut host = Host::new();
    let running = stubborn(&mut host);
    assert_eq!(host.ask(Operation::Kill { execution: running.id.clone() }), Outcome::Done);
    assert_eq!(host.ask(Operation::Kill { execution: running.id.clone() }), Outcome::Done);
    let id = running.id.clone();
    nothing_is_left(&running.finished(), State::Killed);
    assert_eq!(host.ask(Operation::Kill { execution: id }), Outcome::Done);
}

#[test]
fn a_kill_file_leaves_no_process() {
    let mut host = Host::new();
    let running = stubborn(&mut host);
    put(&running.dir.join("kill"), b"", 0o600);
    nothing_is_left(&running.finished(), State::Killed);
}

#[test]
fn sigterm_is_sent_before_sigkill() {
    let mut host = Host::new();
    let script = "#!/bin/sh\ntrap 'echo bye; exit 0' TERM\necho ready\nwhile :; do sleep 0.01; done\n";
    host.action("it", script, json!({"grace": "30s"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    running.wait_for_stdout("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
    let ended = running.finished();
    assert_eq!((ended.exit.state, ended.exit.exit_status), (State::Killed, Some(0)));
    assert!(ended.stdout().ends_with("bye\n"));
    assert_eq!(ended.exit.leftovers, Some(Leftovers::default()));
}

#[test]
fn background_processes_end_with_the_action() {
    let mut host = Host::new();
    let ended = host.run("#!/bin/sh\nsetsid sleep 600 </dev/null >/dev/null 2>&1 &\necho $!\n", json!({}));
    assert_eq!(ended.exit.state, State::Succeeded);
    assert!(!is_alive(&ended.stdout()));
    let Leftovers { after_term, after_subreaper, .. } = ended.exit.leftovers.clone().unwrap();
    assert_eq!((after_term, after_subreaper), (1, 0));
}

#[test]
fn a_shorter_requested_time_out_is_used() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\nsleep 600\n", json!({"grace": "100ms"}));
    let mut request = host.request("it", json!({}));
    request.timeout_ms = Some(300);
    let ended = host.started(&request).finished();
    assert_eq!((ended.exit.state, ended.started.unwrap().timeout_ms), (State::TimedOut, 300));
}

#[test]
fn an_execution_that_was_killed_before_its_start_has_no_process() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ran\n", json!({}));
    let request = host.request("it", json!({}));
    std::fs::write(host.execution(&request.execution).dir.join("kill"), "").unwrap();
    let ended = host.started(&request).finished();
    assert_eq!((ended.exit.state, ended.stdout().as_str()), (State::Killed, ""));
}

#[test]
fn processes_that_leave_their_group_are_found() {
    let mut host = Host::new();
    if !is_root() || host.enforcement().cgroups == "none" {
        return skipped("processes_that_leave_their_group_are_found", "needs root and cgroups");
    }
    let script = "#!/bin/sh\nfor f in $(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs); do echo $$ > $f; done 2>/dev/null\n\
        setsid sleep 600 & echo $!; echo ready; sleep 600\n";
    host.action("it", script, json!({"run_as": "root", "grace": "30s", "timeout": "90s"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let pid = running.wait_for_stdout("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
    let ended = running.finished();
    let left = ended.exit.leftovers.clone().unwrap();
    assert_eq!((ended.exit.state, left.after_subreaper), (State::Killed, 0));
    // The process is in no group of the execution: SIGTERM reached it as a descendant of the shim.
    assert_eq!((left.after_term, left.after_cgroup_kill), (0, 0), "{left:?}");
    assert!(!is_alive(pid.lines().next().unwrap()));
}

/// A process that exits first reparents its children while they are still being searched.
#[test]
fn sigterm_reaches_the_children_of_a_process_that_exits_first() {
    // Without cgroups, which list all of them.
    let mut host = Host::with("require_limits = false\ncgroup = \"cgroup.procs/below-a-file\"", "");
    let script = "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do setsid sleep 600 & done; echo ready; sleep 600\n";
    host.action("it", script, json!({"grace": "5s"}));
    for _ in 0..30 {
        let request = host.request("it", json!({}));
        let running = host.started(&request);
        running.wait_for_stdout("ready");
        assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
        let ended = running.finished();
        assert_eq!((ended.exit.state, ended.exit.leftovers), (State::Killed, Some(Leftovers::default())));
    }
}

/// A chain of short-lived processes: a search finds one that has just exited and misses its successor.
#[test]
fn a_chain_of_short_lived_processes_ends_with_its_action() {
    // Without cgroups, which would list the living process.
    let mut host = Host::with("require_limits = false\ncgroup = \"cgroup.procs/below-a-file\"", "");
    let held = host.path("held");
    std::fs::write(&held, "").unwrap();
    std::fs::set_permissions(&held, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    // The living process of the chain holds the lock. The chain ends when the file is removed, also after a failed test.
    let script = format!(
        "#!/bin/sh\nexec 9>{0} && flock -n 9 || exit 9\nnext() {{ [ -e {0} ] && ( next ) & exit 0; }}\n( next ) &\n",
        held.display()
    );
    host.action("it", &script, json!({"grace": "5s"}));
    for _ in 0..30 {
        let request = host.request("it", json!({}));
        let ended = host.started(&request).finished();
        let is_free = std::fs::File::open(&held).unwrap().try_lock().is_ok();
        assert_eq!(ended.exit.state, State::Succeeded);
        assert!(is_free, "something of it lives: {:?}", ended.exit);
        let Some(left) = ended.exit.leftovers.clone() else {
            panic!("not killed: {:?}, {}", ended.exit, ended.stderr())
        };
        assert!(left.after_term > 0 && left.after_subreaper == 0, "{left:?}");
    }
}

#[test]
fn processes_of_a_dead_shim_can_be_killed() {
    // With and without cgroups.
    for cgroup in ["", "cgroup = \"cgroup.procs/below-a-file\""] {
        // With an account of its own, and with a shared one.
        for account in ["", "default_run_as = \"64100\""] {
            after_a_killed_shim(Host::with(&format!("require_limits = false\n{cgroup}\n{account}"), ""));
        }
    }
}

fn after_a_killed_shim(mut host: Host) {
    host.action("it", "#!/bin/sh\necho $PPID $$ ready; exec sleep 600\n", json!({}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let said = running.wait_for_stdout("ready");
    let ids: Vec<i32> = said.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    // The parent is the shim, a child of this launcher.
    let shim = nix::unistd::Pid::from_raw(ids[0]);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the shim's end", || (!is_alive(&ids[0].to_string())).then_some(()));
    assert!(is_alive(&ids[1].to_string()));
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    wait_for("the action's end", || (!is_alive(&ids[1].to_string())).then_some(()));
    assert!(!host.path(&format!("run/{}", request.execution)).exists());
    let accounts = std::fs::read_dir(host.path("run/accounts")).into_iter().flatten().count();
    assert!(accounts <= 1, "the counter only");
}

#[test]
fn killing_an_execution_that_never_started_succeeds() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\n", json!({}));
    let request = host.request("it", Value::Object(serde_json::Map::new()));
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    assert!(!host.execution(&request.execution).dir.join("kill").exists());
}

/// As above, but all processes ignore SIGTERM: the group is empty, and the last step kills them.
#[test]
fn processes_that_leave_their_group_and_ignore_sigterm_are_found() {
    let mut host = Host::new();
    if !is_root() || host.enforcement().cgroups == "none" {
        return skipped("processes_that_leave_their_group_and_ignore_sigterm_are_found", "needs root and cgroups");
    }
    let script = "#!/bin/sh\ntrap '' TERM\n\
        for f in $(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs); do echo $$ > $f; done 2>/dev/null\n\
        setsid sleep 600 & echo $!; echo ready; while :; do sleep 600; done\n";
    host.action("it", script, json!({"run_as": "root", "grace": "100ms", "timeout": "20s"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let pid = running.wait_for_stdout("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
    let ended = running.finished();
    let left = ended.exit.leftovers.clone().unwrap();
    assert_eq!((ended.exit.state, left.after_subreaper), (State::Killed, 0));
    assert!(left.after_term >= 2 && left.after_cgroup_kill >= 2, "{left:?}");
    assert!(!is_alive(pid.lines().next().unwrap()));
}

/// Freezes an execution, like an operator: SIGTERM is then not delivered.
fn freeze(host: &Host, execution: &packs_schema::base::name::ExecutionId) -> bool {
    let places = host.enforcement().groups;
    let one = places.iter().find_map(|place| {
        let (file, state) = match place.controller.as_deref() {
            Some("freezer") => ("freezer.state", "FROZEN"),
            None => ("cgroup.freeze", "1"),
            _ => return None,
        };
        let file = place.path.join(format!("bolt-{execution}")).join(file);
        file.exists().then_some((file, state))
    });
    one.is_some_and(|(file, state)| std::fs::write(file, state).is_ok())
}

#[test]
fn frozen_processes_are_killed() {
    for v2 in [true, false] {
        let Some(mut host) = (if v2 { Some(Host::new()) } else { Host::without_v2() }) else {
            skipped("frozen_processes_are_killed (version 1)", "the v2 hierarchy cannot be hidden here");
            continue;
        };
        host.action("it", "#!/bin/sh\nsleep 600 & echo ready; wait\n", json!({"grace": "2s"}));
        let request = host.request("it", json!({}));
        let running = host.started(&request);
        running.wait_for_stdout("ready");
        if !freeze(&host, &request.execution) {
            return skipped("frozen_processes_are_killed", "no freezer that we may use");
        }
        assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
        let ended = running.finished();
        let left = ended.exit.leftovers.clone().unwrap();
        // In v1, a frozen process does not even die by SIGTERM; in v2 it does.
        assert!(left.after_term <= 2, "{left:?}");
        assert_eq!((ended.exit.state, left.after_cgroup_kill), (State::Killed, 0), "{left:?}");
    }
}

#[test]
fn processes_frozen_in_a_subgroup_are_killed() {
    // With version 2 no group is made in the hierarchy of the freezer.
    let Some(mut host) = Host::without_v2() else {
        return skipped("processes_frozen_in_a_subgroup_are_killed", "the v2 hierarchy cannot be hidden here");
    };
    let freezer = host.enforcement().groups.into_iter().find(|place| place.controller.as_deref() == Some("freezer"));
    let Some(freezer) = freezer.filter(|_| is_root()) else {
        return skipped("processes_frozen_in_a_subgroup_are_killed", "needs root and the v1 freezer");
    };
    let script = format!(
        "#!/bin/sh\nat={}/bolt-$BOLT_EXECUTION_ID/own; mkdir $at\nsleep 600 & echo $! >$at/cgroup.procs\n\
         echo FROZEN >$at/freezer.state; echo $!; echo ready; sleep 600\n",
        freezer.path.display()
    );
    host.action("it", &script, json!({"run_as": "root", "grace": "2s"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let pid = running.wait_for_stdout("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    let ended = running.finished();
    let left = ended.exit.leftovers.clone().unwrap();
    assert_eq!((ended.exit.state, left.after_term, left.after_cgroup_kill), (State::Killed, 1, 0), "{left:?}");
    assert!(!is_alive(pid.lines().next().unwrap()));
    assert!(!freezer.path.join(format!("bolt-{}", request.execution)).exists());
}

#[test]
fn stopped_processes_receive_sigterm() {
    let mut host = Host::new();
    host.action(
        "it",
        "#!/bin/sh\nsleep 600 & kill -STOP $!; echo ready; kill -STOP $$; sleep 600\n",
        json!({"grace": "30s"}),
    );
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    running.wait_for_stdout("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
    let ended = running.finished();
    assert_eq!((ended.exit.state, ended.exit.signal), (State::Killed, Some(15)), "{:?}", ended.exit);
    assert_eq!(ended.exit.leftovers, Some(Leftovers::default()), "the grace was not needed");
}

/// On a host without `cgroup.kill`, processes in v1 groups are frozen and killed. Their processor time is counted.
#[test]
fn cgroup_v1_alone_leaves_no_process() {
    let Some(mut host) = Host::without_v2() else {
        return skipped("cgroup_v1_alone_leaves_no_process", "the v2 hierarchy cannot be hidden here");
    };
    let found = host.enforcement();
    assert_eq!((found.cgroups.as_str(), found.cgroup_kill), ("v1", false));
    let ended = host.run(STUBBORN, json!({"timeout": "3s", "grace": "200ms"}));
    nothing_is_left(&ended, State::TimedOut);
    assert_eq!(ended.exit.leftovers.clone().unwrap().after_cgroup_kill, 0);
    let spun = host.run("#!/bin/sh\ni=0; while [ $i -lt 200000 ]; do i=$((i+1)); done\n", json!({}));
    let usage = spun.exit.usage;
    assert!(usage.user_us + usage.system_us > 10_000, "{usage:?}");
}

/// Executing may block in the kernel: here until a scanner of files allows it, which never answers.
#[test]
fn a_program_that_cannot_be_executed_holds_up_no_shim() {
    use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
    const NAME: &str = "a_program_that_cannot_be_executed_holds_up_no_shim";
    let mut host = Host::new();
    for (run_as, state) in [(None, State::Error), (Some("nobody"), State::TimedOut)] {
        if run_as.is_some() && !is_root() {
            return skipped(NAME, "only root has accounts");
        }
        let mut changes = json!({"timeout": "1s", "grace": "0s"});
        if let Some(account) = run_as {
            changes["run_as"] = json!(account);
        }
        host.action("it", "#!/bin/sh\n", changes);
        let script = host.version().join("actions/it.sh");
        let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_NONBLOCK | InitFlags::FAN_CLOEXEC;
        let scanner = Fanotify::init(flags, EventFFlags::O_RDONLY).and_then(|scanner| {
            let here = std::fs::File::open("/").unwrap();
            scanner.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_EXEC_PERM, here, Some(&script))?;
            Ok(scanner)
        });
        let Ok(scanner) = scanner else { return skipped(NAME, "no permission events of fanotify") };
        let request = host.request("it", json!({}));
        let ended = host.started(&request).finished();
        assert_eq!(ended.exit.state, state, "{:?}", ended.exit);
        let reason = ended.exit.reason.unwrap();
        assert!(run_as.is_some() || reason.contains("could not be executed within 1s"), "{reason}");
        drop(scanner);
        let request = host.request("it", json!({}));
        assert_eq!(host.started(&request).finished().exit.state, State::Succeeded);
    }
}
