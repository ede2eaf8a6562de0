//! The planner over simulated fleets with a virtual clock.

use std::collections::BTreeSet;
use std::time::Duration;

use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::Facts;
use proptest::prelude::*;
use proptest::strategy::Strategy;

use super::*;
use crate::fleet::strategy::{Amount, Grouping, Strategy as Way};

fn facts(n: usize, zone: usize) -> Facts {
    let mut facts = Facts::of(InstanceId::new(format!("i-{n}")).unwrap());
    facts.region = format!("r{}", zone / 2);
    facts.zone = if zone == 0 { String::new() } else { format!("z{zone}") };
    facts
}

fn plan(zones: &[usize], strategy: &Way) -> Plan {
    let facts: Vec<Facts> = zones.iter().enumerate().map(|(n, zone)| facts(n, *zone)).collect();
    Plan::new(&facts.iter().collect::<Vec<_>>(), strategy)
}

fn sizes(plan: &Plan) -> Vec<usize> {
    plan.batches().iter().map(|b| b.targets.len()).collect()
}

#[test]
fn strategies_divide() {
    let zones = [1, 1, 2, 3, 3, 3];
    let with = |grouping, batch| sizes(&plan(&zones, &Way { grouping, batch, ..Way::default() }));
    assert_eq!(with(Grouping::Serial, None), [1; 6]);
    assert_eq!(with(Grouping::Serial, Some(Amount::Count(4))), [4, 2]);
    assert_eq!(with(Grouping::All, None), [6]);
    assert_eq!(with(Grouping::All, Some(Amount::Percent(50))), [3, 3]);
    assert_eq!(with(Grouping::All, Some(Amount::Percent(1))), [1; 6]);
    assert_eq!(with(Grouping::Zone, None), [2, 1, 3]);
    assert_eq!(with(Grouping::Zone, Some(Amount::Count(2))), [2, 1, 2, 1]);
    assert_eq!(with(Grouping::Region, None), [2, 4]);
    let canary = |grouping, canary| sizes(&plan(&zones, &Way { grouping, canary, ..Way::default() }));
    assert_eq!(canary(Grouping::All, 1), [1, 5]);
    assert_eq!(canary(Grouping::Zone, 3), [3, 3]);
    assert_eq!(canary(Grouping::Zone, 9), [6]);
}

#[test]
fn amounts() {
    assert_eq!("5".parse(), Ok(Amount::Count(5)));
    assert_eq!("10%".parse(), Ok(Amount::Percent(10)));
    for bad in ["", "%", "-1", "+1", "101%", "1.5", "all", "99999999999999999999999"] {
        assert!(bad.parse::<Amount>().is_err(), "{bad:?}");
    }
}

fn strategies() -> impl Strategy<Value = Way> {
    let grouping =
        prop_oneof![Just(Grouping::Serial), Just(Grouping::Zone), Just(Grouping::Region), Just(Grouping::All)];
    let amount = || prop_oneof![(0usize..8).prop_map(Amount::Count), (0u32..=100).prop_map(Amount::Percent)];
    let pause = prop_oneof![
        Just(Pause::None),
        (0u64..60_000).prop_map(|ms| Pause::For(Duration::from_millis(ms))),
        Just(Pause::Confirm)
    ];
    let jitter = prop_oneof![Just(0u64), 0u64..20_000].prop_map(Duration::from_millis);
    let deadline = prop::option::weighted(0.3, (0u64..200_000).prop_map(Duration::from_millis));
    let budgets = (amount(), prop::option::of(amount()), amount(), prop::option::of(amount()));
    let order = (grouping, prop::option::of(amount()), 0usize..4, 0usize..6);
    (order, budgets, pause, jitter, deadline).prop_map(|(order, budgets, pause, jitter, deadline)| {
        let (grouping, batch, canary, parallel) = order;
        let (max_failures, max_batch_failures, max_unreachable, check) = budgets;
        Way {
            grouping,
            batch,
            canary,
            max_failures,
            max_batch_failures,
            max_unreachable,
            check,
            pause,
            jitter,
            deadline,
            instance_timeout: None,
            parallel,
        }
    })
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![12 => Just(Outcome::Succeeded), 1 => Just(Outcome::Failed), 1 => Just(Outcome::Unreachable)]
}

