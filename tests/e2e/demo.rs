//! `bolt demo`, as a new user runs it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bolt_client::local::binary;
use bolt_tests::{World, binaries};
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
    let run = bolt(&["--config", &config, "run", "linux.memory_pressure", "--all"]);
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
