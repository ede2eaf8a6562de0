//! Limits on memory, processor time, processes, open files and I/O weight, of one execution and of all together; and reports of
//! limits that cannot be enforced.

use std::fs;
use std::path::PathBuf;

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{Operation, Outcome, Refusal};
use serde_json::{Value, json};

use crate::driver::{Host, is_alive, skipped, wait_for};

/// Returns the limits of an action with one of them changed.
fn limits(key: &str, value: Value) -> Value {
    let mut limits = json!({"memory": "64MiB", "cpu": "100%", "pids": 64, "open_files": 256});
    limits[key] = value;
    json!({"limits": limits, "timeout": "20s"})
}

/// Allocates memory in a child of the shell.
const HUNGRY: &str = "#!/bin/sh\nhead -c 200000000 /dev/zero | tail -c 150000000 >/dev/null\nexit 3\n";

/// Returns the directories that contain the groups of executions, by controller, or `v2`.
fn groups(host: &Host) -> Vec<(String, PathBuf)> {
    let places = host.enforcement().groups.into_iter();
    places.map(|place| (place.controller.unwrap_or_else(|| "v2".to_owned()), place.path)).collect()
}

#[test]
fn memory_is_limited() {
    let mut host = Host::new();
    if !host.enforcement().memory {
        return skipped("memory_is_limited", "no memory controller that we may use");
    }
    // The kernel kills the child; the shell continues and exits by itself.
    let hungry = host.run(HUNGRY, limits("memory", json!("16MiB")));
    assert_eq!(hungry.exit.state, State::OutOfMemory, "{:?}", hungry.exit);
    assert_eq!(hungry.exit.reason.as_deref(), Some("reached its memory limit of 16MiB"));
    let peak = hungry.exit.usage.peak_memory_bytes.unwrap();
    assert!((8 << 20..=16 << 20).contains(&peak), "{peak}");
    let main = host.run("#!/bin/sh\nexec perl -e 'my $x = \"x\" x 150000000;'\n", limits("memory", json!("16MiB")));
    assert_eq!((main.exit.state, main.exit.signal), (State::OutOfMemory, Some(9)), "{:?}", main.exit);
    let modest = host.run("#!/bin/sh\nexit 3\n", json!({}));
    assert_eq!(modest.exit.state, State::Failed);
}

#[test]
fn total_memory_is_limited() {
    let mut host = Host::with("require_limits = false\ntotal = {memory = \"32MiB\"}", "");
    if host.enforcement().total.memory_bytes != Some(32 << 20) {
        return skipped("total_memory_is_limited", "no memory controller that we may use");
    }
    let hungry = host.run(HUNGRY, limits("memory", json!("256MiB")));
    assert_eq!(hungry.exit.state, State::OutOfMemory, "{:?}", hungry.exit);
    let reason = hungry.exit.reason.unwrap();
    assert!(
        reason.contains("within its own memory limit of 256MiB") && reason.contains("execution.total.memory"),
        "{reason}"
    );
    let own = host.run(HUNGRY, limits("memory", json!("16MiB"))).exit.reason.unwrap();
    assert!(own.contains("reached its memory limit of 16MiB"), "{own}");
}

#[test]
fn processes_are_limited() {
    let mut host = Host::new();
    if !host.enforcement().pids {
        return skipped("processes_are_limited", "no pids controller that we may use");
    }
    let bomb = "#!/bin/sh\nfor i in $(seq 40); do sleep 600 & done 2>/dev/null\necho unreached\n";
    let ended = host.run(bomb, limits("pids", json!(8)));
    assert!(!ended.stdout().contains("unreached"), "{}", ended.stdout());
    assert_ne!(ended.exit.state, State::Succeeded);
}

