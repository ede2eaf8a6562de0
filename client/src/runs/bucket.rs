//! Runs in a bucket, for clients on several hosts. There are no locks: objects are created under a condition, and never
//! overwritten, but for the lease, which replaces only the state that was read.
//!
//! ```text
//!  <prefix>/heads/<run>.json                    the run exists from its creation on; names the plan by its digest
//!          /runs/<run>/plan-<sha256>.json       written before the head
//!                     /lease.json               the client that carries out the run; renewed while it does
//!                     /progress/<8 digits>.json a group of entries each; the digits count down, so that a listing begins with
//!                                               the newest. Each has the summary of all groups up to it
//! ```
//!
//! A client that takes over a run first creates a group of its own. Two clients can never create the same group, so that the
//! previous holder finds its next number taken, and has lost the run: nothing that it records later can be missed.
//!
//! No clock of a client is compared with another one's: see `lease`. Runs are never removed from here; a lifecycle rule of the
//! bucket expires them. What a bucket holds is untrusted: sizes are bounded, ids and numbers are checked against the names.

mod create;
#[cfg(feature = "fuzzing")]
pub(in crate::runs) mod fuzz;
mod lease;
mod objects;
mod take;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bolt_aws::{Bucket, BucketError, Options, Problem};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use packs_schema::base::bucket_url::BucketUrl;
use packs_schema::base::name::RunId;
use packs_schema::base::quantity::parse_duration;

use self::objects::{Group, LeaseObject, StoredHead};
use super::read::{check_run, damaged, versioned};
use super::record::{Entry, Head, Plan};
use super::{Lease, Listing, RunStore, Status, StoreError, StoredRun, Summary};
use crate::bucket_location::{BucketLocation, unknown};
use crate::show;

/// Maximum time without an answer of the bucket before an attempt is repeated.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a renewal after which another client may take over a run, by default.
const EXPIRY: Duration = Duration::from_secs(30);
/// Shortest and longest such time.
const EXPIRY_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// Number of objects that are read at once.
const PARALLEL: usize = 16;
/// Maximum number of runs that are listed.
const MAX_RUNS: usize = 100_000;

/// Runs in a bucket.
#[derive(Debug, Clone)]
pub struct InBucket {
    shared: Arc<Shared>,
}

/// Bucket, and what is known of it.
#[derive(Debug)]
struct Shared {
    url: BucketUrl,
    options: Options,
    expiry: Duration,
    /// Client of the bucket, once it is open.
    bucket: Mutex<Option<Bucket>>,
}

impl InBucket {
    /// Returns the store at `s3://bucket/prefix`, after a `?` with the options of the access, and with `lease`, the time without a
    /// renewal after which another client may take over a run, such as `30s`. Sends nothing.
    pub fn at(text: &str) -> Result<InBucket, StoreError> {
        let wrong = |problem: String| StoreError::Location {
            location: show::visible(&text.chars().take(200).collect::<String>()),
            problem,
        };
        let BucketLocation { url, options, others } = BucketLocation::parse(text).map_err(wrong)?;
        let mut expiry = EXPIRY;
        for (key, value) in others {
            if key != "lease" {
                return Err(wrong(unknown(&key)));
            }
            let (shortest, longest) = EXPIRY_BOUNDS;
            expiry = parse_duration(&value)
                .ok()
                .filter(|expiry| (shortest..=longest).contains(expiry))
                .ok_or_else(|| wrong(format!("lease {value:?} must be a duration from 1s to 10m")))?;
        }
        let options = Options { timeout: TIMEOUT, ..options };
        Ok(InBucket { shared: Arc::new(Shared { url, options, expiry, bucket: Mutex::new(None) }) })
    }
}

impl Shared {
    async fn bucket(&self) -> Result<Bucket, StoreError> {
        let open = self.open_bucket().clone();
        if let Some(bucket) = open {
            return Ok(bucket);
        }
        let opened = Bucket::open(self.url.clone(), &self.options).await;
        let bucket = opened.map_err(|error| StoreError::Io {
            verb: "open",
            what: self.url.to_string(),
            problem: error.to_string(),
        })?;
        Ok(self.open_bucket().get_or_insert(bucket).clone())
    }

