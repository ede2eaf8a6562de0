//! Memory, processes, and what is said where they cannot be capped.

use packs_schema::launch::Refusal;
use packs_schema::run::State;
use serde_json::json;

use crate::driver::{Host, skipped};

#[test]
fn memory_is_capped() {
    let mut host = Host::new();
    if !host.enforcement().memory {
        return skipped("memory_is_capped", "no memory controller that we may use");
    }
    let limits = json!({"limits": {"memory": "16MiB", "cpu": "100%", "pids": 64, "open_files": 256}});
    let hungry = host.run("#!/bin/sh\nhead -c 200000000 /dev/zero | tail -c 150000000 >/dev/null\nexit 3\n", limits);
    assert_eq!(hungry.exit.state, State::OutOfMemory, "{:?}", hungry.exit);
    assert!(hungry.exit.reason.unwrap().contains("16MiB"));
    assert!(hungry.exit.usage.peak_memory_bytes.unwrap() <= 16 << 20);
    let modest = host.run("#!/bin/sh\nexit 3\n", json!({}));
    assert_eq!(modest.exit.state, State::Failed);
}

#[test]
fn processes_are_capped() {
    let mut host = Host::new();
    if !host.enforcement().pids {
        return skipped("processes_are_capped", "no pids controller that we may use");
    }
    let limits = json!({"limits": {"memory": "64MiB", "cpu": "100%", "pids": 8, "open_files": 256}, "timeout": "10s"});
    let bomb = "#!/bin/sh\nfor i in $(seq 40); do sleep 600 & done 2>/dev/null\necho unreached\n";
    let ended = host.run(bomb, limits);
    assert!(!ended.stdout().contains("unreached"), "{}", ended.stdout());
    assert_ne!(ended.exit.state, State::Succeeded);
}

#[test]
fn groups_are_removed_at_the_end() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\n", json!({}));
    let request = host.request("it", json!({}));
    let id = host.started(&request).finished().exit.id;
    let found = std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("bolt-{id}")]).output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "");
    assert!(!host.path(&format!("run/{id}")).exists());
}

#[test]
fn what_cannot_be_capped_is_refused_when_limits_are_required() {
    // A parent group that cannot be made: the same to the launcher as a host without cgroups.
    let nowhere = "cgroup = \"cgroup.procs/below-a-file\"";
    let mut host = Host::with(&format!("require_limits = true\n{nowhere}"), "");
    assert_eq!(host.enforcement().cgroups, "none");
    host.action("it", "#!/bin/sh\n", json!({}));
    let request = host.request("it", json!({}));
    let (code, message) = host.refused(&request);
    assert_eq!(code, Refusal::LimitsUnavailable);
    for part in ["memory limit:", "cpu limit:", "pids limit:", "execution.require_limits = false"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!host.execution(&request.execution).dir.join("lock").exists());

    let mut host = Host::with(&format!("require_limits = false\n{nowhere}"), "");
    let ended = host.run("#!/bin/sh\n(sleep 600 &)\n", json!({}));
    assert_eq!(ended.exit.state, State::Succeeded);
    assert!(ended.exit.unenforced.iter().any(|u| u.starts_with("memory limit:")), "{:?}", ended.exit);
    assert_eq!(ended.exit.leftovers.unwrap().after_subreaper, 0);
    assert!(ended.exit.leftovers.unwrap().after_cgroup_kill > 0, "only the subreaper found it");
}
