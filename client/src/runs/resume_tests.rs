use packs_schema::base::name::{ActionRef, ExecutionId, InstanceId, RunId};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;

use super::*;
use crate::fleet::{Plan, Request, Strategy};
use crate::inventory::Address;
use crate::runs::{Head, StoredPlan};

const ALICE: &str = "spiffe://corp/alice";
const BOB: &str = "spiffe://corp/bob";
const EXECUTION: &str = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa";

/// Returns the record of a run over three instances that `principal` has begun.
fn stored(principal: Option<&str>, entries: Vec<Entry>) -> StoredRun {
    let target = |at| Instance {
        facts: Facts::of(InstanceId::new(format!("i-{at}")).unwrap()),
        address: Address::new("127.0.0.1:1").unwrap(),
    };
    let targets: Vec<Instance> = (0..3).map(target).collect();
    let plan = Plan::new(&targets.iter().map(|t| &t.facts).collect::<Vec<_>>(), &Strategy::default());
    let request = Request::new(ActionRef::new("linux.a").unwrap());
    let run = Run { id: RunId::new("r-1").unwrap(), request, targets, plan, check: None };
    let head = Head::new(&run, Class::Remediation, principal, 7);
    StoredRun { head, plan: StoredPlan::new(&run, |_, _| false), entries }
}

fn lost(target: usize) -> Entry {
    let ending = StoredEnding::Unreachable {
        outcome: "unreachable".to_owned(),
        message: "it was lost".to_owned(),
        execution: Some(ExecutionId::new(EXECUTION).unwrap()),
        may_run: true,
    };
    Entry::Ended { target, ending: Box::new(ending) }
}

fn taken(principal: Option<&str>, entries: &[Entry], by: Option<&str>) -> (Vec<Before>, usize) {
    let taken = take_over(&stored(principal, entries.to_vec()), Map::new(), by).unwrap();
    (taken.earlier.before, taken.others)
}

const LEFT: Before = Before::Ended(Outcome::Unreachable);

#[test]
fn only_the_principal_that_asked_an_instance_asks_it_again() {
    let entries = [Entry::Starting { target: 0 }, Entry::Starting { target: 1 }, lost(1)];
    let again = (vec![Before::Started, Before::Started, Before::Untouched], 0);
    assert_eq!(taken(Some(ALICE), &entries, Some(ALICE)), again);
    // Older versions record no principal.
    assert_eq!(taken(None, &entries, Some(BOB)), again);
    for other in [Some(BOB), None] {
        assert_eq!(taken(Some(ALICE), &entries, other), (vec![LEFT, LEFT, Before::Untouched], 2));
    }
    let TakenOver { earlier, .. } = take_over(&stored(Some(ALICE), entries.to_vec()), Map::new(), Some(BOB)).unwrap();
    let [Some(asked), Some(lost), None] = &earlier.endings[..] else { panic!("{earlier:?}") };
    let Ending::Unreachable { error, execution: None, may_run: true } = asked else { panic!("{asked:?}") };
    assert_eq!((asked.state(), error.kind.to_string().contains(ALICE)), ("unknown", true), "{error}");
    assert_eq!(lost.execution().map(ExecutionId::as_str), Some(EXECUTION), "{lost:?}");
}

#[test]
fn the_principal_of_a_client_that_went_on_counts_from_there() {
    let by = |principal: &str| Entry::Resumed { at_ms: 8, principal: Some(principal.to_owned()) };
    let entries = [Entry::Starting { target: 0 }, by(BOB), Entry::Starting { target: 1 }];
    assert_eq!(taken(Some(ALICE), &entries, Some(ALICE)), (vec![Before::Started, LEFT, Before::Untouched], 1));
    assert_eq!(taken(Some(ALICE), &entries, Some(BOB)), (vec![LEFT, Before::Started, Before::Untouched], 1));
    // An end that is known is everybody's.
    let refused = StoredEnding::Refused { outcome: "busy".to_owned(), message: "busy".to_owned() };
    let entries = [&entries[..], &[Entry::Ended { target: 1, ending: Box::new(refused) }]].concat();
    assert_eq!(taken(Some(ALICE), &entries, Some(ALICE)).1, 0);
}
