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
    (grouping, prop::option::of(amount()), 0usize..4, amount(), 0usize..6).prop_map(
        |(grouping, batch, canary, max_failures, parallel)| Way { grouping, batch, canary, max_failures, parallel },
    )
}

proptest! {
    /// A simulated run: at each step a random one of those in flight ends, well or not; it may be told to stop.
    #[test]
    fn the_promises_hold(
        zones in prop::collection::vec(0usize..6, 0..40),
        strategy in strategies(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.8)), 40),
        stop_at in prop::option::of(0usize..40),
    ) {
        let plan = plan(&zones, &strategy);
        let all: BTreeSet<usize> = plan.batches().iter().flat_map(|b| b.targets.clone()).collect();
        prop_assert_eq!(all.len(), zones.len());
        prop_assert_eq!(sizes(&plan).iter().sum::<usize>(), zones.len());

        let batch_of = |target: usize| plan.batches().iter().position(|b| b.targets.contains(&target)).unwrap();
        let mut progress = Progress::new(&plan);
        let (mut flying, mut done, mut failures) = (Vec::new(), BTreeSet::new(), 0);
        let mut asked = false;
        for (step, (choice, success)) in steps.into_iter().enumerate() {
            if stop_at == Some(step) {
                progress.stop();
                asked = true;
            }
            while let Some((target, first)) = progress.next_start() {
                prop_assert!(!asked, "started after a stop");
                prop_assert!(failures <= plan.budget(), "started after the budget was exceeded");
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
            failures += usize::from(!success);
            let exceeded = progress.finished(success);
            prop_assert!(!exceeded || failures == plan.budget() + 1);
        }
        prop_assert!(flying.is_empty(), "forty targets end in forty steps");
        // Nobody is left behind unless somebody said why.
        prop_assert!(done.len() == zones.len() || progress.stopped().is_some());
        if progress.stopped() == Some(Stopped::Budget) {
            prop_assert!(failures > plan.budget());
        }
    }
}
