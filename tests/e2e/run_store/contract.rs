//! Behaviour that every store has.

use bolt_client::fleet::{Before, Stopped};
use bolt_client::runs::{Fate, Head, Listing, StoreError, take_over};
use packs_schema::base::name::RunId;
use packs_schema::pack::action::Class;
use serde_json::{Map, json};

use super::{Entry, Place, create, ended, error, run, starting};

macro_rules! for_each_store {
    ($($name:ident),* $(,)?) => {
        mod directory {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(&super::Place::directory()).await;
                }
            )*
        }
        mod bucket {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let test = concat!("run_store::contract::bucket::", stringify!($name));
                    if crate::run_store::with_credentials(test) {
                        super::$name(&super::Place::bucket()).await;
                    }
                }
            )*
        }
        mod moto {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let test = concat!("run_store::contract::moto::", stringify!($name));
                    if !crate::run_store::with_credentials(test) {
                        return;
                    }
                    match bolt_tests::Moto::start() {
                        Some(moto) => {
                            moto.put("/packs", b"");
                            super::$name(&super::Place::Moto(moto)).await;
                        }
                        None => bolt_tests::skip(test, "BOLT_MOTO_SERVER names no moto_server"),
                    }
                }
            )*
        }
    };
}

for_each_store!(
    a_run_comes_back_as_it_was_recorded_and_without_its_secret,
    an_id_is_used_once_and_an_unknown_one_is_named,
    one_client_at_a_time_carries_out_a_run,
    a_client_that_died_is_succeeded_and_its_entries_are_kept,
    many_entries_over_many_clients_stay_in_order,
    the_newest_runs_are_listed_with_their_progress,
    a_clock_that_goes_back_changes_neither_lease_nor_order_of_entries,
);

async fn a_run_comes_back_as_it_was_recorded_and_without_its_secret(place: &Place) {
    let store = place.store();
    let planned = run("r-1", 5);
    let mut lease = create(&*store, &planned, 7).await.unwrap();
    lease.append(&[starting(0), starting(1), ended(1)]).await.unwrap();
    // Asked, and killed before the answer: it must be asked again.
    lease.append(&[starting(2)]).await.unwrap();
    lease.release().await.unwrap();

    let stored = place.store().load(&planned.id).await.unwrap();
    assert_eq!(stored.head, Head::new(&planned, Class::Diagnostic, None, 7));
    assert_eq!(stored.entries, [starting(0), starting(1), ended(1), starting(2)]);
    assert!(!serde_json::to_string(&stored.plan).unwrap().contains("canary-hunter2"));
    assert!(take_over(&stored, Map::new(), None).unwrap_err().to_string().contains("token"));
    let taken = take_over(&stored, Map::from_iter([("token".to_owned(), json!("canary-hunter2"))]), None).unwrap();
    assert_eq!(taken.run.request.parameters, planned.request.parameters);
    assert_eq!((&taken.run.targets, &taken.run.plan), (&planned.targets, &planned.plan));
    assert_eq!(taken.earlier.before[2..], [Before::Started, Before::Untouched, Before::Untouched]);
    let fates: Vec<Fate> = stored.fates().into_iter().map(|(_, fate)| fate).collect();
    assert_eq!(fates[..3], [Fate::Failed, Fate::Unreachable, Fate::Failed]);
    match place {
        Place::Bucket(bucket) => {
            for key in bucket.keys("") {
                let text = String::from_utf8(bucket.content(&key).unwrap()).unwrap();
                assert!(!text.contains("hunter2"), "{key}: {text}");
            }
        }
        Place::Directory(directory) => {
            let found = std::process::Command::new("grep").arg("-r").arg("hunter2").arg(directory.path()).output();
            assert_eq!(found.unwrap().stdout, b"");
        }
        Place::Moto(_) => {}
    }
}

async fn an_id_is_used_once_and_an_unknown_one_is_named(place: &Place) {
    let store = place.store();
    let planned = run("r-1", 2);
    let lease = create(&*store, &planned, 7).await.unwrap();
    for created_at_ms in [7, 8] {
        let again = error(create(&*place.store(), &planned, created_at_ms).await);
        assert!(matches!(&again, StoreError::Exists(id) if *id == planned.id), "{again}");
    }
    lease.release().await.unwrap();
    assert!(matches!(error(create(&*store, &planned, 9).await), StoreError::Exists(_)));
    let other = RunId::new("r-2").unwrap();
    for unknown in
        [error(store.acquire(&other).await), error(store.load(&other).await), error(store.status(&other).await)]
    {
        let text = unknown.to_string();
        assert!(matches!(unknown, StoreError::Unknown { .. }) && text.contains(&store.place()), "{text}");
    }
    assert_eq!(store.load(&planned.id).await.unwrap().head.created_at_ms, 7);
}

async fn one_client_at_a_time_carries_out_a_run(place: &Place) {
    let (one, other) = (place.store(), place.store());
    let planned = run("r-1", 1);
    let mut lease = create(&*one, &planned, 7).await.unwrap();
    for _ in 0..2 {
        let busy = error(other.acquire(&planned.id).await);
        let text = busy.to_string();
        let own = format!("process {}", std::process::id());
        assert!(matches!(busy, StoreError::Busy { .. }) && text.contains(&own), "{text}");
        assert!(other.status(&planned.id).await.unwrap().holder.unwrap().contains(&own));
        lease.append(&[starting(0)]).await.unwrap();
        lease.release().await.unwrap();
        assert_eq!(other.status(&planned.id).await.unwrap().holder, None);
        lease = other.acquire(&planned.id).await.unwrap();
    }
    lease.release().await.unwrap();
}

