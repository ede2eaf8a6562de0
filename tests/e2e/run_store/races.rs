//! Clients that meet at one run in a bucket: one of them has it, and the other one knows.

use std::time::Duration;

use bolt_client::runs::StoreError;
use bolt_tests::proxy::Fault;
use bolt_tests::{Bucket, Proxy, Random};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::{Place, create, ended, error, run, starting, with_credentials};

/// Number of runs over which clients race.
const ROUNDS: u64 = 200;
/// Number of rounds at the same time.
const PARALLEL: usize = 20;

/// Half of the runs were released, half of their clients died.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_clients_that_resume_at_once_one_wins() {
    if !with_credentials("run_store::races::of_two_clients_that_resume_at_once_one_wins") {
        return;
    }
    let place = Place::bucket();
    let stores = [place.store(), place.store()];
    let mut random = Random::new(7);
    let rounds: Vec<(u64, [u64; 2])> = (0..ROUNDS).map(|n| (n, [random.below(4), random.below(4)])).collect();
    let stores = &stores;
    let rounds = rounds.into_iter().map(|(round, delays)| async move {
        let planned = run(&format!("r-{round}"), 2);
        let mut lease = create(&*stores[0], &planned, round).await.unwrap();
        lease.append(&[starting(0)]).await.unwrap();
        if round % 2 == 0 {
            lease.release().await.unwrap();
        } else {
            drop(lease);
        }
        let clients = stores.iter().zip(delays).map(async |(store, delay)| {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            store.acquire(&planned.id).await
        });
        let (mut won, mut lost) = (Vec::new(), Vec::new());
        for (client, result) in join_all(clients).await.into_iter().enumerate() {
            match result {
                Ok(lease) => won.push((client, lease)),
                Err(StoreError::Busy { .. }) => lost.push(client),
                Err(other) => panic!("round {round}: {other}"),
            }
        }
        assert!((1..=2).contains(&won.len()) && won.len() + lost.len() == 2, "round {round}");
        let is_clear = won.len() == 1;
        // On a host that is too busy to renew a lease in time, both may have it, one after the other: one of them can write.
        let mut wrote = Vec::new();
        for (client, mut lease) in won {
            match lease.append(&[ended(0)]).await {
                Ok(()) => wrote.push(client),
                Err(StoreError::Lost { .. }) => {}
                Err(other) => panic!("round {round}: {other}"),
            }
            lease.release().await.unwrap();
        }
        assert_eq!(wrote.len(), 1, "round {round}");
        assert_eq!(stores[0].load(&planned.id).await.unwrap().entries, [starting(0), ended(0)], "round {round}");
        (wrote[0], is_clear)
    });
    let ended: Vec<(usize, bool)> = stream::iter(rounds).buffer_unordered(PARALLEL).collect().await;
    let second = ended.iter().filter(|(client, _)| *client == 1).count();
    assert!((1..ended.len()).contains(&second), "both have won: the second one {second} times of {ROUNDS}");
    let clear = ended.iter().filter(|(_, is_clear)| *is_clear).count();
    assert!(clear * 10 >= ended.len() * 9, "{clear} of {ROUNDS} rounds had one winner");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_paused_finds_its_run_taken_and_records_nothing_more() {
    if !with_credentials("run_store::races::a_client_that_was_paused_finds_its_run_taken_and_records_nothing_more") {
        return;
    }
    let bucket = Bucket::start();
    let proxy = Proxy::before(bucket.address());
    let place = Place::Bucket(bucket);
    let planned = run("r-1", 3);
    let mut paused = create(&*Place::store_through(&proxy), &planned, 7).await.unwrap();
    paused.append(&[starting(0)]).await.unwrap();
    // Its requests arrive late: those of the renewal, and the group that it was about to write.
    proxy.fail("", 1_000, Fault::Hold);
    let write = async { error(paused.append(&[ended(0), starting(1)]).await) };
    let takeover = async {
        let store = place.store();
        let mut taken = store.acquire(&planned.id).await.unwrap();
        taken.append(&[starting(1), ended(1)]).await.unwrap();
        proxy.heal();
        taken
    };
    let (refused, mut taken) = tokio::join!(write, takeover);
    let text = refused.to_string();
    assert!(matches!(refused, StoreError::Lost { .. }), "{text}");
    assert!(text.contains("taken over by another client (process "), "{text}");
    let lost = tokio::time::timeout(Duration::from_secs(20), paused.lost()).await.expect("the renewal notices");
    assert!(matches!(lost, StoreError::Lost { .. }));
    assert!(matches!(error(paused.append(&[starting(2)]).await), StoreError::Lost { .. }), "also later");
    paused.release().await.unwrap();
    taken.append(&[starting(0)]).await.unwrap();
    let store = place.store();
    assert!(store.status(&planned.id).await.unwrap().holder.is_some(), "the release of a lost lease takes none away");
    let entries = store.load(&planned.id).await.unwrap().entries;
    assert_eq!(entries, [starting(0), starting(1), ended(1), starting(0)]);
    taken.release().await.unwrap();
}

