//! Limits, order, rates and forecasts; and a property over random histories of slots and queue.

use super::*;
use crate::history::BootTime;
use proptest::prelude::*;

fn id(n: u8) -> ExecutionId {
    ExecutionId::new(format!("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2{n:02x}")).unwrap()
}

fn rules(action: &str, max: Option<u32>) -> AdmissionRules {
    AdmissionRules { max, ..AdmissionRules::unrestricted(&ActionRef::new(action).unwrap()) }
}

fn timed(rules: AdmissionRules, seconds: u64) -> AdmissionRules {
    AdmissionRules { timeout: Some(Duration::from_secs(seconds)), ..rules }
}

#[test]
fn a_full_agent_queues_and_a_full_queue_refuses() {
    let mut slots = Slots::new(1, 1);
    let any = timed(rules("linux.a", None), 1);
    assert_eq!(slots.admit(&id(1), any.clone(), 0), Ok(Admitted::Run));
    assert_eq!(slots.admit(&id(2), any.clone(), 0), Ok(Admitted::Wait));
    assert_eq!(slots.admit(&id(3), any.clone(), 0), Err(Rejection::QueueFull(Duration::from_secs(1))));
    slots.release(&id(1));
    assert_eq!(slots.take_ready(0), [id(2)]);
    assert_eq!(slots.admit(&id(3), any, 0), Ok(Admitted::Wait));
    assert_eq!((slots.running(), slots.queued()), (1, 1));
}

#[test]
fn a_group_is_first_in_first_out_and_does_not_hold_up_others() {
    let mut slots = Slots::new(8, 8);
    let one = rules("cassandra.a", Some(1));
    assert_eq!(slots.admit(&id(1), one.clone(), 0), Ok(Admitted::Run));
    assert_eq!(slots.admit(&id(2), one.clone(), 0), Ok(Admitted::Wait));
    assert_eq!(slots.admit(&id(3), one.clone(), 0), Ok(Admitted::Wait));
    assert_eq!(slots.admit(&id(4), rules("linux.b", Some(1)), 0), Ok(Admitted::Run));
    assert!(slots.take_ready(0).is_empty());
    slots.release(&id(1));
    // No execution is admitted ahead of the queue between a release and the next start.
    assert_eq!(slots.admit(&id(5), one, 0), Ok(Admitted::Wait));
    assert_eq!(slots.take_ready(0), [id(2)]);
    slots.release(&id(3));
    slots.release(&id(2));
    assert_eq!(slots.take_ready(0), [id(5)]);
}

#[test]
fn a_busy_group_that_does_not_queue_rejects() {
    let mut slots = Slots::new(8, 8);
    let one = timed(AdmissionRules { reject: true, ..rules("cassandra.a", Some(1)) }, 1);
    assert_eq!(slots.admit(&id(1), one.clone(), 0), Ok(Admitted::Run));
    assert_eq!(slots.admit(&id(2), one.clone(), 0), Err(Rejection::Busy(Duration::from_secs(1))));
    slots.release(&id(1));
    assert_eq!(slots.admit(&id(2), one, 0), Ok(Admitted::Run));
}

#[test]
fn a_rate_counts_acceptances_from_before_a_restart() {
    let mut slots = Slots::new(8, 8);
    let rated = AdmissionRules { rate: Some((2, Duration::from_secs(10))), ..rules("linux.a", None) };
    assert!(slots.lacks_past_acceptances(&rated.action));
    slots.set_past_acceptances(&rated.action, vec![1_000]);
    assert_eq!(slots.admit(&id(1), rated.clone(), 2_000), Ok(Admitted::Run));
    assert_eq!(slots.admit(&id(2), rated.clone(), 3_000), Err(Rejection::RateExceeded(Duration::from_secs(8))));
    assert_eq!(slots.admit(&id(2), rated, 11_000), Ok(Admitted::Run));
}

