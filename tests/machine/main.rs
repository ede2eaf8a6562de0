//! The booted machine in small counts; `bolt-machine` cuts the power as often as wanted.

use std::io::Write as _;

use bolt_tests::{binaries, is_root, machine, skip};

/// The seed, unless `BOLT_TEST_SEED` gives another.
const SEED: u64 = 1;

#[test]
fn packages_live_on_a_booted_machine_and_power_cuts_break_no_promise() {
    let test = "packages_live_on_a_booted_machine_and_power_cuts_break_no_promise";
    let image = match machine::image() {
        Ok(image) => image,
        Err(why) => return skip(test, &why),
    };
    if !is_root() {
        return skip(test, "the packages are built as root");
    }
    binaries();
    machine::life(&image).expect("the packages do what their paper says");
    let seed = std::env::var("BOLT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let figures = machine::power(&image, machine::Plan { cuts: 2, seed }).expect("the machine boots");
    drop(writeln!(std::io::stderr(), "power, seed {seed}: {figures}"));
    assert!(figures.violations.is_empty(), "{figures}");
}
