//! Bounds, order, rates and forecasts; and a property over whatever may happen to a board.

use super::*;
use crate::history::Born;
use proptest::prelude::*;

fn id(n: u8) -> ExecutionId {
    ExecutionId::new(format!("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2{n:02x}")).unwrap()
}

fn claim(action: &str, most: Option<u32>) -> Claim {
    Claim { most, ..Claim::bare(&ActionRef::new(action).unwrap()) }
}

fn timed(claim: Claim, seconds: u64) -> Claim {
    Claim { timeout: Some(Duration::from_secs(seconds)), ..claim }
}

#[test]
fn a_full_agent_queues_and_a_full_queue_refuses() {
    let mut board = Board::new(1, 1);
    let any = timed(claim("linux.a", None), 1);
    assert_eq!(board.admit(&id(1), any.clone(), 0), Ok(Placed::Run));
    assert_eq!(board.admit(&id(2), any.clone(), 0), Ok(Placed::Wait));
    assert_eq!(board.admit(&id(3), any.clone(), 0), Err(Refused::QueueFull(Duration::from_secs(1))));
    board.release(&id(1));
    assert_eq!(board.next(0), [id(2)]);
    assert_eq!(board.admit(&id(3), any, 0), Ok(Placed::Wait));
    assert_eq!((board.running(), board.queued()), (1, 1));
}

#[test]
fn a_group_is_first_in_first_out_and_does_not_hold_up_others() {
    let mut board = Board::new(8, 8);
    let one = claim("cassandra.a", Some(1));
    assert_eq!(board.admit(&id(1), one.clone(), 0), Ok(Placed::Run));
    assert_eq!(board.admit(&id(2), one.clone(), 0), Ok(Placed::Wait));
    assert_eq!(board.admit(&id(3), one.clone(), 0), Ok(Placed::Wait));
    assert_eq!(board.admit(&id(4), claim("linux.b", Some(1)), 0), Ok(Placed::Run));
    assert!(board.next(0).is_empty());
    board.release(&id(1));
    // Between the release and the next start nobody slips in.
    assert_eq!(board.admit(&id(5), one, 0), Ok(Placed::Wait));
    assert_eq!(board.next(0), [id(2)]);
    board.release(&id(3));
    board.release(&id(2));
    assert_eq!(board.next(0), [id(5)]);
}

#[test]
fn a_queued_execution_says_what_it_waits_for() {
    let mut board = Board::new(2, 8);
    let group = claim("cassandra.a", Some(1));
    for (n, claim) in
        [(1, &group), (2, &group), (3, &group), (4, &claim("linux.b", None)), (5, &claim("linux.b", None))]
    {
        board.admit(&id(n), claim.clone(), 0).unwrap();
    }
    let waiting = |board: &Board, n, sees: bool| board.waiting(&id(n), |_| sees);
    let group = |ahead, behind: &[u8]| Waiting {
        reason: WaitingReason::Group,
        group: Some("cassandra.a".to_owned()),
        running: 1,
        max: 1,
        ahead,
        behind: behind.iter().map(|n| id(*n)).collect(),
    };
    assert_eq!(waiting(&board, 2, true), Some(group(0, &[1])));
    assert_eq!(waiting(&board, 3, true), Some(group(1, &[1])));
    assert_eq!(waiting(&board, 3, false), Some(group(1, &[])), "what the caller may not see is not named");
    let slot =
        Waiting { reason: WaitingReason::Slot, group: None, running: 2, max: 2, ahead: 2, behind: vec![id(1), id(4)] };
    assert_eq!(waiting(&board, 5, true), Some(slot));
    let launcher = waiting(&board, 1, true).map(|waiting| waiting.reason);
    assert_eq!((launcher, waiting(&board, 9, true)), (Some(WaitingReason::Launcher), None));
}

#[test]
fn a_group_that_rejects_says_busy() {
    let mut board = Board::new(8, 8);
    let one = timed(Claim { reject: true, ..claim("cassandra.a", Some(1)) }, 1);
    assert_eq!(board.admit(&id(1), one.clone(), 0), Ok(Placed::Run));
    assert_eq!(board.admit(&id(2), one.clone(), 0), Err(Refused::Busy(Duration::from_secs(1))));
    board.release(&id(1));
    assert_eq!(board.admit(&id(2), one, 0), Ok(Placed::Run));
}

