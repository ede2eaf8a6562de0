//! A client of a record in a bucket that dies between any two requests, and requests that fail: what was acknowledged is there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bolt_client::runs::{Entry, RunStore, StoreError};
use bolt_tests::proxy::Fault;
use bolt_tests::{Bucket, Proxy};
use packs_schema::base::name::RunId;

use super::{Place, create, ended, error, run, starting, with_credentials};

/// Groups that the client writes.
fn script() -> [Vec<Entry>; 3] {
    [vec![starting(0), starting(1)], vec![ended(0)], vec![ended(1), Entry::Done { at_ms: 1, stopped: None }]]
}

/// Carries out the script, and notes how many entries were acknowledged.
async fn carry_out(store: Arc<dyn RunStore>, acknowledged: Arc<Mutex<Option<usize>>>) {
    let mut lease = create(&*store, &run("r-1", 2), 7).await.unwrap();
    *acknowledged.lock().unwrap() = Some(0);
    for group in script() {
        lease.append(&group).await.unwrap();
        *acknowledged.lock().unwrap().as_mut().unwrap() += group.len();
    }
    lease.release().await.unwrap();
}

/// Lets the client send `count` requests, and kills it during the next one, which has arrived if `arrives`. Returns false if
/// the client ended by itself.
async fn crash_after(count: u32, arrives: bool) -> bool {
    let bucket = Bucket::start();
    let proxy = Proxy::before(bucket.address());
    if count > 0 {
        proxy.fail("", count, Fault::Pass);
    }
    proxy.fail("", 1, if arrives { Fault::LoseAnswer } else { Fault::Reset });
    proxy.fail("", 1_000, Fault::Silent);
    let acknowledged = Arc::new(Mutex::new(None));
    let client = tokio::spawn(carry_out(Place::store_through(&proxy), Arc::clone(&acknowledged)));
    let stuck = async {
        while proxy.passed().len() <= usize::try_from(count).unwrap() + 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut client = client;
    let has_ended = tokio::select! {
        ended = &mut client => { ended.unwrap(); true }
        () = stuck => false,
    };
    client.abort();
    let name = format!("after {count} requests, the next one arrives: {arrives}");
    let acknowledged = *acknowledged.lock().unwrap();
    let place = Place::Bucket(bucket);
    let store = place.store();
    let id = RunId::new("r-1").unwrap();
    let all: Vec<Entry> = script().concat();
    let mut lease = match store.acquire(&id).await {
        Ok(lease) => lease,
        Err(StoreError::Unknown { .. }) => {
            // Nothing was started, and the id is free.
            assert_eq!(acknowledged, None, "{name}");
            create(&*store, &run("r-1", 2), 8).await.unwrap_or_else(|error| panic!("{name}: {error}"))
        }
        Err(error) => panic!("{name}: {error}"),
    };
    let entries = store.load(&id).await.unwrap().entries;
    assert!(entries.len() >= acknowledged.unwrap_or(0), "{name}: {entries:?}");
    assert_eq!(entries, all[..entries.len()], "{name}");
    lease.append(&all[entries.len()..]).await.unwrap();
    lease.release().await.unwrap();
    assert_eq!(store.load(&id).await.unwrap().entries, all, "{name}");
    let status = store.status(&id).await.unwrap();
    assert_eq!((status.holder, status.summary.done.is_some()), (None, true), "{name}");
    has_ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_between_any_two_requests_loses_nothing_that_was_acknowledged() {
    let test = "run_store::crashes::a_client_that_dies_between_any_two_requests_loses_nothing_that_was_acknowledged";
    if !with_credentials(test) {
        return;
    }
    for count in 0..40 {
        let ended = futures_util::future::join(crash_after(count, false), crash_after(count, true)).await;
        if ended == (true, true) {
            assert!(count >= 7, "plan, head, lease, three groups and the release: {count}");
            return;
        }
    }
    panic!("the client never ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_fail_and_answers_that_are_lost_are_made_up_for() {
    if !with_credentials("run_store::crashes::requests_that_fail_and_answers_that_are_lost_are_made_up_for") {
        return;
    }
    for fault in [Fault::LoseAnswer, Fault::Reset, Fault::Status(500, "InternalError"), Fault::Status(503, "SlowDown")]
    {
        let bucket = Bucket::start();
        let proxy = Proxy::before(bucket.address());
        for path in ["plan-", "heads/", "lease.json", "progress/", "progress/"] {
            proxy.fail(path, 1, fault.clone());
        }
        let acknowledged = Arc::new(Mutex::new(None));
        carry_out(Place::store_through(&proxy), Arc::clone(&acknowledged)).await;
        let met = proxy.passed().iter().filter(|passed| passed.fault.as_ref() == Some(&fault)).count();
        assert_eq!(met, 5, "{fault:?}");
        let place = Place::Bucket(bucket);
        let entries = place.store().load(&RunId::new("r-1").unwrap()).await.unwrap().entries;
        assert_eq!(entries, script().concat(), "{fault:?}: each once");
    }
}

/// A group whose creation is unsure is tried again as it is, with the entries that came later behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_comes_back_gets_each_entry_once() {
    if !with_credentials("run_store::crashes::a_bucket_that_comes_back_gets_each_entry_once") {
        return;
    }
    let bucket = Bucket::start();
    let proxy = Proxy::before(bucket.address());
    let store = Place::store_through(&proxy);
    let planned = run("r-1", 4);
    let mut lease = create(&*store, &planned, 7).await.unwrap();
    for first in [Fault::LoseAnswer, Fault::Reset] {
        proxy.heal();
        proxy.fail("progress/", 1, first);
        proxy.fail("progress/", 1_000, Fault::Status(403, "AccessDenied"));
        let refused = error(lease.append(&[starting(0), ended(0)]).await).to_string();
        assert!(refused.contains("s3://packs/ops/runs/runs/r-1/progress/") && refused.contains("denied"), "{refused}");
        proxy.heal();
        lease.append(&[starting(0), ended(0), starting(1)]).await.unwrap();
    }
    lease.release().await.unwrap();
    let once = [starting(0), ended(0), starting(1)];
    let entries = Place::Bucket(bucket).store().load(&planned.id).await.unwrap().entries;
    assert_eq!(entries, [once.clone(), once].concat());
}
