//! The trial with published jobs, `tests/fixtures/rundeck/trial.py`: what it compares, by tests of its own in Python.

use std::process::Command;

use super::jobs;

#[test]
fn the_trial_tells_runs_that_differ() {
    let tests = jobs().parent().unwrap().join("test_trial.py");
    let done = Command::new("python3").arg("-B").arg(tests).output().expect("python3 is there");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
    assert!(told.contains("Ran 9 tests"), "{told}");
}