#[test]
fn a_rate_counts_what_was_accepted_also_before_a_restart() {
    let mut board = Board::new(8, 8);
    let rated = Claim { rate: Some((2, Duration::from_secs(10))), ..claim("linux.a", None) };
    assert!(board.needs_past(&rated.action));
    board.tell_past(&rated.action, vec![1_000]);
    assert_eq!(board.admit(&id(1), rated.clone(), 2_000), Ok(Placed::Run));
    assert_eq!(board.admit(&id(2), rated.clone(), 3_000), Err(Refused::TooOften(Duration::from_secs(8))));
    assert_eq!(board.admit(&id(2), rated, 11_000), Ok(Placed::Run));
}

#[test]
fn when_to_ask_again_comes_from_what_runs() {
    let mut board = Board::new(2, 0);
    let slow = timed(claim("linux.slow", None), 300);
    let fast = timed(claim("linux.fast", None), 60);
    board.admit(&id(1), slow.clone(), 0).unwrap();
    board.admit(&id(2), fast.clone(), 10_000).unwrap();
    let full = |board: &mut Board, now_ms| match board.admit(&id(3), slow.clone(), now_ms) {
        Err(Refused::QueueFull(after)) => after.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(full(&mut board, 20_000), 50, "to the nearest time-out");
    board.learn(&slow.action, Duration::from_secs(30));
    assert_eq!(full(&mut board, 20_000), 10, "it typically takes 30 s and has run for 20");
    assert_eq!(full(&mut board, 40_000), 30, "it took longer than it does: the other's time-out is nearer");
    assert_eq!(full(&mut board, 10_000_000), 1, "never less than a second");
    board.learn(&slow.action, Duration::from_secs(70));
    assert_eq!(full(&mut board, 0), 40, "the typical time follows");
    let mut group = Board::new(8, 8);
    let alone = Claim { reject: true, ..timed(claim("linux.alone", Some(1)), 86_400) };
    group.admit(&id(1), alone.clone(), 0).unwrap();
    group.admit(&id(2), fast, 0).unwrap();
    assert_eq!(
        group.admit(&id(3), alone, 0),
        Err(Refused::Busy(Duration::from_secs(600))),
        "its own group, and capped"
    );
}

#[test]
fn nobody_overtakes_in_a_group_whose_actions_differ() {
    let mut board = Board::new(8, 8);
    let of = |action: &str, most| Claim { group: "disk".to_owned(), ..claim(action, Some(most)) };
    assert_eq!(board.admit(&id(1), of("linux.two", 2), 0), Ok(Placed::Run));
    assert_eq!(board.admit(&id(2), of("linux.one", 1), 0), Ok(Placed::Wait));
    assert_eq!(
        board.admit(&id(3), of("linux.two", 2), 0),
        Ok(Placed::Wait),
        "there is room for it, but one came before"
    );
    assert!(board.next(0).is_empty(), "the same when places are given away");
    board.release(&id(1));
    assert_eq!(board.next(0), [id(2)], "alone, as its own action says");
    board.release(&id(2));
    assert_eq!(board.next(0), [id(3)]);
}

#[test]
fn no_clock_setting_frees_or_blocks_a_rate() {
    const YEARS: u64 = 10 * 365 * 86_400_000;
    const HOUR: i64 = 3_600_000;
    let now = |wall_ms| Now { wall_ms, boottime_ms: 7_200_000 };
    let here = Accepted { at_ms: YEARS, born: Some(Born { boot_id: "this".to_owned(), boottime_ms: 7_000_000 }) };
    for wall_ms in [0, YEARS, 2 * YEARS, u64::MAX] {
        assert_eq!(on_this_boot(&here, "this", now(wall_ms)), 7_000_000, "whatever the wall clock says");
    }
    let before = Accepted { at_ms: YEARS, born: Some(Born { boot_id: "other".to_owned(), boottime_ms: 9 }) };
    assert_eq!(on_this_boot(&before, "this", now(YEARS + 8_000_000)), -800_000);
    assert_eq!(on_this_boot(&before, "this", now(0)), 0, "a clock set back: as if just before the host started");
    let mut board = Board::new(8, 8);
    let rated = Claim { rate: Some((1, Duration::from_millis(HOUR as u64))), ..claim("linux.a", None) };
    board.tell_past(&rated.action, vec![i64::MAX, -5 * HOUR]);
    let refused = board.admit(&id(1), rated, 0);
    assert_eq!(refused, Err(Refused::TooOften(Duration::from_millis(HOUR as u64))), "never longer than `per`");
}

/// What happens to a board.
#[derive(Debug, Clone)]
enum Event {
    /// An execution of this action is admitted.
    Admit(usize),
    /// One of those that run ends.
    End(usize),
    /// One of those that wait is killed.
    Kill(usize),
    /// The agent is restarted: the same executions, in the order of their acceptance.
    Restart,
}

/// Three actions in one group with different bounds, one that rejects, one with a group of its own, one without.
fn claims() -> [Claim; 6] {
    let of = |action: &str, group: &str, most, reject| Claim { group: group.to_owned(), reject, ..claim(action, most) };
    [
        of("linux.one", "disk", Some(1), false),
        of("linux.two", "disk", Some(2), false),
        of("linux.three", "disk", Some(3), false),
        of("linux.reject", "disk", Some(2), true),
        of("linux.own", "own", Some(1), false),
        of("linux.free", "linux.free", None, false),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..6_usize).prop_map(Event::Admit),
        3 => any::<usize>().prop_map(Event::End),
        1 => any::<usize>().prop_map(Event::Kill),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 1..60)
}

