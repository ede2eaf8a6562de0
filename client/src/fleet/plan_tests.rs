use std::collections::BTreeSet;

use packs_schema::base::name::InstanceId;
use proptest::prelude::*;
use proptest::strategy::Strategy;

use super::Strategy as Way;
use super::*;

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
    (grouping, prop::option::of(amount()), 0usize..4, amount(), amount(), 0usize..6).prop_map(
        |(grouping, batch, canary, max_failures, max_unreachable, parallel)| Way {
            grouping,
            batch,
            canary,
            max_failures,
            max_unreachable,
            parallel,
        },
    )
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![6 => Just(Outcome::Succeeded), 1 => Just(Outcome::Failed), 1 => Just(Outcome::Unreachable)]
}

/// Runs `plan` to its end; `outcome` says how each target ends. Returns the targets that started, and why it stopped.
fn simulate(plan: &Plan, outcome: impl Fn(usize) -> Outcome) -> (Vec<usize>, Option<Stopped>) {
    let mut progress = Progress::new(plan);
    let (mut started, mut flying) = (Vec::new(), std::collections::VecDeque::new());
    loop {
        while let Some((target, _)) = progress.next_start() {
            started.push(target);
            flying.push_back(target);
        }
        let Some(target) = flying.pop_front() else { return (started, progress.stopped()) };
        progress.finished(outcome(target));
    }
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
        let (started, why) = simulate(&plan(&[1, 1, 1], &strategy), |target| outcomes[target]);
        assert_eq!((started.len(), why), (starts, stopped), "{max_failures} {max_unreachable} {outcomes:?}");
    }
}

proptest! {
    /// With a budget of all targets, unreachable instances change nothing: the same targets start as if each of them had
    /// succeeded.
    #[test]
    fn unreachable_instances_within_their_budget_change_nothing(
        zones in prop::collection::vec(0usize..6, 0..40),
        mut strategy in strategies(),
        outcomes in prop::collection::vec(outcomes(), 40),
    ) {
        strategy.max_unreachable = Amount::Percent(100);
        let plan = plan(&zones, &strategy);
        let ignored = simulate(&plan, |target| match outcomes[target] {
            Outcome::Unreachable => Outcome::Succeeded,
            other => other,
        });
        prop_assert_eq!(simulate(&plan, |target| outcomes[target]), ignored);
    }

    /// The same for failures.
    #[test]
    fn failures_within_their_budget_change_nothing(
        zones in prop::collection::vec(0usize..6, 0..40),
        mut strategy in strategies(),
        outcomes in prop::collection::vec(outcomes(), 40),
    ) {
        strategy.max_failures = Amount::Percent(100);
        let plan = plan(&zones, &strategy);
        let ignored = simulate(&plan, |target| match outcomes[target] {
            Outcome::Failed => Outcome::Succeeded,
            other => other,
        });
        prop_assert_eq!(simulate(&plan, |target| outcomes[target]), ignored);
    }

    /// Simulates a run: at each step a random target in flight ends in some way; the caller may ask to stop.
    #[test]
    fn the_promises_hold(
        zones in prop::collection::vec(0usize..6, 0..40),
        strategy in strategies(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), outcomes()), 40),
        stop_at in prop::option::of(0usize..40),
    ) {
        let plan = plan(&zones, &strategy);
        let all: BTreeSet<usize> = plan.batches().iter().flat_map(|b| b.targets.clone()).collect();
        prop_assert_eq!(all.len(), zones.len());
        prop_assert_eq!(sizes(&plan).iter().sum::<usize>(), zones.len());

        let batch_of = |target: usize| plan.batches().iter().position(|b| b.targets.contains(&target)).unwrap();
        let mut progress = Progress::new(&plan);
        let (mut flying, mut done, mut failures, mut unreachable) = (Vec::new(), BTreeSet::new(), 0, 0);
        let mut asked = false;
        for (step, (choice, outcome)) in steps.into_iter().enumerate() {
            if stop_at == Some(step) {
                progress.stop();
                asked = true;
            }
            while let Some((target, first)) = progress.next_start() {
                prop_assert!(!asked, "started after a stop");
                prop_assert!(failures <= plan.max_failures(), "started after too many failures");
                prop_assert!(unreachable <= plan.max_unreachable(), "started after too many were unreachable");
                prop_assert!(done.len() + flying.len() < zones.len());
                prop_assert!(!done.contains(&target) && !flying.contains(&target), "started twice");
                prop_assert!(flying.iter().all(|other| batch_of(*other) == batch_of(target)), "batches overlap");
                for earlier in &plan.batches()[..batch_of(target)] {
                    prop_assert!(earlier.targets.iter().all(|t| done.contains(t)), "a batch before is not done");
                }
                prop_assert_eq!(first.is_some(), plan.batches()[batch_of(target)].targets[0] == target);
                flying.push(target);
                prop_assert!(flying.len() <= plan.parallel());
            }
            prop_assert_eq!(progress.in_flight(), flying.len());
            if flying.is_empty() {
                break;
            }
            done.insert(flying.swap_remove(choice.index(flying.len())));
            failures += usize::from(outcome == Outcome::Failed);
            unreachable += usize::from(outcome == Outcome::Unreachable);
            match progress.finished(outcome) {
                Some(Stopped::Failures) => prop_assert_eq!(failures, plan.max_failures() + 1),
                Some(Stopped::Unreachable) => prop_assert_eq!(unreachable, plan.max_unreachable() + 1),
                stopped => prop_assert_eq!(stopped, None),
            }
            prop_assert_eq!((progress.failures(), progress.unreachable()), (failures, unreachable));
        }
        prop_assert!(flying.is_empty(), "forty targets end in forty steps");
        // No target is left out without a reason.
        prop_assert!(done.len() == zones.len() || progress.stopped().is_some());
        match progress.stopped() {
            Some(Stopped::Failures) => prop_assert!(failures > plan.max_failures()),
            Some(Stopped::Unreachable) => prop_assert!(unreachable > plan.max_unreachable()),
            Some(Stopped::Asked) | None => {
                prop_assert!(failures <= plan.max_failures() && unreachable <= plan.max_unreachable() || asked);
            }
        }
    }
}