/// How each target, check and question of a simulated fleet ends, and how long it takes.
#[derive(Debug, Clone)]
struct Fleet {
    outcomes: Vec<Outcome>,
    takes_ms: Vec<u64>,
    /// Number of targets on which the check after a batch fails.
    check_failures: Vec<usize>,
    confirms: Vec<bool>,
    stop_at_ms: Option<u64>,
    seed: u64,
}

const LARGEST: usize = 40;

fn fleets() -> impl Strategy<Value = Fleet> {
    let check = prop_oneof![9 => Just(0usize), 1 => 0usize..10];
    (
        prop::collection::vec(outcomes(), LARGEST),
        prop::collection::vec(0u64..10_000, LARGEST),
        prop::collection::vec(check, LARGEST),
        prop::collection::vec(prop::bool::weighted(0.9), LARGEST),
        prop::option::weighted(0.2, 0u64..100_000),
        any::<u64>(),
    )
        .prop_map(|(outcomes, takes_ms, check_failures, confirms, stop_at_ms, seed)| Fleet {
            outcomes,
            takes_ms,
            check_failures,
            confirms,
            stop_at_ms,
            seed,
        })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Start { target: usize, first_of: Option<usize> },
    End { target: usize },
    Check { batch: usize },
    Checked { batch: usize, failed: usize },
    Confirm { batch: usize },
    Confirmed { batch: usize, may_begin: bool },
    Stop,
}

/// Carries out a run on `fleet` and returns what happened when, and why it stopped.
fn simulate(progress: &mut Progress<'_>, fleet: &Fleet) -> (Vec<(Duration, Seen)>, Option<Stopped>) {
    let mut trace = Vec::new();
    let mut agenda: Vec<(Duration, Seen)> = Vec::new();
    agenda.extend(fleet.stop_at_ms.map(|ms| (Duration::from_millis(ms), Seen::Stop)));
    let mut now = Duration::ZERO;
    for _ in 0..100_000 {
        let until = match progress.next(now) {
            Step::Start { target, first_of } => {
                trace.push((now, Seen::Start { target, first_of }));
                agenda.push((now + Duration::from_millis(fleet.takes_ms[target]), Seen::End { target }));
                continue;
            }
            Step::Check { batch } => {
                trace.push((now, Seen::Check { batch }));
                let failed = fleet.check_failures[batch];
                agenda.push((now + Duration::from_millis(500), Seen::Checked { batch, failed }));
                continue;
            }
            Step::Confirm { batch } => {
                trace.push((now, Seen::Confirm { batch }));
                let may_begin = fleet.confirms[batch];
                agenda.push((now + Duration::from_millis(700), Seen::Confirmed { batch, may_begin }));
                continue;
            }
            Step::Pause { .. } => continue,
            Step::Wait { until } => until,
            Step::Done => return (trace, progress.stopped()),
        };
        let first = agenda.iter().map(|(at, _)| *at).min();
        let next = [first, until].into_iter().flatten().min().expect("a run that waits, waits for something");
        assert!(next >= now, "time goes forwards");
        now = next;
        if first != Some(now) {
            continue;
        }
        let at = agenda.iter().position(|(at, _)| *at == now).unwrap();
        let (_, what) = agenda.remove(at);
        trace.push((now, what.clone()));
        match what {
            Seen::End { target } => drop(progress.finished(fleet.outcomes[target])),
            Seen::Checked { failed, .. } => drop(progress.checked(failed)),
            Seen::Confirmed { may_begin, .. } => progress.confirmed(may_begin),
            Seen::Stop => progress.stop(),
            Seen::Start { .. } | Seen::Check { .. } | Seen::Confirm { .. } => unreachable!("never on the agenda"),
        }
    }
    panic!("a run of {LARGEST} targets ends: {trace:?}");
}