async fn a_client_that_died_is_succeeded_and_its_entries_are_kept(place: &Place) {
    let planned = run("r-1", 3);
    let mut lease = create(&*place.store(), &planned, 7).await.unwrap();
    lease.append(&[starting(0), ended(0)]).await.unwrap();
    drop(lease);
    let store = place.store();
    let mut lease = store.acquire(&planned.id).await.unwrap();
    assert_eq!(store.load(&planned.id).await.unwrap().entries, [starting(0), ended(0)]);
    lease.append(&[starting(1)]).await.unwrap();
    drop(lease);
    let lease = place.store().acquire(&planned.id).await.unwrap();
    assert_eq!(place.store().load(&planned.id).await.unwrap().entries, [starting(0), ended(0), starting(1)]);
    lease.release().await.unwrap();
}

async fn many_entries_over_many_clients_stay_in_order(place: &Place) {
    const TARGETS: usize = 300;
    let planned = run("r-1", TARGETS);
    create(&*place.store(), &planned, 7).await.unwrap().release().await.unwrap();
    let mut wanted = Vec::new();
    for client in 0..6 {
        let store = place.store();
        let mut lease = store.acquire(&planned.id).await.unwrap();
        assert_eq!(store.load(&planned.id).await.unwrap().entries, wanted, "client {client}");
        for group in 0..25 {
            let entries: Vec<Entry> = (0..(group % 5) * 10).map(|at| starting((client * 50 + at) % TARGETS)).collect();
            lease.append(&entries).await.unwrap();
            wanted.extend(entries);
        }
        lease.release().await.unwrap();
    }
    assert_eq!(place.store().load(&planned.id).await.unwrap().entries, wanted);
}

async fn the_newest_runs_are_listed_with_their_progress(place: &Place) {
    let store = place.store();
    assert!(store.list(10).await.unwrap().heads.is_empty());
    for at in 0..5 {
        let mut lease = create(&*store, &run(&format!("r-{at}"), 4), 100 + at).await.unwrap();
        lease.append(&[starting(0), starting(1), ended(1)]).await.unwrap();
        lease.append(&[Entry::Done { at_ms: 9, stopped: Some(Stopped::Asked) }]).await.unwrap();
        if at != 4 {
            lease.release().await.unwrap();
        }
    }
    let Listing { heads, problems, more } = store.list(usize::MAX).await.unwrap();
    let ids = |heads: &[Head]| heads.iter().map(|head| head.run.to_string()).collect::<Vec<_>>();
    assert_eq!(
        (ids(&heads), problems.len(), more),
        (["r-4", "r-3", "r-2", "r-1", "r-0"].map(String::from).to_vec(), 0, 0)
    );
    let listing = store.list(2).await.unwrap();
    assert_eq!((listing.heads.len(), listing.more), (2, 3));
    let status = store.status(&heads[1].run).await.unwrap();
    assert_eq!((status.holder, status.summary.stopped()), (None, Some(Stopped::Asked)));
    let counts: Vec<(String, usize)> = status.summary.with_not_started(4).into_iter().collect();
    assert_eq!(counts, [("not_started", 2), ("tls_failed", 1), ("unknown", 1)].map(|(s, n)| (s.to_owned(), n)));
    assert_eq!(store.status(&heads[1].run).await.unwrap().summary.state(false, 4), "interrupted");
}

async fn a_clock_that_goes_back_changes_neither_lease_nor_order_of_entries(place: &Place) {
    const HOUR_MS: u64 = 3_600_000;
    let (store, planned) = (place.store(), run("r-1", 2));
    let mut lease = create(&*store, &planned, 10 * HOUR_MS).await.unwrap();
    lease.append(&[starting(0), Entry::Done { at_ms: 10 * HOUR_MS, stopped: Some(Stopped::Asked) }]).await.unwrap();
    lease.release().await.unwrap();
    let mut lease = store.acquire(&planned.id).await.unwrap();
    lease.append(&[Entry::Resumed { at_ms: 9 * HOUR_MS, principal: None }, ended(0)]).await.unwrap();
    assert_eq!(
        store.status(&planned.id).await.unwrap().summary.done,
        None,
        "the order of entries counts, not their times"
    );
    lease.append(&[Entry::Done { at_ms: 1, stopped: None }]).await.unwrap();
    lease.release().await.unwrap();
    let stored = store.load(&planned.id).await.unwrap();
    assert_eq!(take_over(&stored, Map::from_iter([("token".to_owned(), json!("x"))]), None).unwrap().stopped, None);
    // A run of the future and one of 1970 hide no other.
    for (id, at) in [("r-2", u64::MAX), ("r-3", 0)] {
        create(&*store, &run(id, 1), at).await.unwrap().release().await.unwrap();
    }
    assert_eq!(store.list(usize::MAX).await.unwrap().heads.len(), 3);
}