#[test]
fn a_fork_bomb_stays_within_its_limit_and_ends() {
    let mut host = Host::new();
    if !host.enforcement().pids {
        return skipped("a_fork_bomb_stays_within_its_limit_and_ends", "no pids controller that we may use");
    }
    let pids = groups(&host).into_iter().find(|(name, dir)| name == "pids" || dir.join("pids.max").exists()).unwrap().1;
    host.action(
        "it",
        // The action's own process forks once: a shell that cannot fork exits.
        "#!/bin/sh\nf() { f | f & }\necho begun\n(while :; do f; sleep 0.01; done) 2>/dev/null &\nexec sleep 600\n",
        json!({"limits": limits("pids", json!(30))["limits"], "grace": "100ms"}),
    );
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let group = pids.join(format!("bolt-{}", request.execution));
    let number = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default().trim().parse::<u64>().ok();
    let hits = || {
        let events = fs::read_to_string(group.join("pids.events")).unwrap_or_default();
        events.lines().find_map(|line| line.strip_prefix("max ")?.parse::<u64>().ok())
    };
    wait_for("the limit", || hits().filter(|hits| *hits > 0));
    assert_eq!(number("pids.max"), Some(30));
    assert!(number("pids.current").unwrap() <= 30);
    assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
    let ended = running.finished();
    assert_eq!((ended.exit.state, ended.exit.leftovers.clone().unwrap().after_subreaper), (State::Killed, 0));
    assert!(!group.exists());
}

#[test]
fn total_processes_are_limited() {
    let mut host = Host::with("require_limits = false\ntotal = {pids = 12}", "");
    if host.enforcement().total.pids != Some(12) {
        return skipped("total_processes_are_limited", "no pids controller that we may use");
    }
    let bomb = "#!/bin/sh\nfor i in $(seq 40); do sleep 600 & done 2>/dev/null\necho unreached\n";
    let ended = host.run(bomb, limits("pids", json!(1000)));
    assert!(!ended.stdout().contains("unreached"), "{}", ended.stdout());
}

#[test]
fn processor_time_is_limited() {
    // Each of the three cases limits the action to the same share: its own limit, the total, and the lower of both.
    for (total, own) in [("100%", "20%"), ("10%", "400%"), ("100%", "2%")] {
        let mut host = Host::with(&format!("require_limits = false\ntotal = {{cpu = \"{total}\"}}"), "");
        if !host.enforcement().cpu {
            return skipped("processor_time_is_limited", "no cpu controller that we may use");
        }
        let script = "#!/bin/sh\n(while :; do :; done) & (while :; do :; done) & wait\n";
        let mut changes = limits("cpu", json!(own));
        (changes["timeout"], changes["grace"]) = (json!("2s"), json!("0s"));
        let ended = host.run(script, changes);
        assert_eq!(ended.exit.state, State::TimedOut);
        let used_ms = (ended.exit.usage.user_us + ended.exit.usage.system_us) / 1000;
        let share: u64 = own.trim_end_matches('%').parse().unwrap();
        let of_all = host.enforcement().total.cpu.unwrap().0 / 10;
        // A tolerance of one half, for a started period and for accounting in ticks.
        let most = ended.exit.duration_ms * share.min(u64::from(of_all)) / 100;
        assert!(used_ms <= most * 3 / 2 + 100, "{used_ms} ms of {most} ms with {own} of {total}");
        assert!(used_ms > 0);
    }
}

#[test]
fn open_files_are_limited() {
    let mut host = Host::new();
    let script = "#!/bin/sh\nulimit -n; ulimit -Hn\nexec perl -e 'my @f; while (open(my $f, \"<\", \"/dev/null\")) { push @f, $f } print scalar(@f), \"\\n\"'\n";
    let said = host.run(script, limits("open_files", json!(40))).stdout();
    let numbers: Vec<u32> = said.lines().filter_map(|line| line.parse().ok()).collect();
    // Including the three standard streams.
    assert_eq!(numbers, [40, 40, 37], "{said}");
}

#[test]
fn an_io_weight_is_set_if_the_host_supports_it() {
    let mut host = Host::new();
    let has = host.enforcement().io_weight;
    let places: Vec<PathBuf> = groups(&host).into_iter().map(|(_, dir)| dir).collect();
    let weight = |id: &str| {
        let files = ["io.weight", "io.bfq.weight", "blkio.weight", "blkio.bfq.weight"];
        let read =
            |dir: &PathBuf| files.iter().find_map(|f| fs::read_to_string(dir.join(format!("bolt-{id}")).join(f)).ok());
        places.iter().find_map(read).map(|text| text.trim().to_owned())
    };
    for (asked, v2, v1) in [(json!(1000), "default 1000", "181"), (Value::Null, "default 100", "100")] {
        host.action("it", "#!/bin/sh\necho here; exec sleep 600\n", limits("io_weight", asked));
        let request = host.request("it", json!({}));
        let running = host.started(&request);
        running.wait_for_stdout("here");
        if has {
            let found = weight(request.execution.as_str()).unwrap();
            assert!(found == v2 || found == v1, "{found}");
        }
        assert_eq!(host.ask(Operation::Kill { execution: request.execution }), Outcome::Done);
        running.finished();
    }
    if !has {
        skipped("an_io_weight_is_set_if_the_host_supports_it (what is set)", "no io controller with weights");
    }
}

