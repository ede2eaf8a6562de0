//! The live view of a run, on a real terminal, over a simulated fleet.

use bolt_tests::Screen;
use bolt_tests::fleet::{ACTION, Fleet, Latency, Setup};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Returns a fleet of which some instances fail, and some take long.
fn fleet(instances: u32, median_ms: u64) -> (Fleet, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let latency = Latency { median_ms, tail_percent: 1, tail_ms: 6_000 };
    let setup = Setup { faulty_percent: 6, latency, seed: 7, ..Setup::healthy(instances) };
    let fleet = Fleet::start(setup, directory.path());
    fleet.make_certificates();
    (fleet, directory)
}

fn run(fleet: &Fleet, more: &[&str]) -> std::process::Command {
    fleet.bolt().command(["run", ACTION, "--everywhere", "--max-failures", "100%"].iter().chain(more))
}

/// Number of instances that have ended, by the view: `512 of 1000 ended`.
fn ended(screen: &str) -> Option<usize> {
    let (before, _) = screen.split_once(" of 1000 ended")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_run_on_1000_instances_is_seen_by_zone_and_leaves_its_report() {
    let (fleet, _directory) = fleet(1000, 400);
    let screen = Screen::start(run(&fleet, &["--at-once"]), 24, 80);
    // Which instances run longest is said once one has run for a while: it depends on the host when that is.
    let is_seen = |text: &str| text.contains(" left\n") && text.contains("\nrunning longest: i-");
    let seen = screen.wait_until(|text| ended(text).is_some_and(|ended| ended >= 400) && is_seen(text));
    println!("{seen}");
    for part in ["[###", "/s, ", "running, ", "succeeded, ", "PLACE ", "\nus-east-1 ", "\n  us-east-1a "] {
        assert!(seen.contains(part), "{part:?} is missing:\n{seen}");
    }
    let sums = |text: &str| -> Vec<Vec<usize>> {
        let rows = text
            .lines()
            .skip_while(|line| !line.starts_with("PLACE"))
            .skip(1)
            .filter(|line| !line.starts_with([' ', 'r']));
        let cells = |line: &str| line.split_whitespace().skip(1).map(|cell| cell.parse().unwrap_or(0)).collect();
        rows.map(cells).collect()
    };
    assert_eq!(sums(&seen).into_iter().flatten().sum::<usize>(), 1000, "each instance is in one cell:\n{seen}");
    assert!(screen.is_colored());

    // A narrower and lower terminal: one view, which fits.
    screen.resize(12, 40);
    let narrow = screen.wait_until(|text| text.contains(" UNRCH") && text.matches(" of 1000 ended").count() == 1);
    assert!(narrow.lines().count() < 12, "{narrow}");
    screen.resize(24, 80);
    let (status, last) = screen.wait();
    assert_eq!(status.code(), Some(1));
    assert!(last.contains("-- 1000 instances in ") && !last.contains("PLACE"), "{last}");
}

#[test]
fn an_interrupt_is_answered_above_the_view_and_the_terminal_is_left_in_order() {
    let (fleet, _directory) = fleet(1000, 400);
    let screen = Screen::start(run(&fleet, &["--at-once"]), 24, 160);
    screen.wait_until(|text| text.contains("PLACE"));
    kill(Pid::from_raw(screen.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let stopping = screen.wait_until(|text| text.contains("not started; "));
    let (said, view) = stopping.split_once("\n[").unwrap();
    assert!(
        said.contains("interrupted: no further instance starts") && view.contains("no further instance starts"),
        "{stopping}"
    );
    let (status, last) = screen.wait();
    assert_eq!(status.code(), Some(130));
    assert!(last.contains("; interrupted\n") && !last.contains("PLACE"), "{last}");
}

#[test]
fn a_question_between_batches_waits_without_the_view() {
    let (fleet, _directory) = fleet(30, 1_500);
    let mut screen = Screen::start(run(&fleet, &["--batch", "15", "--pause", "ask"]), 24, 80);
    let first = screen.wait_until(|text| text.contains("batch 1 of 2: "));
    assert!(first.contains("WAITING"), "{first}");
    let asked = screen.wait_until(|text| text.contains("Begin the next batch? [y/N]"));
    assert!(
        asked.contains("15 of 30 ended") && asked.contains("next is batch 2 of 2") && !asked.contains("PLACE"),
        "{asked}"
    );
    screen.type_in("y\n");
    screen.wait_until(|text| text.contains("batch 2 of 2: "));
    let (_, last) = screen.wait();
    assert!(last.contains("-- 30 instances in "), "{last}");
}

#[test]
fn colours_and_movement_are_left_out_where_they_are_not_wanted() {
    let (fleet, _directory) = fleet(40, 800);
    let mut plain = run(&fleet, &["--at-once"]);
    plain.env("NO_COLOR", "1");
    let screen = Screen::start(plain, 24, 80);
    screen.wait_until(|text| text.contains("PLACE"));
    assert!(!screen.is_colored());
    drop(screen);

    let mut dumb = run(&fleet, &["--at-once"]);
    dumb.env("TERM", "dumb");
    let (_, last) = Screen::start(dumb, 50, 120).wait();
    assert!(last.contains("-- 40 instances in ") && last.contains("i-00") && !last.contains("PLACE"), "{last}");

    let piped = run(&fleet, &["--at-once"]).output().unwrap();
    let said = String::from_utf8(piped.stderr).unwrap();
    assert!(said.contains(": succeeded\n") && !said.contains('\x1b'), "{said}");
}
