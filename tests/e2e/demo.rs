//! `bolt demo`, as a new user runs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use bolt_client::local::binary;
use bolt_tests::{Bolt, CommandOutput, World, binaries, is_root, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Command lines of processes that name `word`.
fn processes(word: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(word)).collect()
}

#[test]
fn it_shows_everything_and_leaves_nothing() {
    binaries();
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("fleet");
    let output = Command::new(binary("bolt").unwrap())
        .arg("demo")
        .arg("--directory")
        .arg(&directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for word in [
        "us-east-1a",
        "eu-west-1a",
        "6 instances",
        "succeeded",
        "killed",
        "timed_out",
        "forbidden",
        "bytes_reclaimed",
        "second 2 of",
    ] {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
    assert!(!directory.exists());
    assert_eq!(processes(&directory.display().to_string()), Vec::<String>::new());
}

#[test]
fn an_interrupt_leaves_nothing() {
    binaries();
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("fleet");
    let mut demo = Command::new(binary("bolt").unwrap())
        .arg("demo")
        .arg("--directory")
        .arg(&directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let shown = directory.display().to_string();
    while processes(&shown).iter().filter(|line| line.contains("bolt-launch")).count() < 3 {
        assert!(Instant::now() < deadline, "the fleet does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(demo.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    assert!(!directory.exists());
    assert_eq!(processes(&shown), Vec::<String>::new());
}

#[test]
fn a_kept_fleet_is_used_and_stopped() {
    binaries();
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("fleet");
    let bolt = |arguments: &[&str]| {
        Command::new(binary("bolt").unwrap()).args(arguments).stdin(Stdio::null()).output().unwrap()
    };
    let shown = directory.display().to_string();
    assert!(bolt(&["demo", "--keep", "--directory", &shown]).status.success());
    let config = format!("{shown}/client.toml");
    let run = bolt(&["--config", &config, "run", "linux.memory_pressure", "--everywhere", "--at-once"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let stop = bolt(&["demo", "--stop", &shown]);
    assert!(stop.status.success(), "{}", String::from_utf8_lossy(&stop.stderr));
    assert!(!directory.exists());
    assert_eq!(processes(&shown), Vec::<String>::new());
    // Not a demo's directory: nothing is removed.
    let other = World::empty();
    let said = bolt(&["demo", "--stop", &other.path().display().to_string()]);
    assert!(!said.status.success() && other.site.repository().exists());
}

/// Values for parameters that an action of the demo's packs must be given.
fn sample(action: &str, parameter: &str) -> String {
    match (action, parameter) {
        ("linux.restart_service" | "linux.reload_service" | "linux.service_status", "service") => {
            "service=cron".to_owned()
        }
        // This process: the test ends when it is killed.
        ("linux.kill_process" | "linux.sample_process", "pid") => format!("pid={}", std::process::id()),
        ("linux.kill_process", "started") => {
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            format!("started={}", fields[19])
        }
        ("linux.rotate_logs", "configuration") => "configuration=apt".to_owned(),
        ("linux.dns_health", "name") => "name=localhost".to_owned(),
        ("linux.remount_read_write", "mount") => "mount=/".to_owned(),
        ("cassandra.repair", "keyspace") => "keyspace=system_distributed".to_owned(),
        ("linux.certificate_expiry", "paths") => "paths=/etc/ssl/certs".to_owned(),
        _ => panic!("{action} must be given {parameter}: add a value, with which it would do the most harm"),
    }
}

/// Every file below `directory` with its size and the time of its last change.
fn tree(directory: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let meta = entry.path().symlink_metadata().unwrap();
        found.insert(entry.path(), (meta.len(), meta.modified().unwrap()));
        if meta.is_dir() {
            found.extend(tree(&entry.path()));
        }
    }
    found
}

/// Stops the kept fleet of a directory, also when the test fails.
struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        drop(Command::new(binary("bolt").unwrap()).args(["demo", "--stop"]).arg(&self.0).output());
    }
}

/// The fleet sees file systems of its own in place of those of this host that an action might clear: with old logs in
/// them. Each published action is run there, and must leave them as they are.
#[test]
fn no_action_of_the_demo_changes_the_host() {
    const LAYOUT: &str = "for d in $CANARIES; do mount -t tmpfs canary $d; mkdir $d/app; \
        for f in $d/old.log $d/app/old.log.1 $d/app/old.gz $d/app/Data.db; do head -c 300000 /dev/zero >$f; \
        touch -d '90 days ago' $f; done; done; exec \"$0\" \"$@\"";
    let private = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "canary", "/srv"]).output();
    if !is_root() || !private.is_ok_and(|output| output.status.success()) {
        skip("no_action_of_the_demo_changes_the_host", "it takes root, unshare, and leave to mount");
        return;
    }
    binaries();
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("fleet");
    let shown = directory.display().to_string();
    let bolt = binary("bolt").unwrap();
    // Mounting over the programs or over the fleet would hide them.
    let hides = |canary: &&str| [&bolt, &directory].iter().any(|path| path.starts_with(canary));
    let canaries: Vec<&str> = ["/var/log", "/var/tmp", "/srv", "/opt"].into_iter().filter(|at| !hides(at)).collect();
    let mut kept = Command::new("unshare");
    kept.env("CANARIES", canaries.join(" ")).args(["--mount", "sh", "-ec", LAYOUT]).arg(&bolt).args([
        "demo",
        "--keep",
        "--directory",
        &shown,
    ]);
    let said = CommandOutput::from(kept.stdin(Stdio::null()).output().unwrap());
    let kept = Kept(directory.clone());
    assert_eq!(said.code, 0, "{said:?}");
    let mark: serde_json::Value = serde_json::from_slice(&std::fs::read(directory.join("demo.json")).unwrap()).unwrap();
    let root = PathBuf::from(format!("/proc/{}/root", mark["launchers"][0]));
    let look = || -> Vec<_> { canaries.iter().map(|canary| tree(&root.join(&canary[1..]))).collect() };
    let before = look();
    assert!(before.iter().all(|tree| tree.len() == 5), "{before:?}");

    let operator = Bolt::new(&directory.join("client.toml"));
    let agent: toml::Table =
        std::fs::read_to_string(directory.join("agents/i-0a11/etc/agent.toml")).unwrap().parse().unwrap();
    let (_, listed) = operator.json(["actions"]);
    let listed = listed["actions"].as_array().unwrap();
    assert!(listed.len() >= 13, "{listed:?}");
    for action in listed.iter().map(|entry| &entry["action"]) {
        let name = format!("{}.{}", action["pack"].as_str().unwrap(), action["name"].as_str().unwrap());
        if let Some(account) = action["run_as"].as_str() {
            let mapped = agent["users"]["map"].get(account).and_then(toml::Value::as_str);
            assert!(mapped.is_some_and(|mapped| mapped != "root" && mapped != "0"), "{name} runs as {account} itself");
        }
        let parameters = action["parameters"].as_object().unwrap();
        let needed = parameters.iter().filter(|(_, schema)| schema["required"] == true);
        let mut run = vec!["run".to_owned(), name.clone()];
        run.extend(needed.map(|(parameter, _)| sample(&name, parameter)));
        run.extend(["--on", "i-0a11", "--yes", "--timeout", "10s"].map(str::to_owned));
        let mut runs = vec![run.clone()];
        if name == "linux.free_disk_space" {
            run.push("directories=/var/log,/opt".to_owned());
            runs.push(run);
        }
        for run in runs {
            let said = operator.run(&run);
            assert!(said.code < 2, "{run:?}: {said:?}");
            assert_eq!(look(), before, "{run:?}: {said:?}");
        }
    }
    let logs = directory.join("agents/i-0a11/logs/app");
    // Emptied, not removed: the account cannot see whether a process of another one holds the file.
    let size = |name: &str| logs.join(name).metadata().map_or(0, |meta| meta.len());
    assert_eq!((size("requests.log.2"), size("requests.log")), (0, 50_000), "its own old logs are cleared");
    drop(kept);
    assert!(!directory.exists());
}
