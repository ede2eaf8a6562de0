//! Time-out and kill leave nothing behind, whatever the action did.

use packs_schema::agent::execution::{Leftovers, State};
use packs_schema::agent::launch::{Operation, Outcome};
use serde_json::{Value, json};

use crate::driver::{Finished, Host, is_root, lives, put, skipped, wait_for};

/// Prints the ids of processes that do not want to end.
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
        assert!(!lives(pid), "{pid} lives on");
    }
    let Leftovers { after_subreaper, after_term, .. } = ended.exit.leftovers.clone().unwrap();
    assert!(after_term >= 1, "the trap held");
    assert_eq!(after_subreaper, 0);
}

#[test]
fn a_time_out_leaves_nothing() {
    let mut host = Host::new();
    // Long enough for its processes to come up on a slow machine.
    let ended = host.run(STUBBORN, json!({"timeout": "3s", "grace": "200ms"}));
    nothing_is_left(&ended, State::TimedOut);
    assert!(ended.exit.reason.as_ref().unwrap().contains("3s"));
    assert!(ended.exit.duration_ms >= 3200);
}

fn stubborn(host: &mut Host) -> crate::driver::Execution {
    host.action("it", STUBBORN, json!({"grace": "200ms"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    wait_for("four ids", || (running.says("ready").lines().count() == 5).then_some(()));
    running
}

#[test]
fn a_kill_request_leaves_nothing() {
    let mut host = Host::new();
    let running = stubborn(&mut host);
    assert_eq!(host.ask(Operation::Kill { execution: running.id.clone() }), Outcome::Done);
    assert_eq!(host.ask(Operation::Kill { execution: running.id.clone() }), Outcome::Done);
    let id = running.id.clone();
    nothing_is_left(&running.finished(), State::Killed);
    assert_eq!(host.ask(Operation::Kill { execution: id }), Outcome::Done);
}

#[test]
fn a_kill_file_leaves_nothing() {
    let mut host = Host::new();
    let running = stubborn(&mut host);
    put(&running.dir.join("kill"), b"", 0o600);
    nothing_is_left(&running.finished(), State::Killed);
}

#[test]
fn term_comes_first_and_is_enough_for_the_willing() {
    let mut host = Host::new();
    let script = "#!/bin/sh\ntrap 'echo bye; exit 0' TERM\necho ready\nwhile :; do sleep 0.01; done\n";
    host.action("it", script, json!({"grace": "30s"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    running.says("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
    let ended = running.finished();
    assert_eq!((ended.exit.state, ended.exit.exit_status), (State::Killed, Some(0)));
    assert!(ended.stdout().ends_with("bye\n"));
    assert_eq!(ended.exit.leftovers, Some(Leftovers::default()));
}

#[test]
fn what_an_action_leaves_running_ends_with_it() {
    let mut host = Host::new();
    let ended = host.run("#!/bin/sh\nsetsid sleep 600 </dev/null >/dev/null 2>&1 &\necho $!\n", json!({}));
    assert_eq!(ended.exit.state, State::Succeeded);
    assert!(!lives(&ended.stdout()));
    let Leftovers { after_term, after_subreaper, .. } = ended.exit.leftovers.clone().unwrap();
    assert_eq!((after_term, after_subreaper), (1, 0));
}

#[test]
fn a_shorter_time_out_counts() {
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
fn a_root_action_that_leaves_its_group_is_found() {
    let mut host = Host::new();
    if !is_root() || host.enforcement().cgroups == "none" {
        return skipped("a_root_action_that_leaves_its_group_is_found", "needs root and cgroups");
    }
    let script = "#!/bin/sh\nfor f in $(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs); do echo $$ > $f; done 2>/dev/null\n\
        setsid sleep 600 & echo $!; echo ready; sleep 600\n";
    host.action("it", script, json!({"run_as": "root", "grace": "30s", "timeout": "90s"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let pid = running.says("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
    let ended = running.finished();
    let left = ended.exit.leftovers.clone().unwrap();
    assert_eq!((ended.exit.state, left.after_subreaper), (State::Killed, 0));
    // It is in no group of ours: the TERM reached it all the same, by its descent.
    assert_eq!((left.after_term, left.after_cgroup_kill), (0, 0), "{left:?}");
    assert!(!lives(pid.lines().next().unwrap()));
}

/// Whoever is first to end hands its children on while they are still being looked for.
#[test]
fn the_children_of_who_ends_first_hear_the_term_too() {
    // Without cgroups, which name them all.
    let mut host = Host::with("require_limits = false\ncgroup = \"cgroup.procs/below-a-file\"", "");
    let script = "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do setsid sleep 600 & done; echo ready; sleep 600\n";
    host.action("it", script, json!({"grace": "5s"}));
    for _ in 0..30 {
        let request = host.request("it", json!({}));
        let running = host.started(&request);
        running.says("ready");
        assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
        let ended = running.finished();
        assert_eq!((ended.exit.state, ended.exit.leftovers), (State::Killed, Some(Leftovers::default())));
    }
}

/// Never the same process for long: whoever looks finds one that has just ended, and not yet the one that goes on.
#[test]
fn a_chain_of_short_lives_does_not_outlive_its_action() {
    // Without cgroups, which would name whoever lives.
    let mut host = Host::with("require_limits = false\ncgroup = \"cgroup.procs/below-a-file\"", "");
    let held = host.path("held");
    std::fs::write(&held, "").unwrap();
    std::fs::set_permissions(&held, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    // Whoever of the chain lives holds the lock; without the file it ends, so that a test that fails leaves nothing.
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
        let left = ended.exit.leftovers.clone().expect("it had to be killed");
        assert!(left.after_term > 0 && left.after_subreaper == 0, "{left:?}");
    }
}

#[test]
fn what_a_killed_shim_leaves_behind_can_be_killed() {
    // With cgroups where there are any, and without.
    for cgroup in ["", "cgroup = \"cgroup.procs/below-a-file\""] {
        // In an account of its own, and in one that others may have.
        for account in ["", "default_run_as = \"64100\""] {
            after_a_killed_shim(Host::with(&format!("require_limits = false\n{cgroup}\n{account}"), ""));
        }
    }
}

fn after_a_killed_shim(mut host: Host) {
    host.action("it", "#!/bin/sh\necho $PPID $$ ready; exec sleep 600\n", json!({}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let said = running.says("ready");
    let ids: Vec<i32> = said.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    // The parent is the shim, of this launcher: its own child.
    let shim = nix::unistd::Pid::from_raw(ids[0]);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the shim's end", || (!lives(&ids[0].to_string())).then_some(()));
    assert!(lives(&ids[1].to_string()));
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    wait_for("the action's end", || (!lives(&ids[1].to_string())).then_some(()));
    assert!(!host.path(&format!("run/{}", request.execution)).exists());
    let accounts = std::fs::read_dir(host.path("run/accounts")).into_iter().flatten().count();
    assert!(accounts <= 1, "the counter only");
}

#[test]
fn killing_what_never_started_is_done() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\n", json!({}));
    let request = host.request("it", Value::Object(serde_json::Map::new()));
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    assert!(!host.execution(&request.execution).dir.join("kill").exists());
}

/// The same, but nothing of it hears a TERM: the group is empty, and the last step finds it.
#[test]
fn a_stubborn_root_action_that_leaves_its_group_is_found() {
    let mut host = Host::new();
    if !is_root() || host.enforcement().cgroups == "none" {
        return skipped("a_stubborn_root_action_that_leaves_its_group_is_found", "needs root and cgroups");
    }
    let script = "#!/bin/sh\ntrap '' TERM\n\
        for f in $(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs); do echo $$ > $f; done 2>/dev/null\n\
        setsid sleep 600 & echo $!; echo ready; while :; do sleep 600; done\n";
    host.action("it", script, json!({"run_as": "root", "grace": "100ms", "timeout": "20s"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let pid = running.says("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
    let ended = running.finished();
    let left = ended.exit.leftovers.clone().unwrap();
    assert_eq!((ended.exit.state, left.after_subreaper), (State::Killed, 0));
    assert!(left.after_term >= 2 && left.after_cgroup_kill >= 2, "{left:?}");
    assert!(!lives(pid.lines().next().unwrap()));
}

/// Freezes what runs, as an operator might; no TERM reaches it then.
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
fn what_is_frozen_is_killed() {
    for v2 in [true, false] {
        let Some(mut host) = (if v2 { Some(Host::new()) } else { Host::without_v2() }) else {
            skipped("what_is_frozen_is_killed (version 1)", "the v2 hierarchy cannot be hidden here");
            continue;
        };
        host.action("it", "#!/bin/sh\nsleep 600 & echo ready; wait\n", json!({"grace": "2s"}));
        let request = host.request("it", json!({}));
        let running = host.started(&request);
        running.says("ready");
        if !freeze(&host, &request.execution) {
            return skipped("what_is_frozen_is_killed", "no freezer that we may use");
        }
        assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
        let ended = running.finished();
        let left = ended.exit.leftovers.clone().unwrap();
        // Version 1 lets nothing that is frozen even die of TERM; version 2 does, in its own time.
        assert!(left.after_term <= 2, "{left:?}");
        assert_eq!((ended.exit.state, left.after_cgroup_kill), (State::Killed, 0), "{left:?}");
    }
}

#[test]
fn what_a_root_action_froze_in_a_group_of_its_own_is_killed() {
    let mut host = Host::new();
    let freezer = host.enforcement().groups.into_iter().find(|place| place.controller.as_deref() == Some("freezer"));
    let Some(freezer) = freezer.filter(|_| is_root()) else {
        return skipped("what_a_root_action_froze_in_a_group_of_its_own_is_killed", "needs root and the v1 freezer");
    };
    let script = format!(
        "#!/bin/sh\nat={}/bolt-$BOLT_EXECUTION_ID/own; mkdir $at\nsleep 600 & echo $! >$at/cgroup.procs\n\
         echo FROZEN >$at/freezer.state; echo $!; echo ready; sleep 600\n",
        freezer.path.display()
    );
    host.action("it", &script, json!({"run_as": "root", "grace": "2s"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let pid = running.says("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    let ended = running.finished();
    let left = ended.exit.leftovers.clone().unwrap();
    assert_eq!((ended.exit.state, left.after_term, left.after_cgroup_kill), (State::Killed, 1, 0), "{left:?}");
    assert!(!lives(pid.lines().next().unwrap()));
    assert!(!freezer.path.join(format!("bolt-{}", request.execution)).exists());
}

#[test]
fn what_is_stopped_is_woken_to_hear_the_term() {
    let mut host = Host::new();
    host.action(
        "it",
        "#!/bin/sh\nsleep 600 & kill -STOP $!; echo ready; kill -STOP $$; sleep 600\n",
        json!({"grace": "30s"}),
    );
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    running.says("ready");
    assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
    let ended = running.finished();
    assert_eq!((ended.exit.state, ended.exit.signal), (State::Killed, Some(15)), "{:?}", ended.exit);
    assert_eq!(ended.exit.leftovers, Some(Leftovers::default()), "the grace was not needed");
}

/// A host without `cgroup.kill`: what is found in the v1 groups is frozen and killed. Its processor time is counted as well.
#[test]
fn version_1_alone_leaves_nothing_either() {
    let Some(mut host) = Host::without_v2() else {
        return skipped("version_1_alone_leaves_nothing_either", "the v2 hierarchy cannot be hidden here");
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