    fn open_bucket(&self) -> MutexGuard<'_, Option<Bucket>> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if an error says that the clock of a request differs from the bucket's; then the next request uses a new client. The
    /// SDK learns the difference once, and does not unlearn it when the clock of this host is set right.
    fn has_lost_the_time(&self, error: &BucketError) -> bool {
        let is_skewed = matches!(&error.problem, Problem::Denied(why) if why.contains("RequestTimeTooSkewed"));
        if is_skewed {
            *self.open_bucket() = None;
        }
        is_skewed
    }

    /// Returns the error of the store for one of the bucket.
    fn failed(&self, error: BucketError) -> StoreError {
        self.has_lost_the_time(&error);
        let BucketError { operation, object, problem } = error;
        match problem {
            Problem::TooLarge(max) => damaged(&object, &format!("it is larger than {max} bytes")),
            problem => StoreError::Io {
                verb: operation,
                what: show::visible(&object),
                problem: show::visible(&problem.to_string()),
            },
        }
    }

    /// Returns the address of an object, for messages.
    fn address(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// Reads an object of at most `max` bytes; `None` if it does not exist.
    async fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.bucket().await?.read(name, max).await.map_err(|error| self.failed(error))?;
        Ok(read.map(|(bytes, _)| bytes))
    }

    async fn head(&self, run: &RunId) -> Result<StoredHead, StoreError> {
        let name = objects::head(run);
        let Some(bytes) = self.read(&name, objects::MAX_HEAD).await? else {
            return Err(StoreError::Unknown { run: run.clone(), place: self.url.to_string() });
        };
        let what = self.address(&name);
        let head: StoredHead = versioned(&what, &bytes)?;
        check_run(&what, run, &head.head.run)?;
        Ok(head)
    }

    async fn plan(&self, run: &RunId, sha256: &str) -> Result<Plan, StoreError> {
        let what = self.address(&objects::head(run));
        let name = objects::plan(run, sha256).ok_or_else(|| damaged(&what, "it names its plan by no digest"))?;
        let what = self.address(&name);
        let Some(bytes) = self.read(&name, objects::MAX_PLAN).await? else {
            return Err(damaged(&what, "it does not exist"));
        };
        if objects::sha256(&bytes) != sha256 {
            return Err(damaged(&what, "its content is not the one that its name says"));
        }
        versioned(&what, &bytes)
    }

    /// Returns the lease of a run, and whether it has been renewed within its time, by the bucket's clock.
    async fn lease(&self, run: &RunId) -> Result<Option<(LeaseObject, bool)>, StoreError> {
        let name = objects::lease(run);
        let bucket = self.bucket().await?;
        let read = bucket.read_dated(&name, objects::MAX_LEASE).await.map_err(|error| self.failed(error))?;
        let Some((bytes, object)) = read else { return Ok(None) };
        let lease = LeaseObject::parse(&self.address(&name), run, &bytes)?;
        let age = bucket.date_ms().zip(object.modified_ms()).map(|(now, then)| now.saturating_sub(then));
        // The times of an answer are whole seconds.
        let is_recent = age.is_none_or(|age| Duration::from_millis(age) <= lease.expiry() + Duration::from_secs(2));
        Ok(Some((lease, is_recent)))
    }

    /// Returns the number of the newest group; 0 if there is none.
    async fn newest(&self, run: &RunId) -> Result<u64, StoreError> {
        let under = objects::progress(run);
        let listed = self.bucket().await?.list_below(&under, 1).await.map_err(|error| self.failed(error))?;
        listed.first().map_or(Ok(0), |object| self.number(&under, &object.name))
    }

    fn number(&self, under: &str, name: &str) -> Result<u64, StoreError> {
        let number = objects::number(name.strip_prefix(under).unwrap_or_default());
        number.ok_or_else(|| damaged(&self.address(&show::visible(name)), "its name has no number of a group"))
    }

    /// Reads a group.
    async fn group(&self, run: &RunId, number: u64) -> Result<Group, StoreError> {
        let name = objects::group(run, number);
        let what = self.address(&name);
        let Some(bytes) = self.read(&name, objects::MAX_GROUP).await? else {
            return Err(damaged(&what, "it does not exist, and later ones do"));
        };
        Group::parse(&what, run, number, &bytes)
    }

