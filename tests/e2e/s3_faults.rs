//! Faults between an agent and its bucket. Each one leaves what is active as it was, is said in one clear line by `/v1/packs` and
//! health, costs a bounded number of requests and bytes, keeps the sync within its limits, and is over with the next good poll.

use std::fs;
use std::time::Duration;

use bolt_client::local::LocalAgent;
use bolt_tests::bucket::{Bucket, follow, location};
use bolt_tests::http::Call;
use bolt_tests::proxy::{Fault, Proxy};
use bolt_tests::{Operator, PackSource, World, spec};
use packs_schema::agent::rest::{Health, PackList, SyncEnd, SyncStatus};

use crate::calls::until;

/// Number of attempts per request.
const ATTEMPTS: usize = 5;
/// The most bytes that a fault may make the bucket send in one poll.
const MOST_SENT: u64 = 64 << 20;
/// The most memory of a sync in these tests, in kB: not optimised, and with symbols.
const MOST_MEMORY_KB: u64 = 64 << 10;

/// An agent with probe 1.0.0 active, whose bucket is behind a proxy.
struct Ground {
    world: World,
    bucket: Bucket,
    proxy: Proxy,
    agent: LocalAgent,
    version: u32,
}

/// The probe pack, large enough to be cut in the middle.
fn pack(version: u32) -> PackSource {
    let mut state = 1_u64;
    let noise: String = (0..300_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'0' + (state >> 33) as u8 % 64)
        })
        .collect();
    PackSource::probe().version(&format!("1.{version}.0")).file("noise.txt", &noise, 0o644)
}

impl Ground {
    fn operator(&self) -> Operator {
        self.world.operator(&self.agent)
    }

    fn new() -> Ground {
        let (world, bucket) = (World::empty(), Bucket::start());
        world.publish(&pack(0));
        bucket.mirror(&world.site.repository(), "bolt");
        let proxy = Proxy::before(bucket.address());
        let spec = follow(spec("i-1"), &bucket.url("bolt"), &proxy.endpoint());
        let agent = world.start(&spec.set("repository", "poll", "1h").set("repository", "timeout", "1s"));
        let ground = Ground { world, bucket, proxy, agent, version: 0 };
        assert_eq!(ground.active(), "1.0.0");
        ground
    }

    fn active(&self) -> String {
        let current = fs::read_link(self.agent.directory().join("packs/probe/current")).unwrap();
        current.display().to_string().split('-').next().unwrap().to_owned()
    }

    fn offer(&mut self) -> String {
        self.version += 1;
        self.world.publish(&pack(self.version));
        self.bucket.mirror(&self.world.site.repository(), "bolt");
        format!("1.{}.0", self.version)
    }

    /// Requests a poll and waits for its end.
    async fn poll(&self) -> SyncStatus {
        let before = self.agent.sync_status().unwrap().polls;
        self.operator().send(Call::post("/v1/packs/sync", "")).await;
        until("the poll", async || self.agent.sync_status().is_some_and(|status| status.polls > before)).await;
        let status = self.agent.sync_status().unwrap();
        let end = || {
            let text = fs::read(self.agent.directory().join("run/sync.json")).ok()?;
            serde_json::from_slice::<SyncEnd>(&text).ok().filter(|end| end.began_at_ms <= status.polled_at_ms)
        };
        until("its end", async || end().is_some_and(|end| end.began_at_ms + 60_000 > status.polled_at_ms)).await;
        assert_eq!(end().unwrap().signal, None, "no limit ended it");
        status
    }

    /// Returns the report of a poll that met a fault: of the poll, or of the pack.
    async fn said(&self, status: &SyncStatus) -> String {
        let packs: PackList = self.operator().send(Call::get("/v1/packs")).await.json();
        let health: Health = self.operator().send(Call::get("/v1/health")).await.json();
        assert!(health.degraded, "{health:?}");
        let shown = packs.sync.unwrap();
        assert_eq!(shown.failure, status.failure);
        let said = match (&shown.failure, shown.failed.first()) {
            (Some(failure), _) => failure.clone(),
            (None, Some((_, failed))) => failed.message.clone(),
            (None, None) => panic!("nothing failed"),
        };
        assert!(!said.contains('\n') && said.len() < 700, "one line: {said:?}");
        let log = fs::read_to_string(self.agent.log()).unwrap();
        let start: String = said.chars().take_while(|c| *c != '"').take(60).collect();
        assert!(log.contains(start.trim_end_matches('\\')), "the log says {start:?}");
        said
    }

