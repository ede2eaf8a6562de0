//! Records of runs, which others may have written or damaged: what is taken over starts on each instance at most once.

use std::collections::BTreeSet;
use std::time::Duration;

use bolt_client::fleet::{Before, Outcome, Progress, Step};
use bolt_client::fuzz;
use bolt_client::runs::TakenOver;

use crate::{join, parts, repository};

/// Head, plan and progress; or a lease, or a group of a bucket.
pub(super) fn run(data: &[u8]) {
    let [head, plan, progress] = parts(data);
    match fuzz::stored_run(head, plan, progress) {
        Ok((stored, taken)) => {
            let plan = &taken.run.plan;
            let targets: Vec<usize> = plan.batches().iter().flat_map(|batch| batch.targets.clone()).collect();
            let once: BTreeSet<usize> = targets.iter().copied().collect();
            assert_eq!((targets.len(), once.len()), (taken.run.targets.len(), targets.len()), "an instance is in two batches");
            assert_eq!(stored.fates().len(), targets.len());
            carry_on(&taken);
        }
        Err(message) => assert!(message.len() <= 8192, "an error of {} bytes", message.len()),
    }
    if let Ok((by, expiry_ms)) = fuzz::lease(data) {
        assert!(!by.contains(char::is_control) && (1..=600_000).contains(&expiry_ms));
    }
    let _ = fuzz::group(data);
}

/// Carries on the run without time: what has ended does not start, nothing starts twice, and the run does not stand still.
fn carry_on(taken: &TakenOver) {
    let before = &taken.earlier.before;
    let mut progress = Progress::resume(&taken.run.plan, 0, before, taken.earlier.checked);
    let (mut now, mut started) = (Duration::ZERO, BTreeSet::new());
    for _ in 0..10 * (before.len() + taken.run.plan.batches().len() + 1) {
        match progress.next(now) {
            Step::Start { target, .. } => {
                assert!(started.insert(target), "instance {target} starts twice");
                assert!(!matches!(before[target], Before::Ended(_)), "instance {target} has ended, and starts");
                progress.finished(Outcome::Succeeded);
            }
            Step::Check { .. } => drop(progress.checked(0)),
            Step::Confirm { .. } => progress.confirmed(true),
            Step::Pause { .. } => {}
            Step::Wait { until: Some(until) } => now = now.max(until),
            Step::Wait { until: None } => panic!("it waits for nothing"),
            Step::Done => return,
        }
    }
    panic!("it does not end");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let head = br#"{"format":1,"run":"r-1","created_at_ms":5,"client":"0.1.0","action":"linux.true","class":"diagnostic","targets":2}"#;
    let plan = br#"{"format":1,"request":{"action":"linux.true","parameters":{"n":1},"secrets":["token"],"output_limit":5},
        "targets":[{"facts":{"id":"i-1"},"address":"a:1"},{"facts":{"id":"i-2"},"address":"b:1"}],"plan":{"batches":[
        {"name":"","targets":[0]},{"name":"zone b","targets":[1]}],"targets":2,"strategy":STRATEGY}}"#;
    let strategy = serde_json::to_string(&bolt_client::fleet::Strategy::default()).expect("a strategy serialises");
    let plan = String::from_utf8_lossy(plan).replace("STRATEGY", &strategy);
    let execution = String::from_utf8_lossy(&repository::read("tests/fixtures/records/execution.json")).replace('\n', "");
    let ended = format!(r#"{{"ended":{{"target":0,"ending":{{"ended":{{"execution":{execution}}}}}}}}}"#);
    let lost = r#"{"ended":{"target":1,"ending":{"unreachable":{"outcome":"unreachable","message":"m","may_run":true}}}}"#;
    let progress = [r#"{"starting":{"target":0}}"#, &ended, r#"{"checked":{"batch":0}}"#, lost, r#"{"done":{"at_ms":9}}"#, ""].join("\n");
    let lease = br#"{"format":1,"run":"r-1","token":"t","by":"process 1 on host h","expiry_ms":30000,"renewals":3}"#;
    let group = br#"{"format":1,"run":"r-1","number":1,"token":"t","entries":[{"starting":{"target":0}}],"summary":{"counts":{"succeeded":1}}}"#;
    vec![join(&[head, plan.as_bytes(), progress.as_bytes()]), lease.to_vec(), group.to_vec()]
}