    /// Returns all groups, in their order.
    async fn groups(&self, run: &RunId) -> Result<Vec<Group>, StoreError> {
        let under = objects::progress(run);
        let max = objects::MAX_GROUPS;
        let listed = self.bucket().await?.list_below(&under, max + 1).await.map_err(|error| self.failed(error))?;
        let bytes = listed.iter().fold(0, |sum: u64, object| sum.saturating_add(object.bytes));
        if listed.len() > max || bytes > objects::MAX_PROGRESS {
            let problem = format!("it has more than {max} groups, or {} bytes", objects::MAX_PROGRESS);
            return Err(damaged(&self.address(&under), &problem));
        }
        let newest = listed.first().map_or(Ok(0), |object| self.number(&under, &object.name))?;
        if newest > listed.len() as u64 {
            return Err(damaged(&self.address(&under), &format!("it has {} groups up to {newest}", listed.len())));
        }
        stream::iter((1..=newest).map(|number| self.group(run, number))).buffered(PARALLEL).try_collect().await
    }
}

#[async_trait]
impl RunStore for InBucket {
    fn place(&self) -> String {
        self.shared.url.to_string()
    }

    async fn create(&self, head: &Head, plan: &Plan) -> Result<Box<dyn Lease>, StoreError> {
        let bucket = self.shared.bucket().await?;
        let bytes = serde_json::to_vec(plan).expect("records are JSON");
        let sha256 = objects::sha256(&bytes);
        let name = objects::plan(&head.run, &sha256).expect("it is a digest");
        bucket.create(&name, &bytes).await.map_err(|error| self.shared.failed(error))?;
        let token = objects::new_token();
        let stored = StoredHead { head: head.clone(), plan: sha256, by: token.clone() };
        let bytes = serde_json::to_vec(&stored).expect("records are JSON");
        match create::create_own(&self.shared, &objects::head(&head.run), &bytes).await? {
            create::Created::Own(_) => {}
            create::Created::Taken => return Err(StoreError::Exists(head.run.clone())),
        }
        take::first(&self.shared, &head.run, token).await
    }

    async fn acquire(&self, run: &RunId) -> Result<Box<dyn Lease>, StoreError> {
        self.shared.head(run).await?;
        take::over(&self.shared, run, objects::new_token()).await
    }

    async fn load(&self, run: &RunId) -> Result<StoredRun, StoreError> {
        let StoredHead { head, plan, .. } = self.shared.head(run).await?;
        let plan = self.shared.plan(run, &plan).await?;
        let entries: Vec<Entry> = self.shared.groups(run).await?.into_iter().flat_map(|group| group.entries).collect();
        Ok(StoredRun { head, plan, entries })
    }

    async fn list(&self, limit: usize) -> Result<Listing, StoreError> {
        let bucket = self.shared.bucket().await?;
        let mut listed =
            bucket.list_below(objects::HEADS, MAX_RUNS).await.map_err(|error| self.shared.failed(error))?;
        // A head is written once: its time is that of the run.
        listed.sort_by_key(|object| std::cmp::Reverse(object.modified_ms));
        let ids: Vec<RunId> = listed.iter().filter_map(|object| objects::run_of_head(&object.name)).collect();
        let mut listing = Listing { more: ids.len().saturating_sub(limit), ..Listing::default() };
        let heads = ids.into_iter().take(limit).map(|run| {
            let shared = Arc::clone(&self.shared);
            async move { shared.head(&run).await }
        });
        for head in stream::iter(heads).buffered(PARALLEL).collect::<Vec<_>>().await {
            match head {
                Ok(stored) => listing.heads.push(stored.head),
                Err(problem) => listing.problems.push(problem),
            }
        }
        listing.heads.sort_by(|a, b| b.created_at_ms.cmp(&a.created_at_ms).then_with(|| b.run.cmp(&a.run)));
        Ok(listing)
    }

    async fn status(&self, run: &RunId) -> Result<Status, StoreError> {
        let lease = self.shared.lease(run).await?;
        let held = lease.filter(|(lease, _)| !lease.released);
        let expiry = held.as_ref().map(|(lease, _)| lease.expiry());
        let holder = held.filter(|(_, is_recent)| *is_recent).map(|(lease, _)| lease.by());
        let summary = match self.shared.newest(run).await? {
            0 if holder.is_none() => {
                // Unknown, or a client that died before its first start.
                self.shared.head(run).await?;
                Summary::default()
            }
            0 => Summary::default(),
            number => self.shared.group(run, number).await?.summary,
        };
        Ok(Status { holder, lease: expiry, summary })
    }
}
