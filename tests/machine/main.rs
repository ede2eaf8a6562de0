//! The booted machine in small counts; `bolt-machine` cuts the power as often as wanted.

use std::io::Write as _;

use bolt_tests::{binaries, is_root, machine, skip};

/// The seed, unless `BOLT_TEST_SEED` gives another. Its cut comes ten seconds after the first of ten orders: some executions have
/// ended then, and some are running.
const SEED: u64 = 53;

#[test]
fn packages_live_on_a_booted_machine_and_a_power_cut_breaks_no_promise() {
    let test = "packages_live_on_a_booted_machine_and_a_power_cut_breaks_no_promise";
    let image = match machine::image() {
        Ok(image) => image,
        Err(why) => return skip(test, &why),
    };
    if !is_root() {
        return skip(test, "the packages are built as root");
    }
    binaries();
    let site = machine::MachineSite::create().expect("the packages are built");
    let seed = std::env::var("BOLT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    // A machine waits for most of its time: three at once take little longer than the longest.
    let (life, power) = std::thread::scope(|scope| {
        let life = scope.spawn(|| machine::life(&image, &site));
        let power = machine::power(&image, &site, machine::Plan { cuts: 1, seed });
        (life.join().expect("it does not panic"), power)
    });
    let figures = power.expect("the machine boots");
    drop(writeln!(std::io::stderr(), "power, seed {seed}: {figures}"));
    life.expect("the packages do what their paper says");
    assert!(figures.violations.is_empty(), "{figures}");
    assert!(figures.accepted > 0, "the cut hit a machine without executions: {figures}");
}
