//! The trials with published collections, `tests/fixtures/*/trial.py`: what they compare and count, and the store of values of
//! the supplied runner, by tests in Python.

use std::path::Path;
use std::process::Command;

/// Runs a file of tests in Python, and checks that there are as many as there were.
fn run(tests: &str, count: usize) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(tests);
    let done = Command::new("python3").arg("-B").arg(program).output().expect("python3 is there");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
    assert!(told.contains(&format!("Ran {count} tests")), "{told}");
}

#[test]
fn the_parts_that_trials_share() {
    run("trials/test_trials.py", 8);
}

#[test]
fn the_trial_of_rundeck_tells_jobs_that_differ() {
    run("rundeck/test_trial.py", 9);
}

#[test]
fn the_trial_of_systems_manager_tells_documents_that_differ() {
    run("ssm/test_trial.py", 9);
}

#[test]
fn the_supplied_runner_starts_no_script_after_a_signal() {
    run("ssm/test_run_steps.py", 8);
}

#[test]
fn the_trial_of_stackstorm_tells_actions_that_differ() {
    run("stackstorm/test_trial.py", 12);
}

#[test]
fn the_reference_of_stackstorm_has_its_rules_of_status() {
    run("stackstorm/test_reference.py", 3);
}

#[test]
fn values_of_the_supplied_runner_are_kept_bounded_and_expire() {
    run("stackstorm/test_values.py", 10);
}

#[test]
fn the_trial_of_puppet_tells_tasks_that_differ() {
    run("puppet/test_trial.py", 6);
}