/// A client may go on recording until the very moment at which its run is taken over: all of it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_race_with_a_takeover_are_in_the_record_or_refused() {
    if !with_credentials("run_store::races::entries_that_race_with_a_takeover_are_in_the_record_or_refused") {
        return;
    }
    let place = Place::bucket();
    let (bucket, planned) = (&place, run("r-1", 500));
    for round in 0..20 {
        let planned =
            super::Run { id: packs_schema::base::name::RunId::new(format!("r-{round}")).unwrap(), ..planned.clone() };
        let mut old = create(&*bucket.store(), &planned, 7).await.unwrap();
        // Its lease is taken away, as after a pause of its renewal alone.
        let Place::Bucket(inner) = bucket else { unreachable!() };
        let key = format!("ops/runs/runs/r-{round}/lease.json");
        let released =
            String::from_utf8(inner.content(&key).unwrap()).unwrap().replace("\"released\":false", "\"released\":true");
        inner.put(&key, released);
        let writing = async {
            let mut written = Vec::new();
            for number in 0..100_000 {
                let entry = starting(number % 500);
                match old.append(std::slice::from_ref(&entry)).await {
                    Ok(()) => written.push(entry),
                    Err(StoreError::Lost { .. }) => return written,
                    Err(other) => panic!("{other}"),
                }
            }
            panic!("it was never shut out");
        };
        let store = bucket.store();
        let taking = async {
            let taken = store.acquire(&planned.id).await.unwrap();
            let seen = store.load(&planned.id).await.unwrap().entries;
            (taken, seen)
        };
        let (written, (taken, seen)) = tokio::join!(writing, taking);
        assert_eq!(written, seen, "round {round}");
        assert_eq!(store.load(&planned.id).await.unwrap().entries, seen);
        drop(taken);
    }
}

/// Clocks of client and bucket differ by an hour, and jump in between: only the bucket's own clock tells the age of a lease, and
/// only for lists.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_by_an_hour_give_no_run_away() {
    if !with_credentials("run_store::races::clocks_that_differ_by_an_hour_give_no_run_away") {
        return;
    }
    let place = Place::bucket();
    let Place::Bucket(bucket) = &place else { unreachable!() };
    let planned = run("r-1", 4);
    let mut lease = create(&*place.store(), &planned, 7).await.unwrap();
    for (number, ahead) in [3600, -3600, 0].into_iter().enumerate() {
        bucket.set_clock_ahead(ahead);
        lease.append(&[starting(number)]).await.unwrap();
        // A renewal by the new clock.
        tokio::time::sleep(Duration::from_millis(900)).await;
        let store = place.store();
        assert!(matches!(error(store.acquire(&planned.id).await), StoreError::Busy { .. }), "{ahead}");
        assert!(store.status(&planned.id).await.unwrap().holder.is_some(), "{ahead}");
        lease.append(&[ended(number)]).await.unwrap();
    }
    drop(lease);
    bucket.set_clock_ahead(-3600);
    let store = place.store();
    let taken = store.acquire(&planned.id).await.unwrap();
    assert_eq!(store.load(&planned.id).await.unwrap().entries.len(), 6);
    taken.release().await.unwrap();
}