#[test]
fn an_io_weight_that_cannot_be_set_is_reported_and_not_refused() {
    let mut host = Host::with("require_limits = false\ncgroup = \"cgroup.procs/below-a-file\"", "");
    assert!(!host.enforcement().io_weight);
    let unenforced = |ended: crate::driver::Finished| ended.exit.unenforced;
    let told = unenforced(host.run("#!/bin/sh\n", limits("io_weight", json!(10))));
    assert!(
        told.iter()
            .any(|what| what.starts_with("io_weight: cannot create a group") || what.starts_with("io_weight: no ")),
        "{told:?}"
    );
    let silent = unenforced(host.run("#!/bin/sh\n", json!({})));
    assert!(!silent.iter().any(|what| what.contains("io_weight")), "{silent:?}");
}

#[test]
fn io_bytes_and_processor_time_are_counted() {
    let mut host = Host::new();
    // An orphaned child, which is reparented.
    let script =
        "#!/bin/sh\nsetsid sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo spun' &\nwait; echo ended\n";
    let usage = host.run(script, json!({})).exit.usage;
    assert!(usage.user_us + usage.system_us > 10_000, "{usage:?}");
    assert!(usage.read_bytes.is_some() && usage.written_bytes.is_some(), "{usage:?}");
}

#[test]
fn groups_are_removed_at_the_end() {
    let mut host = Host::new();
    let above: Vec<PathBuf> = groups(&host).into_iter().map(|(_, dir)| dir).collect();
    host.action("it", "#!/bin/sh\n", json!({}));
    let request = host.request("it", json!({}));
    let id = host.started(&request).finished().exit.id;
    let found = std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("bolt-{id}")]).output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "");
    assert!(!host.path(&format!("run/{id}")).exists());
    assert!(above.iter().all(|dir| dir.is_dir()));
    assert!(host.disconnect().success());
    assert!(!above.iter().any(|dir| dir.exists()), "the group of all goes with its launcher");
}

