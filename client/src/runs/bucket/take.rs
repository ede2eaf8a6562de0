//! Takes the right to carry out a run: the lease first, then a group of its own, which shuts out the previous holder.
//!
//! ```text
//!  read the lease ─▶ released ────────────────────────────────▶ replace what was read ─▶ create the next group ─▶ Held
//!                 └▶ held: read it again for its whole time ─▶ ┘                     └▶ another client: Busy
//!                         └▶ renewed meanwhile: Busy
//! ```
//!
//! A lease has expired when this client has seen it unchanged for its whole time, by its own monotonic clock. Clocks that differ
//! or jump have no influence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bolt_aws::{BucketError, Etag, Problem};
use packs_schema::base::name::RunId;

use super::super::read::damaged;
use super::super::{Lease, StoreError, Tally};
use super::Shared;
use super::create::{Created, create_own, no_state};
use super::lease::Held;
use super::objects::{self, Group, LeaseObject};

/// Maximum number of groups that a previous holder may create while it is being shut out.
const MAX_RACES: u32 = 1000;

/// Takes the lease of a run that this client has just created.
pub(super) async fn first(shared: &Arc<Shared>, run: &RunId, token: String) -> Result<Box<dyn Lease>, StoreError> {
    let lease = LeaseObject::new(run, token, shared.expiry);
    match create_own(shared, &objects::lease(run), &lease.bytes()).await? {
        Created::Own(etag) => Ok(Box::new(Held::new(Arc::clone(shared), lease, etag, 1, Tally::default()))),
        Created::Taken => Err(busy(run, shared.lease(run).await?.map(|(lease, _)| lease))),
    }
}

/// Takes the lease of a recorded run, and shuts out its previous holder.
pub(super) async fn over(shared: &Arc<Shared>, run: &RunId, token: String) -> Result<Box<dyn Lease>, StoreError> {
    let lease = LeaseObject::new(run, token, shared.expiry);
    let etag = take_lease(shared, run, &lease).await?;
    // Renewed from here on: a long record takes longer to read than the lease lasts.
    let mut held = Held::new(Arc::clone(shared), lease, etag, 1, Tally::default());
    match shut_out(shared, run, held.token()).await {
        Ok((next, tally)) => {
            held.continue_at(next, tally);
            Ok(Box::new(held))
        }
        Err(error) => {
            // Best effort: without it, the next client waits until the lease expires.
            let _ = Box::new(held).release().await;
            Err(error)
        }
    }
}

/// Creates a group, so that the previous holder can create none. Returns the number of the next one, and the tally of all.
async fn shut_out(shared: &Shared, run: &RunId, token: &str) -> Result<(u64, Tally), StoreError> {
    let (mut tally, mut number) = (Tally::default(), 1);
    for _ in 0..MAX_RACES {
        let newest = shared.newest(run).await?;
        for group in number..=newest {
            let read = shared.group(run, group).await?;
            tally.extend(&read.entries);
        }
        number = newest.max(number - 1) + 1;
        if number > objects::MAX_GROUPS as u64 {
            return Err(damaged(&shared.address(&objects::progress(run)), "it has too many groups"));
        }
        let own = Group::new(run, number, token, Vec::new(), tally.summary());
        match create_own(shared, &objects::group(run, number), &own.bytes()).await? {
            Created::Own(_) => return Ok((number + 1, tally)),
            Created::Taken => {}
        }
    }
    Err(busy(run, None))
}

async fn take_lease(shared: &Shared, run: &RunId, lease: &LeaseObject) -> Result<Etag, StoreError> {
    let name = objects::lease(run);
    let bucket = shared.bucket().await?;
    let Some((mut seen, mut etag)) = read(shared, run).await? else {
        // Its creator died before it had written one.
        return match create_own(shared, &name, &lease.bytes()).await? {
            Created::Own(etag) => Ok(etag),
            Created::Taken => Err(busy(run, shared.lease(run).await?.map(|(lease, _)| lease))),
        };
    };
    let (expiry, began) = (seen.expiry(), Instant::now());
    while !seen.released {
        let is_over = began.elapsed() >= expiry;
        let Some((now, state)) = read(shared, run).await? else { break };
        if state != etag && !now.released {
            return Err(busy(run, Some(now)));
        }
        (seen, etag) = (now, state);
        if is_over {
            break;
        }
        tokio::time::sleep((expiry / 6).min(Duration::from_secs(2))).await;
    }
    match bucket.replace(&name, &lease.bytes(), &etag).await {
        Ok(etag) => etag.ok_or_else(|| no_state(shared, &name)),
        Err(BucketError { problem: Problem::Conflict, .. }) => {
            Err(busy(run, shared.lease(run).await?.map(|(lease, _)| lease)))
        }
        Err(error) => Err(shared.failed(error)),
    }
}

/// Reads the lease with its state.
async fn read(shared: &Shared, run: &RunId) -> Result<Option<(LeaseObject, Etag)>, StoreError> {
    let name = objects::lease(run);
    let bucket = shared.bucket().await?;
    let Some((bytes, etag)) = bucket.read(&name, objects::MAX_LEASE).await.map_err(|error| shared.failed(error))?
    else {
        return Ok(None);
    };
    let lease = LeaseObject::parse(&shared.address(&name), run, &bytes)?;
    Ok(Some((lease, etag.ok_or_else(|| no_state(shared, &name))?)))
}

fn busy(run: &RunId, lease: Option<LeaseObject>) -> StoreError {
    let by = lease.map_or_else(String::new, |lease| format!(" ({})", lease.by()));
    StoreError::Busy { run: run.clone(), by }
}