    /// Runs one poll with `fault` at `path`, then one without.
    async fn meet(&mut self, path: &str, fault: Fault, words: &[&str]) {
        let (active, wanted) = (self.active(), self.offer());
        self.proxy.heal();
        self.proxy.fail(path, 1000, fault.clone());
        let status = self.poll().await;
        let said = self.said(&status).await;
        let name: String = format!("{fault:?}").chars().take(40).collect();
        println!("{name}\n    {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{fault:?}: {said:?} does not say {words:?}");
        assert_eq!(self.active(), active, "{fault:?} touched the active version");
        let met = self.proxy.passed().iter().filter(|passed| passed.fault.is_some()).count();
        assert!((1..=3 * ATTEMPTS).contains(&met), "{fault:?} was met {met} times");
        assert!(self.proxy.sent() <= MOST_SENT, "{fault:?}: {} bytes", self.proxy.sent());
        if matches!(fault, Fault::Status(..) | Fault::Reset) {
            assert_eq!(met, ATTEMPTS, "{fault:?} is tried again, so often");
        }
        self.proxy.heal();
        let status = self.poll().await;
        assert_eq!((status.failure, status.failed.len()), (None, 0), "after {fault:?}");
        assert_eq!(self.active(), wanted, "after {fault:?}");
        let health: Health = self.operator().send(Call::get("/v1/health")).await.json();
        assert!(!health.degraded, "after {fault:?}: {health:?}");
    }

    /// The memory that the syncs have said they held.
    fn peaks_kb(&self) -> Vec<u64> {
        let log = fs::read_to_string(self.agent.log()).unwrap();
        log.lines().filter_map(|l| l.split_once("peak_kb=")?.1.split_whitespace().next()?.parse().ok()).collect()
    }
}

#[tokio::test]
async fn at_the_timestamp() {
    let mut ground = Ground::new();
    let path = "metadata/timestamp.json";
    let other = br#"{"signatures":[],"signed":{"_type":"timestamp"}}"#.to_vec();
    for (fault, words) in [
        (Fault::Status(500, "InternalError"), &["timestamp.json", "500 InternalError"][..]),
        (Fault::Status(503, "SlowDown"), &["timestamp.json", "503 SlowDown"]),
        (Fault::Status(403, "AccessDenied"), &["timestamp.json", "access is denied", "AccessDenied"]),
        (Fault::Silent, &["timestamp.json", "answer"]),
        (Fault::Reset, &["timestamp.json", "connection"]),
        (Fault::Cut(10), &["timestamp.json", "truncated"]),
        (Fault::Corrupt, &["cannot verify the repository's metadata"]),
        (Fault::Swap(other), &["cannot verify the repository's metadata"]),
        (Fault::Length(100), &["timestamp.json", "truncated"]),
        (Fault::Length(-10), &["cannot verify the repository's metadata"]),
        (Fault::Endless, &["timestamp.json", "larger than the maximum of 1048576 bytes"]),
        (Fault::EndlessError, &["timestamp.json"]),
        (Fault::Drip(Duration::from_millis(20)), &["timestamp.json", "only"]),
    ] {
        if fault == Fault::Status(403, "AccessDenied") {
            // Not a fault that passes: it is not tried again.
            ground.proxy.heal();
            ground.proxy.fail(path, 1000, fault);
            let status = ground.poll().await;
            let said = ground.said(&status).await;
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
            assert_eq!(ground.proxy.passed().len(), 1, "{:?}", ground.proxy.passed());
            continue;
        }
        ground.meet(path, fault, words).await;
    }
    let peaks = ground.peaks_kb();
    assert!(peaks.len() >= 20 && peaks.iter().all(|peak| *peak <= MOST_MEMORY_KB), "{peaks:?}");
}

#[tokio::test]
async fn at_the_archive() {
    let mut ground = Ground::new();
    let path = "probe/1.";
    for (fault, words) in [
        (Fault::Status(500, "InternalError"), &["500 InternalError"][..]),
        (Fault::Status(503, "SlowDown"), &["503 SlowDown"]),
        (Fault::Silent, &["answer"]),
        (Fault::Reset, &["connection"]),
        (Fault::Cut(1000), &["truncated"]),
        (Fault::Corrupt, &["cannot fetch packs/probe/1."]),
        (Fault::Swap(vec![7; 1000]), &["cannot fetch packs/probe/1."]),
        (Fault::Length(100), &["truncated"]),
        (Fault::Length(-1000), &["cannot fetch packs/probe/1."]),
        (Fault::Endless, &["cannot fetch packs/probe/1."]),
        (Fault::EndlessError, &["cannot fetch packs/probe/1."]),
        (Fault::Drip(Duration::from_millis(20)), &["only"]),
    ] {
        ground.meet(path, fault, words).await;
    }
    let peaks = ground.peaks_kb();
    assert!(peaks.iter().all(|peak| *peak <= MOST_MEMORY_KB), "{peaks:?}");
}