#[test]
fn the_retry_time_is_forecast_from_running_executions() {
    let mut slots = Slots::new(2, 0);
    let slow = timed(rules("linux.slow", None), 300);
    let fast = timed(rules("linux.fast", None), 60);
    slots.admit(&id(1), slow.clone(), 0).unwrap();
    slots.admit(&id(2), fast.clone(), 10_000).unwrap();
    let full = |slots: &mut Slots, now_ms| match slots.admit(&id(3), slow.clone(), now_ms) {
        Err(Rejection::QueueFull(after)) => after.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(full(&mut slots, 20_000), 50, "to the nearest time-out");
    slots.learn(&slow.action, Duration::from_secs(30));
    assert_eq!(full(&mut slots, 20_000), 10, "it typically takes 30 s and has run for 20");
    assert_eq!(full(&mut slots, 40_000), 30, "it took longer than it does: the other's time-out is nearer");
    assert_eq!(full(&mut slots, 10_000_000), 1, "never less than a second");
    slots.learn(&slow.action, Duration::from_secs(70));
    assert_eq!(full(&mut slots, 0), 40, "the typical time follows");
    let mut group = Slots::new(8, 8);
    let alone = AdmissionRules { reject: true, ..timed(rules("linux.alone", Some(1)), 86_400) };
    group.admit(&id(1), alone.clone(), 0).unwrap();
    group.admit(&id(2), fast, 0).unwrap();
    assert_eq!(
        group.admit(&id(3), alone, 0),
        Err(Rejection::Busy(Duration::from_secs(600))),
        "its own group, and capped"
    );
}

#[test]
fn no_execution_overtakes_in_a_group_whose_actions_differ() {
    let mut slots = Slots::new(8, 8);
    let of = |action: &str, max| AdmissionRules { group: "disk".to_owned(), ..rules(action, Some(max)) };
    assert_eq!(slots.admit(&id(1), of("linux.two", 2), 0), Ok(Admitted::Run));
    assert_eq!(slots.admit(&id(2), of("linux.one", 1), 0), Ok(Admitted::Wait));
    assert_eq!(
        slots.admit(&id(3), of("linux.two", 2), 0),
        Ok(Admitted::Wait),
        "it would fit, but an earlier one is queued"
    );
    assert!(slots.take_ready(0).is_empty(), "the same when slots are given away");
    slots.release(&id(1));
    assert_eq!(slots.take_ready(0), [id(2)], "alone, as the `max` of its own action demands");
    slots.release(&id(2));
    assert_eq!(slots.take_ready(0), [id(3)]);
}

#[test]
fn no_clock_setting_frees_or_blocks_a_rate() {
    const YEARS: u64 = 10 * 365 * 86_400_000;
    const HOUR: i64 = 3_600_000;
    let now = |wall_ms| Now { wall_ms, boottime_ms: 7_200_000 };
    let here =
        Accepted { at_ms: YEARS, boot_time: Some(BootTime { boot_id: "this".to_owned(), boottime_ms: 7_000_000 }) };
    for wall_ms in [0, YEARS, 2 * YEARS, u64::MAX] {
        assert_eq!(on_this_boot(&here, "this", now(wall_ms)), 7_000_000, "whatever the wall clock says");
    }
    let before = Accepted { at_ms: YEARS, boot_time: Some(BootTime { boot_id: "other".to_owned(), boottime_ms: 9 }) };
    assert_eq!(on_this_boot(&before, "this", now(YEARS + 8_000_000)), -800_000);
    assert_eq!(
        on_this_boot(&before, "this", now(0)),
        0,
        "a clock that was set back: as if accepted just before the boot"
    );
    let mut slots = Slots::new(8, 8);
    let rated = AdmissionRules { rate: Some((1, Duration::from_millis(HOUR as u64))), ..rules("linux.a", None) };
    slots.set_past_acceptances(&rated.action, vec![i64::MAX, -5 * HOUR]);
    let refused = slots.admit(&id(1), rated, 0);
    assert_eq!(refused, Err(Rejection::RateExceeded(Duration::from_millis(HOUR as u64))), "never longer than `per`");
}

#[test]
fn a_queued_execution_tells_what_it_waits_for() {
    let mut slots = Slots::new(2, 8);
    let group = rules("cassandra.a", Some(1));
    for (n, rules) in
        [(1, &group), (2, &group), (3, &group), (4, &rules("linux.b", None)), (5, &rules("linux.b", None))]
    {
        slots.admit(&id(n), rules.clone(), 0).unwrap();
    }
    let waiting = |slots: &Slots, n, sees: bool| slots.waiting(&id(n), |_| sees);
    let group = |ahead, behind: &[u8]| Waiting {
        reason: WaitingReason::Group,
        group: Some("cassandra.a".to_owned()),
        running: 1,
        max: 1,
        ahead,
        behind: behind.iter().map(|n| id(*n)).collect(),
    };
    assert_eq!(waiting(&slots, 2, true), Some(group(0, &[1])));
    assert_eq!(waiting(&slots, 3, true), Some(group(1, &[1])));
    assert_eq!(waiting(&slots, 3, false), Some(group(1, &[])), "executions that the caller may not see are not named");
    let slot =
        Waiting { reason: WaitingReason::Slot, group: None, running: 2, max: 2, ahead: 2, behind: vec![id(1), id(4)] };
    assert_eq!(waiting(&slots, 5, true), Some(slot));
    let launcher = waiting(&slots, 1, true).map(|waiting| waiting.reason);
    assert_eq!((launcher, waiting(&slots, 9, true)), (Some(WaitingReason::Launcher), None));
}

/// Event in a random history.
#[derive(Debug, Clone)]
enum Event {
    /// An execution of this action is admitted.
    Admit(usize),
    /// A running execution ends.
    End(usize),
    /// A queued execution is killed.
    Kill(usize),
    /// The agent is restarted: the same executions, in the order of their acceptance.
    Restart,
}

/// Rules of three actions in one group with different maxima, one that rejects, one with its own group, one without limits.
fn rule_sets() -> [AdmissionRules; 6] {
    let of = |action: &str, group: &str, max, reject| AdmissionRules {
        group: group.to_owned(),
        reject,
        ..rules(action, max)
    };
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
    /// Neither a group nor the agent exceeds its maximum; a group is first in, first out; a queued execution has a reason to wait;
    /// and when all have ended, all have run and no slot is taken.
    #[test]
    fn slots_keep_their_limits_and_their_order(events in events()) {
        const MAX: u32 = 4;
        let rule_sets = rule_sets();
        let mut slots = Slots::new(MAX, 12);
        // In the order of their acceptance: action, and whether it runs.
        let mut live: Vec<(u8, usize, bool)> = Vec::new();
        let mut given = 0_u8;
        let start_ready_and_check = |slots: &mut Slots, live: &mut Vec<(u8, usize, bool)>| {
            for started in slots.take_ready(0) {
                let at = live.iter().position(|(n, ..)| id(*n) == started).expect("only queued executions are started");
                assert!(!live[at].2, "started twice");
                let (group, bounded) = (&rule_sets[live[at].1].group, rule_sets[live[at].1].max.is_some());
                let before = live[..at].iter().any(|(_, action, runs)| !runs && rule_sets[*action].group == *group);
                assert!(!bounded || !before, "overtook one of its group");
                live[at].2 = true;
                let there = live.iter().filter(|(_, action, runs)| *runs && rule_sets[*action].group == *group).count();
                let of_group = live.iter().filter(|(_, action, runs)| *runs && rule_sets[*action].group == *group);
                let max = of_group.filter_map(|(_, action, _)| rule_sets[*action].max).min();
                assert!(max.is_none_or(|max| there <= max as usize), "exceeds the maximum of its group");
            }
            let running = live.iter().filter(|(.., runs)| *runs).count();
            assert!(running <= MAX as usize);
            assert_eq!((slots.running() as usize, slots.queued() as usize), (running, live.len() - running));
            if running < MAX as usize {
                // The first of each group has a slot, or waits for the maximum of its group.
                for (at, (_, action, runs)) in live.iter().enumerate() {
                    let rules = &rule_sets[*action];
                    let same = |(_, other, _): &&(u8, usize, bool)| rule_sets[*other].group == rules.group;
                    let first = !live[..at].iter().filter(same).any(|(.., runs)| !runs);
                    let there: Vec<_> = live.iter().filter(same).filter(|(.., runs)| *runs).collect();
                    let bounds = there.iter().filter_map(|(_, other, _)| rule_sets[*other].max).chain(rules.max);
                    let full = bounds.min().is_some_and(|max| there.len() >= max as usize);
                    assert!(*runs || !first || full, "starves");
                }
            }
        };
        for event in events {
            match event {
                Event::Admit(action) => {
                    given += 1;
                    match slots.admit(&id(given), rule_sets[action].clone(), 0) {
                        Ok(placed) => live.push((given, action, placed == Admitted::Run)),
                        Err(Rejection::Busy(_)) => prop_assert!(rule_sets[action].reject),
                        Err(Rejection::QueueFull(_)) => prop_assert!(slots.queued() >= 12),
                        Err(other) => prop_assert!(false, "{other:?}"),
                    }
                }
                Event::End(which) | Event::Kill(which) => {
                    let runs = matches!(event, Event::End(_));
                    let those: Vec<usize> = (0..live.len()).filter(|at| live[*at].2 == runs).collect();
                    if !those.is_empty() {
                        let (n, ..) = live.remove(those[which % those.len()]);
                        slots.release(&id(n));
                    }
                }
                Event::Restart => {
                    slots = Slots::new(MAX, 12);
                    for (n, action, runs) in &live {
                        if *runs {
                            slots.resume_running(&id(*n), rule_sets[*action].clone(), 0);
                        } else {
                            slots.requeue(&id(*n), rule_sets[*action].clone());
                        }
                    }
                }
            }
            start_ready_and_check(&mut slots, &mut live);
        }
        while let Some(at) = live.iter().position(|(.., runs)| *runs) {
            slots.release(&id(live.remove(at).0));
            start_ready_and_check(&mut slots, &mut live);
        }
        prop_assert!(live.is_empty(), "never started: {live:?}");
        prop_assert!(slots.groups.is_empty());
    }
}