fn steady(outcomes: &[Outcome]) -> Fleet {
    Fleet {
        outcomes: outcomes.to_vec(),
        takes_ms: vec![1_000; outcomes.len()],
        check_failures: vec![0; LARGEST],
        confirms: vec![true; LARGEST],
        stop_at_ms: None,
        seed: 0,
    }
}

fn started(trace: &[(Duration, Seen)]) -> Vec<usize> {
    let target = |(_, seen): &(Duration, Seen)| match seen {
        Seen::Start { target, .. } => Some(*target),
        _ => None,
    };
    trace.iter().filter_map(target).collect()
}

#[test]
fn each_budget_stops_a_run_and_neither_spends_the_other() {
    use Outcome::{Failed, Succeeded, Unreachable};
    for (max_failures, max_unreachable, outcomes, starts, stopped) in [
        (0, 0, [Unreachable, Succeeded, Succeeded], 1, Some(Stopped::Unreachable)),
        (0, 0, [Failed, Succeeded, Succeeded], 1, Some(Stopped::Failures)),
        (0, 1, [Unreachable, Succeeded, Succeeded], 3, None),
        (0, 3, [Unreachable, Unreachable, Unreachable], 3, None),
        (0, 3, [Unreachable, Failed, Succeeded], 2, Some(Stopped::Failures)),
        (3, 0, [Failed, Unreachable, Succeeded], 2, Some(Stopped::Unreachable)),
        (1, 1, [Failed, Unreachable, Failed], 3, Some(Stopped::Failures)),
        (1, 1, [Unreachable, Unreachable, Failed], 2, Some(Stopped::Unreachable)),
    ] {
        let strategy = Way {
            max_failures: Amount::Count(max_failures),
            max_unreachable: Amount::Count(max_unreachable),
            ..Way::default()
        };
        let plan = plan(&[1, 1, 1], &strategy);
        let (trace, why) = simulate(&mut Progress::new(&plan, 0), &steady(&outcomes));
        assert_eq!((started(&trace).len(), why), (starts, stopped), "{max_failures} {max_unreachable} {outcomes:?}");
    }
}

#[test]
fn a_batch_has_a_budget_of_its_own() {
    use Outcome::{Failed, Succeeded};
    let strategy = Way {
        grouping: Grouping::Zone,
        max_failures: Amount::Percent(100),
        max_batch_failures: Some(Amount::Percent(50)),
        ..Way::default()
    };
    let plan = plan(&[1, 1, 2, 2, 3, 3], &strategy);
    let one_each = [Failed, Succeeded, Failed, Succeeded, Failed, Succeeded];
    assert_eq!(simulate(&mut Progress::new(&plan, 0), &steady(&one_each)).1, None);
    let second = [Failed, Succeeded, Failed, Failed, Succeeded, Succeeded];
    let (trace, stopped) = simulate(&mut Progress::new(&plan, 0), &steady(&second));
    assert_eq!((started(&trace), stopped), (vec![0, 1, 2, 3], Some(Stopped::BatchFailures)));
}

#[test]
fn a_check_that_fails_and_a_declined_batch_stop_the_run() {
    let strategy = Way { grouping: Grouping::Zone, check: Some(Amount::Count(1)), ..Way::default() };
    let plan_checked = plan(&[1, 1, 2, 2], &strategy);
    for (failed, starts, stopped) in [(1, 4, None), (2, 2, Some(Stopped::Check))] {
        let fleet = Fleet { check_failures: vec![failed; LARGEST], ..steady(&[Outcome::Succeeded; 4]) };
        let (trace, why) = simulate(&mut Progress::new(&plan_checked, 0), &fleet);
        assert_eq!((started(&trace).len(), why), (starts, stopped));
        let checks = trace.iter().filter(|(_, seen)| matches!(seen, Seen::Check { .. })).count();
        assert_eq!(checks, starts / 2, "after each batch, also the last");
    }
    let confirmed = plan(&[1, 1, 2, 2], &Way { pause: Pause::Confirm, check: None, ..strategy });
    let fleet = Fleet { confirms: vec![false; LARGEST], ..steady(&[Outcome::Succeeded; 4]) };
    let (trace, why) = simulate(&mut Progress::new(&confirmed, 0), &fleet);
    assert_eq!((started(&trace).len(), why), (2, Some(Stopped::Declined)));
}