#[test]
fn the_last_execution_of_a_killed_launcher_removes_the_total_group() {
    let mut host = Host::new();
    let above: Vec<PathBuf> = groups(&host).into_iter().map(|(_, dir)| dir).collect();
    host.action("it", "#!/bin/sh\necho $$; exec sleep 600\n", json!({}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let pid = running.wait_for_stdout("\n");
    host.kill_launcher();
    assert!(is_alive(&pid) && above.iter().all(|dir| dir.is_dir()));
    fs::write(running.dir.join("kill"), "").unwrap();
    assert_eq!(running.finished().exit.state, State::Killed);
    assert!(!above.iter().any(|dir| dir.exists()));
}

/// The exit record is written before the clean-up: a shim may be killed in between.
#[test]
fn what_a_shim_left_that_died_before_its_clean_up_is_removed() {
    let mut host = Host::new();
    let above: Vec<PathBuf> = groups(&host).into_iter().map(|(_, dir)| dir).collect();
    let ended = host.run("#!/bin/sh\n", json!({}));
    // As if its shim had not come to it.
    let runtime = host.path("run").join(ended.exit.id.as_str());
    let name = format!("bolt-{}", ended.exit.id);
    let left: Vec<PathBuf> = above.iter().map(|dir| dir.join(&name)).chain([runtime]).collect();
    let lease = host.path("run/accounts/1999999999");
    let make = |lease: bool| {
        left.iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        fs::write(left.last().unwrap().join("ended"), "").unwrap();
        if lease {
            fs::write(host.path("run/accounts/1999999999"), ended.exit.id.as_str()).unwrap();
        }
    };
    make(lease.parent().unwrap().is_dir());
    let is_left = || left.iter().any(|dir| dir.exists()) || lease.exists();
    host.action("long", "#!/bin/sh\necho ready; sleep 600\n", json!({}));
    let request = host.request("long", json!({}));
    let running = host.started(&request);
    running.wait_for_stdout("ready");
    assert!(is_left());
    for shim in host.shims() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    wait_for("the clean-up by the launcher", || (!is_left()).then_some(()));
    // The one that has no exit record is left to the api, which asks for its end.
    assert!(host.path("run").join(request.execution.as_str()).is_dir());
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    assert!(!host.path("run").join(request.execution.as_str()).exists());
}

#[test]
fn groups_of_an_older_launcher_are_found() {
    let mut host = Host::new();
    let places = groups(&host);
    if places.is_empty() {
        return skipped("groups_of_an_older_launcher_are_found", "no cgroups");
    }
    host.action("it", "#!/bin/sh\n", json!({}));
    let request = host.request("it", json!({}));
    // An execution whose shim has died, in groups at the place that earlier releases used.
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(host.execution(&request.execution).dir.join("lock"), "").unwrap();
    let old = |dir: &PathBuf| dir.parent().unwrap().join(format!("bolt-{}", request.execution));
    let old: Vec<PathBuf> = places.iter().map(|(_, dir)| old(dir)).collect();
    for dir in &old {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    // The launcher waits until the groups are empty, so the process must be reaped meanwhile.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait().unwrap()));
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    let status = told.recv_timeout(crate::driver::DEADLINE).expect("it is found and killed");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    wait_for("the groups' end", || (!old.iter().any(|dir| dir.exists())).then_some(()));
}

#[test]
fn unenforceable_limits_are_refused_when_required() {
    // A parent group that cannot be created: for the launcher like a host without cgroups.
    let nowhere = "cgroup = \"cgroup.procs/below-a-file\"";
    let mut host = Host::with(&format!("require_limits = true\n{nowhere}"), "");
    assert_eq!(host.enforcement().cgroups, "none");
    assert_eq!(host.enforcement().total, packs_schema::agent::rest::TotalLimits::default());
    host.action("it", "#!/bin/sh\n", json!({}));
    let request = host.request("it", json!({}));
    let (code, message) = host.refused(&request);
    assert_eq!(code, Refusal::LimitsUnavailable);
    for part in ["memory limit:", "cpu limit:", "pids limit:", "execution.require_limits = false"] {
        assert!(message.contains(part), "{message}");
    }
    let directory = host.execution(&request.execution).dir;
    assert!(!directory.join("lock").exists() && !directory.join("exit.new").exists());

    let mut host = Host::with(&format!("require_limits = false\n{nowhere}"), "");
    let ended = host.run("#!/bin/sh\n(sleep 600 &)\n", json!({}));
    assert_eq!(ended.exit.state, State::Succeeded);
    assert!(ended.exit.unenforced.iter().any(|u| u.starts_with("memory limit:")), "{:?}", ended.exit);
    assert_eq!(ended.exit.leftovers.clone().unwrap().after_subreaper, 0);
    assert!(ended.exit.leftovers.clone().unwrap().after_cgroup_kill > 0, "only the subreaper found it");
}

/// The reason is the missing permission of an ordinary user, not that the host has no controllers.
#[test]
fn missing_permission_is_reported_to_an_ordinary_user() {
    use std::os::unix::process::CommandExt;
    const TEST: &str = "missing_permission_is_reported_to_an_ordinary_user";
    const USER: u32 = 64_105;
    if !crate::driver::is_root() || !Host::new().enforcement().memory {
        return skipped(TEST, "needs root and a memory controller");
    }
    let dir = crate::driver::base();
    let config = crate::driver::write_config(dir.path(), "require_limits = false", "", "");
    fs::create_dir(dir.path().join("run")).unwrap();
    for below in ["", "packs", "packs/demo", "state", "state/exec", "run", "agent.toml"] {
        std::os::unix::fs::chown(dir.path().join(below), Some(USER), Some(USER)).unwrap();
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(ours);
    let program = dir.path().join("bolt-launch");
    let _guard = crate::driver::writing();
    fs::copy(env!("CARGO_BIN_EXE_bolt-launch"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["serve", "--attach", "--config"]).arg(&config).uid(USER).gid(USER);
    let output = command.stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(theirs))).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| line.contains("limit=memory")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("Permission denied") || line.contains("not delegated"), "{line}");
    assert!(!line.contains("no memory controller"), "{line}");
}

#[test]
fn no_group_is_made_for_the_freezer_where_groups_can_be_killed() {
    let enforcement = Host::new().enforcement();
    if !enforcement.cgroup_kill {
        return skipped("no_group_is_made_for_the_freezer_where_groups_can_be_killed", "no cgroup.kill");
    }
    assert!(!enforcement.groups.iter().any(|place| place.controller.as_deref() == Some("freezer")), "{enforcement:?}");
}