#[tokio::test]
async fn an_archive_that_is_cut_once_goes_on_where_it_broke() {
    let mut ground = Ground::new();
    let wanted = ground.offer();
    ground.proxy.heal();
    ground.proxy.fail("probe/1.", 1, Fault::Cut(100_000));
    let status = ground.poll().await;
    assert_eq!((status.failure, status.failed.len()), (None, 0));
    assert_eq!(ground.active(), wanted);
    let archive: Vec<_> = ground.proxy.passed().into_iter().filter(|passed| passed.path.contains("probe/1.")).collect();
    let ranges: Vec<_> = archive.iter().map(|passed| passed.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-")], "{archive:?}");
}

#[tokio::test]
async fn a_fault_that_passes_is_not_noticed() {
    let mut ground = Ground::new();
    for (fault, times) in [(Fault::Status(503, "SlowDown"), 3), (Fault::Reset, 2), (Fault::Silent, 1)] {
        let wanted = ground.offer();
        ground.proxy.heal();
        ground.proxy.fail("metadata/timestamp.json", times, fault.clone());
        let status = ground.poll().await;
        assert_eq!((status.failure, ground.active()), (None, wanted), "{fault:?}");
    }
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_is_made_up_for() {
    let mut ground = Ground::new();
    for ahead in [3600, -3600] {
        ground.bucket.set_clock_ahead(ahead);
        let (wanted, mark) = (ground.offer(), ground.bucket.mark());
        let status = ground.poll().await;
        assert_eq!((status.failure, ground.active()), (None, wanted), "{ahead}");
        let statuses: Vec<u16> = ground.bucket.since(mark).requests.iter().map(|asked| asked.status).collect();
        assert_eq!(statuses[..2], [403, 200], "{ahead}: {statuses:?}");
        assert!(statuses[2..].iter().all(|status| *status != 403), "it was learnt once: {statuses:?}");
    }
}

#[tokio::test]
async fn an_outage_of_any_length_leaves_what_is_active_running() {
    let (world, bucket) = (World::with_probe(), Bucket::start());
    bucket.mirror(&world.site.repository(), "bolt");
    let proxy = Proxy::before(bucket.address());
    let spec = follow(spec("i-1"), &bucket.url("bolt"), &proxy.endpoint());
    let agent = world.start(&spec.set("repository", "poll", "1s").set("repository", "timeout", "1s"));
    let operator = world.operator(&agent);
    proxy.fail("", 1_000_000, Fault::Reset);
    until("three polls that failed", async || agent.sync_status().unwrap().failures >= 3).await;
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    assert!(health.live && health.ready && health.degraded, "{health:?}");
    let ran = world.operator(&agent).run("probe.hello", serde_json::json!({})).await;
    assert_eq!(ran.exit_status, Some(0), "{ran:?}");
    proxy.heal();
    until("recovery, by nobody's asking", async || agent.sync_status().unwrap().failure.is_none()).await;
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    assert!(!health.degraded, "{health:?}");
}

/// Commands of publishers list the bucket, which may answer without an end: within one page, or by page after page.
#[test]
fn a_listing_without_an_end_is_refused_within_bounds() {
    let world = World::with_bucket();
    world.publish(&PackSource::probe());
    let proxy = Proxy::before(world.bucket().address());
    let at = location(&world.bucket().url("bolt"), &proxy.endpoint());
    let bolt = world.bolt(&[]);
    let same = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated>\
                <NextContinuationToken>again</NextContinuationToken></ListBucketResult>";
    for (fault, words) in [
        (Fault::Endless, "cannot list s3://packs/bolt"),
        (Fault::Swap(same.as_bytes().to_vec()), "the listing does not end: the same page again"),
    ] {
        proxy.heal();
        proxy.fail("list-type=2", 1000, fault.clone());
        let said = bolt.run(["repo", "status", "--repo", &at]);
        assert!(said.code == 1 && said.stderr.contains("the archives could not be listed"), "{fault:?}: {said:?}");
        assert!(said.stderr.contains(words), "{fault:?}: {said:?}");
        assert!(proxy.passed().len() <= 20 && proxy.sent() <= 2 * MOST_SENT, "{fault:?}: {} bytes", proxy.sent());
    }
}