#[test]
fn a_run_that_is_taken_over_asks_before_a_batch_that_has_not_begun() {
    use Before::{Ended, Untouched};
    let strategy = Way { grouping: Grouping::Zone, pause: Pause::Confirm, ..Way::default() };
    let plan = plan(&[1, 1, 2, 2], &strategy);
    let ended = Ended(Outcome::Succeeded);
    let mut between = Progress::resume(&plan, 0, &[ended, ended, Untouched, Untouched], 0);
    assert_eq!(between.next(Duration::ZERO), Step::Confirm { batch: 1 });
    let mut within = Progress::resume(&plan, 0, &[ended, ended, ended, Untouched], 0);
    assert_eq!(within.next(Duration::ZERO), Step::Start { target: 3, first_of: Some(1) });
    let failed = Ended(Outcome::Failed);
    let mut spent = Progress::resume(&plan, 0, &[failed, ended, Untouched, Untouched], 0);
    assert_eq!((spent.next(Duration::ZERO), spent.stopped()), (Step::Done, Some(Stopped::Failures)));
}

proptest! {
    #[test]
    fn the_promises_hold(
        zones in prop::collection::vec(0usize..6, 0..LARGEST),
        strategy in strategies(),
        fleet in fleets(),
    ) {
        let plan = plan(&zones, &strategy);
        prop_assert_eq!(sizes(&plan).iter().sum::<usize>(), zones.len());
        let batch_of = |target: usize| plan.batches().iter().position(|b| b.targets.contains(&target)).unwrap();
        let (trace, stopped) = simulate(&mut Progress::new(&plan, fleet.seed), &fleet);
        let (again, _) = simulate(&mut Progress::new(&plan, fleet.seed), &fleet);
        prop_assert_eq!(&trace, &again, "the same seed gives the same run");

        let (mut flying, mut done) = (BTreeSet::new(), BTreeSet::new());
        let (mut failures, mut unreachable, mut batch_failures) = (0, 0, vec![0; zones.len()]);
        let (mut began, mut passed, mut confirmed) = (vec![None; zones.len()], BTreeSet::new(), BTreeSet::new());
        let (mut last_end, mut asked) = (Duration::ZERO, false);
        for (at, seen) in trace {
            match seen {
                Seen::Start { target, first_of } => {
                    let batch = batch_of(target);
                    prop_assert!(!asked, "started after a stop");
                    prop_assert!(failures <= plan.max_failures(), "started after too many failures");
                    prop_assert!(batch_failures[batch] <= plan.max_batch_failures(batch), "started after too many failures");
                    prop_assert!(unreachable <= plan.max_unreachable(), "started after too many were unreachable");
                    prop_assert!(strategy.deadline.is_none_or(|deadline| at < deadline), "started after the deadline");
                    prop_assert!(!done.contains(&target) && flying.insert(target), "started twice");
                    prop_assert!(flying.len() <= plan.parallel());
                    prop_assert!(flying.iter().all(|other| batch_of(*other) == batch), "batches overlap");
                    for earlier in &plan.batches()[..batch] {
                        prop_assert!(earlier.targets.iter().all(|t| done.contains(t)), "a batch before is not done");
                    }
                    prop_assert_eq!(first_of.is_some(), plan.batches()[batch].targets[0] == target);
                    if first_of.is_some() {
                        began[batch] = Some(at);
                        if batch > 0 {
                            prop_assert!(strategy.check.is_none() || passed.contains(&(batch - 1)), "not checked");
                            match strategy.pause {
                                Pause::For(time) => prop_assert!(at >= last_end + time, "no pause"),
                                Pause::Confirm => prop_assert!(confirmed.contains(&batch), "not confirmed"),
                                Pause::None => {}
                            }
                        }
                    }
                    if plan.parallel() >= zones.len() {
                        prop_assert!(at <= began[batch].unwrap() + strategy.jitter, "started later than the jitter allows");
                    }
                }
                Seen::End { target } => {
                    prop_assert!(flying.remove(&target) && done.insert(target), "ended once");
                    failures += usize::from(fleet.outcomes[target] == Outcome::Failed);
                    batch_failures[batch_of(target)] += usize::from(fleet.outcomes[target] == Outcome::Failed);
                    unreachable += usize::from(fleet.outcomes[target] == Outcome::Unreachable);
                    last_end = at;
                }
                Seen::Check { batch } => {
                    prop_assert!(plan.batches()[batch].targets.iter().all(|t| done.contains(t)));
                }
                Seen::Checked { batch, failed } => {
                    last_end = at;
                    if plan.max_check_failures(batch).is_some_and(|allowed| failed <= allowed) {
                        passed.insert(batch);
                    }
                }
                Seen::Confirm { batch } => prop_assert_eq!(batch_of(plan.batches()[batch].targets[0]), batch),
                Seen::Confirmed { batch, may_begin } => drop(may_begin.then(|| confirmed.insert(batch))),
                Seen::Stop => asked = true,
            }
        }
        prop_assert!(flying.is_empty(), "every target that was started has an outcome");
        // No target is left out without a reason.
        prop_assert!(done.len() == zones.len() || stopped.is_some());
        match stopped {
            Some(Stopped::Failures) => prop_assert!(failures > plan.max_failures()),
            Some(Stopped::BatchFailures) => {
                prop_assert!((0..plan.batches().len()).any(|batch| batch_failures[batch] > plan.max_batch_failures(batch)));
            }
            Some(Stopped::Unreachable) => prop_assert!(unreachable > plan.max_unreachable()),
            Some(Stopped::Check) => prop_assert!(strategy.check.is_some()),
            Some(Stopped::Declined) => prop_assert_eq!(strategy.pause, Pause::Confirm),
            Some(Stopped::Deadline) => prop_assert!(strategy.deadline.is_some()),
            Some(Stopped::Asked) => prop_assert!(asked),
            None => {
                prop_assert!(failures <= plan.max_failures() && unreachable <= plan.max_unreachable());
            }
        }
    }

    /// A run that is taken over after any step starts the rest, nothing that has ended, and within the same budgets.
    #[test]
    fn a_run_that_is_taken_over_starts_the_rest(
        zones in prop::collection::vec(0usize..6, 0..LARGEST),
        mut strategy in strategies(),
        mut fleet in fleets(),
        cut in any::<prop::sample::Index>(),
    ) {
        (strategy.deadline, fleet.stop_at_ms) = (None, None);
        let plan = plan(&zones, &strategy);
        let (whole, _) = simulate(&mut Progress::new(&plan, fleet.seed), &fleet);
        let cut = if whole.is_empty() { 0 } else { cut.index(whole.len()) };
        let (mut before, mut checked) = (vec![Before::Untouched; zones.len()], 0);
        for (_, seen) in &whole[..cut] {
            match seen {
                Seen::Start { target, .. } => before[*target] = Before::Started,
                Seen::End { target } => before[*target] = Before::Ended(fleet.outcomes[*target]),
                Seen::Checked { batch, failed } if plan.max_check_failures(*batch).is_some_and(|most| *failed <= most) => {
                    checked = batch + 1;
                }
                _ => {}
            }
        }
        let (rest, _) = simulate(&mut Progress::resume(&plan, fleet.seed, &before, checked), &fleet);
        let again: BTreeSet<usize> = started(&rest).into_iter().collect();
        prop_assert!(again.iter().all(|target| !matches!(before[*target], Before::Ended(_))), "started again after its end");
        let all: BTreeSet<usize> = started(&whole).into_iter().collect();
        // Ends that came in another order may stop it earlier; without failures it is the same run.
        if fleet.outcomes[..zones.len()].iter().all(|outcome| *outcome == Outcome::Succeeded) {
            let first: BTreeSet<usize> = (0..zones.len()).filter(|target| before[*target] != Before::Untouched).collect();
            prop_assert_eq!(first.union(&again).copied().collect::<BTreeSet<_>>(), all);
        }
    }
}
