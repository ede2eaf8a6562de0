//! The reliability programs with counts that a test run can afford; `bolt-reliability` runs them with any.
//!
//! Their figures are printed past the test runner's capture: they are what a reader wants of them.

use std::io::Write as _;

use bolt_tests::reliability::{crowd, escapes, faults, resume, soak};
use bolt_tests::{limits_available, skip};

/// The seed, unless `BOLT_TEST_SEED` gives another.
const SEED: u64 = 0x5eed;

fn say(figures: &dyn std::fmt::Display) {
    drop(writeln!(std::io::stderr(), "{figures}"));
}

#[test]
fn two_hundred_cycles_of_faults_break_no_promise() {
    let seed = std::env::var("BOLT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let figures = faults::run(faults::Plan { cycles: 200, seed, workers: 3 });
    say(&format_args!("faults, seed {seed}: {figures}"));
    assert_eq!(figures.broken, None);
    assert_eq!(figures.cycles, 200);
}

#[test]
fn two_hundred_escapes_leave_no_survivor() {
    if !limits_available() {
        skip(
            "two_hundred_escapes_leave_no_survivor",
            "as root, out of a cgroup: needs root and cgroups; tried without",
        );
    }
    let figures = escapes::run(200);
    say(&format_args!("escapes: {figures}"));
    assert_eq!(figures.broken, None);
    assert_eq!(figures.attempts, 200);
}

#[test]
fn executions_in_a_row_leave_nothing_behind() {
    let figures = soak::run(2000);
    say(&format_args!("soak: {figures}"));
    assert_eq!(figures.grown(), None);
}

#[test]
fn clients_that_are_killed_start_nothing_twice_and_lose_no_result() {
    let seed = std::env::var("BOLT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    for (store, cycles) in [(resume::Store::Directory, 25), (resume::Store::Bucket, 15)] {
        let figures = resume::run(resume::Plan { cycles, seed, workers: 2, store });
        say(&format_args!("resume, {store:?}, seed {seed}: {figures}"));
        assert_eq!(figures.broken, None);
        assert_eq!(figures.cycles, cycles);
    }
}

#[test]
fn a_crowd_of_anonymous_sockets_keeps_no_caller_out() {
    // Of 256 slots a caller has one until as many others have come: for 1.6 s at this rate, which a handshake may take beside the
    // other tests of a slow host.
    let figures = crowd::run(crowd::Plan { sockets: 400, addresses: 1 << 23, rate: 160, millis: 1000, seed: SEED });
    say(&format_args!("crowd: {figures}"));
    assert_eq!(figures.broken(), None);
}