proptest! {
    /// Never more than a group's or the agent's bound; first in, first out within a group; whoever waits has a reason; and
    /// when everything ends, everything has run and nothing is held.
    #[test]
    fn a_board_keeps_its_bounds_and_its_order(events in events()) {
        const MOST: u32 = 4;
        let claims = claims();
        let mut board = Board::new(MOST, 12);
        // In the order of their acceptance: action, and whether it runs.
        let mut live: Vec<(u8, usize, bool)> = Vec::new();
        let mut given = 0_u8;
        let settle = |board: &mut Board, live: &mut Vec<(u8, usize, bool)>| {
            for started in board.next(0) {
                let at = live.iter().position(|(n, ..)| id(*n) == started).expect("only who waits is started");
                assert!(!live[at].2, "started twice");
                let (group, bounded) = (&claims[live[at].1].group, claims[live[at].1].most.is_some());
                let before = live[..at].iter().any(|(_, action, runs)| !runs && claims[*action].group == *group);
                assert!(!bounded || !before, "overtook one of its group");
                live[at].2 = true;
                let there = live.iter().filter(|(_, action, runs)| *runs && claims[*action].group == *group).count();
                let of_group = live.iter().filter(|(_, action, runs)| *runs && claims[*action].group == *group);
                let most = of_group.filter_map(|(_, action, _)| claims[*action].most).min();
                assert!(most.is_none_or(|most| there <= most as usize), "over a bound of its group");
            }
            let running = live.iter().filter(|(.., runs)| *runs).count();
            assert!(running <= MOST as usize);
            assert_eq!((board.running() as usize, board.queued() as usize), (running, live.len() - running));
            if running < MOST as usize {
                // Whoever is first of those in his group has a place, or waits for his own bound.
                for (at, (_, action, runs)) in live.iter().enumerate() {
                    let claim = &claims[*action];
                    let same = |(_, other, _): &&(u8, usize, bool)| claims[*other].group == claim.group;
                    let first = !live[..at].iter().filter(same).any(|(.., runs)| !runs);
                    let there: Vec<_> = live.iter().filter(same).filter(|(.., runs)| *runs).collect();
                    let bounds = there.iter().filter_map(|(_, other, _)| claims[*other].most).chain(claim.most);
                    let full = bounds.min().is_some_and(|most| there.len() >= most as usize);
                    assert!(*runs || !first || full, "starves");
                }
            }
        };
        for event in events {
            match event {
                Event::Admit(action) => {
                    given += 1;
                    match board.admit(&id(given), claims[action].clone(), 0) {
                        Ok(placed) => live.push((given, action, placed == Placed::Run)),
                        Err(Refused::Busy(_)) => prop_assert!(claims[action].reject),
                        Err(Refused::QueueFull(_)) => prop_assert!(board.queued() >= 12),
                        Err(other) => prop_assert!(false, "{other:?}"),
                    }
                }
                Event::End(which) | Event::Kill(which) => {
                    let runs = matches!(event, Event::End(_));
                    let those: Vec<usize> = (0..live.len()).filter(|at| live[*at].2 == runs).collect();
                    if !those.is_empty() {
                        let (n, ..) = live.remove(those[which % those.len()]);
                        board.release(&id(n));
                    }
                }
                Event::Restart => {
                    board = Board::new(MOST, 12);
                    for (n, action, runs) in &live {
                        if *runs {
                            board.adopt_running(&id(*n), claims[*action].clone(), 0);
                        } else {
                            board.adopt_waiting(&id(*n), claims[*action].clone());
                        }
                    }
                }
            }
            settle(&mut board, &mut live);
        }
        while let Some(at) = live.iter().position(|(.., runs)| *runs) {
            board.release(&id(live.remove(at).0));
            settle(&mut board, &mut live);
        }
        prop_assert!(live.is_empty(), "never started: {live:?}");
        prop_assert!(board.groups.is_empty());
    }
}
