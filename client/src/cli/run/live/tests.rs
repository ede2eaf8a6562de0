use std::time::Duration;

use packs_schema::base::name::{ActionRef, InstanceId};
use packs_schema::delivery::facts::Facts;

use super::*;
use crate::fleet::{Amount, Grouping, Pause, Plan, Request, Strategy};
use crate::inventory::{Address, Instance};

/// A run on `count` instances in three regions, of which the first has four zones.
fn run(count: usize, strategy: &Strategy) -> Run {
    let zones = ["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d", "eu-west-1a", "eu-west-1b", "ap-south-1a"];
    let target = |at: usize| {
        let mut facts = Facts::of(InstanceId::new(format!("i-{at:05}")).unwrap());
        facts.zone = zones[at % zones.len()].to_owned();
        facts.region = facts.zone[..facts.zone.len() - 1].to_owned();
        Instance { facts, address: Address::new("127.0.0.1:1").unwrap() }
    };
    let targets: Vec<Instance> = (0..count).map(target).collect();
    let plan = Plan::new(&targets.iter().map(|t| &t.facts).collect::<Vec<_>>(), strategy);
    let request = Request::new(ActionRef::new("probe.hello").unwrap());
    Run { id: crate::fleet::new_run_id(), request, targets, plan, check: None }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn start(board: &mut Board<'_>, target: usize, now: Duration) {
    board.event(&Event::Starting { target }, Outcome::Failed, now);
}

fn end(board: &mut Board<'_>, target: usize, outcome: Outcome, now: Duration) {
    let state = match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed if target.is_multiple_of(2) => "failed",
        Outcome::Failed => "timed_out",
        Outcome::Unreachable => "unreachable",
    };
    board.event(&Event::Ended { target, state, succeeded: outcome == Outcome::Succeeded }, outcome, now);
}

/// A run on 1,000 instances after nine seconds: 540 have ended, and 64 are in flight.
fn in_the_middle(run: &Run) -> Board<'_> {
    let mut board = Board::new(run, &Earlier::default());
    board.event(&Event::BatchStarted { batch: 0 }, Outcome::Failed, at(0));
    for target in 0..604 {
        start(&mut board, target, at(target as u64 / 67));
        if target >= 64 {
            let ended = target - 64;
            let outcome = match ended {
                _ if ended % 45 == 3 => Outcome::Unreachable,
                _ if ended % 14 == 2 => Outcome::Failed,
                _ => Outcome::Succeeded,
            };
            // Two of the first take long: others end in their place.
            end(&mut board, if ended < 2 { 602 + ended } else { ended }, outcome, at(target as u64 / 67));
            if ended < 2 {
                start(&mut board, 998 + ended, at(target as u64 / 67));
            }
        }
    }
    board
}

fn text(board: &Board<'_>, now: Duration, rows: usize, columns: usize) -> String {
    let lines = lines(board, now, Size { rows, columns });
    assert!(lines.len() < rows.max(2), "{lines:?}");
    assert!(lines.iter().all(|line| measure_text_width(&line.text) <= columns), "{lines:?}");
    lines.iter().map(|line| format!("{}\n", line.text)).collect()
}

#[test]
fn a_run_on_1000_instances_at_several_sizes() {
    let all = Strategy { grouping: Grouping::All, max_failures: Amount::Percent(100), ..Strategy::default() };
    let run = run(1000, &all);
    let board = in_the_middle(&run);
    let shown = |rows, columns| format!("{rows} rows, {columns} columns\n{}\n", text(&board, at(9), rows, columns));
    let sizes = [(50, 200), (24, 80), (12, 80), (24, 60), (24, 40), (8, 40), (4, 20)];
    insta::assert_snapshot!(sizes.map(|(rows, columns)| shown(rows, columns)).concat());
}

#[test]
fn batches_checks_pauses_and_budgets_have_lines_of_their_own() {
    let zones = Strategy {
        grouping: Grouping::Zone,
        canary: 2,
        max_failures: Amount::Count(5),
        max_batch_failures: Some(Amount::Count(1)),
        check: Some(Amount::Count(0)),
        pause: Pause::For(at(60)),
        ..Strategy::default()
    };
    let run = run(21, &zones);
    let mut board = Board::new(&run, &Earlier::default());
    let mut shown = String::new();
    let mut show = |board: &Board<'_>, now| shown.push_str(&format!("{}\n", text(board, now, 24, 80)));
    show(&board, at(0));
    board.event(&Event::BatchStarted { batch: 0 }, Outcome::Failed, at(0));
    let canary = run.plan.batches()[0].targets.clone();
    canary.iter().for_each(|target| start(&mut board, *target, at(0)));
    end(&mut board, canary[0], Outcome::Succeeded, at(4));
    show(&board, at(5));
    end(&mut board, canary[1], Outcome::Failed, at(6));
    board.event(&Event::CheckStarted { batch: 0, targets: 2 }, Outcome::Failed, at(6));
    show(&board, at(9));
    board.event(&Event::CheckEnded { batch: 0, failed: Vec::new(), has_passed: true }, Outcome::Failed, at(9));
    board.event(&Event::Pausing { time: at(60) }, Outcome::Failed, at(9));
    show(&board, at(12));
    board.event(&Event::BatchStarted { batch: 1 }, Outcome::Failed, at(69));
    board.event(&Event::Stopping { in_flight: 0 }, Outcome::Failed, at(70));
    show(&board, at(70));
    insta::assert_snapshot!(shown);
}

#[test]
fn a_run_that_goes_on_counts_what_an_earlier_client_did() {
    use crate::fleet::Before;
    let run = run(3, &Strategy::default());
    let before = vec![Before::Ended(Outcome::Succeeded), Before::Started, Before::Untouched];
    let board = Board::new(&run, &Earlier { before, ..Earlier::default() });
    assert_eq!((board.ended(), board.total.succeeded, board.total.waiting), (1, 1, 2));
    assert_eq!(board.time_left(at(5)), None, "how long the others take is not known");
}

#[test]
fn time_left_is_not_guessed_while_a_person_decides_or_only_the_slowest_are_left() {
    let ask = Strategy { batch: Some(Amount::Count(10)), pause: Pause::Confirm, ..Strategy::default() };
    for (strategy, is_known) in [(Strategy { pause: Pause::None, ..ask }, true), (ask, false)] {
        let run = run(100, &strategy);
        let mut board = Board::new(&run, &Earlier::default());
        board.event(&Event::BatchStarted { batch: 0 }, Outcome::Failed, at(0));
        for target in 0..10 {
            start(&mut board, target, at(target as u64));
            end(&mut board, target, Outcome::Succeeded, at(target as u64 + 1));
        }
        assert_eq!(board.time_left(at(10)).is_some(), is_known);
    }
    let run = run(100, &Strategy { grouping: Grouping::All, ..Strategy::default() });
    let mut board = Board::new(&run, &Earlier::default());
    (0..100).for_each(|target| start(&mut board, target, at(0)));
    (0..96).for_each(|target| end(&mut board, target, Outcome::Succeeded, at(2)));
    assert_eq!(board.time_left(at(3)), None);
}
