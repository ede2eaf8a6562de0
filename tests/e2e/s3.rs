//! A repository in a bucket, over real HTTP: what an agent takes from it, what an idle poll costs, what is said when it cannot
//! be reached.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bolt_client::local::LocalAgent;
use bolt_tests::bucket::{Bucket, follow};
use bolt_tests::http::Call;
use bolt_tests::metadata::Metadata;
use bolt_tests::proxy::Fault;
use bolt_tests::{Bolt, CommandOutput, Operator, PackSource, Proxy, World, spec, sync_peak_kb};
use packs_schema::agent::rest::{Health, PackList};

use crate::calls::until;

/// Returns inode, length and times of every file below `directory`, which every write changes.
fn inodes(directory: &Path) -> BTreeMap<PathBuf, [i64; 4]> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, [meta.ino().cast_signed(), meta.size().cast_signed(), meta.ctime(), meta.ctime_nsec()]);
    }
    found
}

/// A world with the probe pack in its directory, and a bucket with a copy of it below `bolt`.
fn mirrored() -> (World, Bucket) {
    let (world, bucket) = (World::with_probe(), Bucket::start());
    bucket.mirror(&world.site.repository(), "bolt");
    (world, bucket)
}

async fn packs(operator: &Operator) -> PackList {
    operator.send(Call::get("/v1/packs")).await.json()
}

#[tokio::test]
async fn an_idle_poll_is_one_small_request_and_writes_nothing() {
    let (world, bucket) = mirrored();
    let agent = world.start(&bucket.follow(spec("i-1"), "bolt").set("repository", "poll", "1s"));
    let operator = world.operator(&agent);
    assert_eq!(packs(&operator).await.items[0].version.as_ref().unwrap().to_string(), "1.0.0");
    until("the first poll", async || agent.directory().join("run/sync.json").exists()).await;
    let store = agent.directory().join("packs");
    let (before, mark) = (inodes(&store), bucket.mark());
    let end = || fs::read(agent.directory().join("run/sync.json")).unwrap();
    for _ in 0..3 {
        let last = end();
        until("another poll", async || end() != last).await;
    }
    let traffic = bucket.since(mark);
    assert_eq!(traffic.requests.len(), 3, "one for each poll: {traffic:?}");
    for asked in &traffic.requests {
        assert_eq!((asked.method.as_str(), asked.status), ("GET", 304), "{asked:?}");
        assert!(asked.path.starts_with("/packs/bolt/metadata/timestamp.json"), "{asked:?}");
    }
    let each = (traffic.bytes_in + traffic.bytes_out) / traffic.requests.len() as u64;
    println!("an idle poll: 1 request, {each} bytes");
    assert!(each <= 2048, "{each} bytes: {traffic:?}");
    assert_eq!(inodes(&store), before);
    // A new version is found without a request.
    world.publish(&PackSource::probe().version("1.1.0"));
    bucket.mirror(&world.site.repository(), "bolt");
    until("the new version", async || packs(&operator).await.items[0].version.as_ref().unwrap().to_string() == "1.1.0")
        .await;
}

#[tokio::test]
async fn what_is_published_to_a_bucket_is_taken_from_it() {
    let world = World::with_bucket();
    let published = world.publish(&PackSource::probe());
    assert!(published.new);
    let agent = world.agent();
    let operator = world.operator(&agent);
    assert_eq!(packs(&operator).await.items[0].digest, Some(published.digest));
    let ran = world.operator(&agent).run("probe.hello", serde_json::json!({})).await;
    assert_eq!(ran.exit_status, Some(0));
    let (code, status) = Bolt::new(&world.site.client_config()).json(["repo", "status", "--repo", &location(&world)]);
    assert_eq!(code, 0, "{status}");
    assert_eq!((&status["versions"][0]["pack"], &status["channels"][0]["channel"]), (&"probe".into(), &"prod".into()));
    // Objects named by digest or version are written once; only the timestamp has a second version.
    for key in world.bucket().keys("bolt/") {
        let most = if key.ends_with("/timestamp.json") { 2 } else { 1 };
        assert_eq!(world.bucket().versions(&key), most, "{key}");
    }
}

fn location(world: &World) -> String {
    world.repository().display().to_string()
}

#[test]
fn a_repository_is_made_in_an_empty_prefix_only() {
    let (world, bucket) = (World::empty(), Bucket::start());
    let bolt = Bolt::new(&world.site.client_config());
    let keys = |name: &str| world.path().join(name).display().to_string();
    let endpoint = bucket.endpoint();
    let init = |prefix: &str, keys: &str| {
        let url = bucket.url(prefix);
        bolt.run([
            "repo",
            "init",
            "--plain-keys",
            &url,
            "--keys",
            keys,
            "--endpoint",
            &endpoint,
            "--bucket-region",
            "us-east-1",
            "--path-style",
        ])
    };
    let said = init("teams/a", &keys("a"));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains(&format!("{}/root.json", keys("a"))), "{said:?}");
    let names: Vec<String> = bucket.keys("").iter().map(|key| key.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["1.root.json", "1.snapshot.json", "1.targets.json", "timestamp.json"]);
    let said = init("teams/a", &keys("b"));
    assert!(said.code != 0 && said.stderr.contains("holds something already"), "{said:?}");
    let said = bolt.run(["repo", "status", "--repo", &bucket.location("teams/none")]);
    assert!(said.code != 0 && said.stderr.contains("s3://packs/teams/none is not a repository"), "{said:?}");
    let said = bolt.run(["repo", "status", "--repo", "/srv/none", "--bucket-region", "eu-west-1"]);
    assert!(said.code != 0 && said.stderr.contains("are for s3://bucket/prefix"), "{said:?}");
}

#[test]
fn publishers_at_once_lose_nothing() {
    const PUBLISHERS: usize = 6;
    let world = World::with_bucket();
    let pack = |n: usize| {
        PackSource::new(&format!("pack{n}"), "1.0.0").action("a", "bolt: {class: diagnostic}", "#!/bin/sh\n")
    };
    let sources: Vec<PathBuf> = (0..PUBLISHERS).map(|n| pack(n).write(&world.scratch("sources"))).collect();
    // A publisher that died before it came to its end has left what it began with.
    world.bucket().put("bolt/metadata/2.targets.json", "half");
    let said: Vec<_> = std::thread::scope(|scope| {
        let publish = |source: &PathBuf| {
            let bolt = Bolt::new(&world.site.client_config());
            let (source, keys) = (source.display().to_string(), world.site.keys().display().to_string());
            let at = world.repository().display().to_string();
            bolt.run(["repo", "publish", &source, "--repo", &at, "--keys", &keys, "--channel", "prod"])
        };
        let threads: Vec<_> = sources.iter().map(|source| scope.spawn(move || publish(source))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(said.iter().all(|said| said.code == 0), "{said:?}");
    let (_, status) = Bolt::new(&world.site.client_config()).json(["repo", "status", "--repo", &location(&world)]);
    let versions: Vec<&str> =
        status["versions"].as_array().unwrap().iter().filter_map(|v| v["pack"].as_str()).collect();
    let all: Vec<String> = (0..PUBLISHERS).map(|n| format!("pack{n}")).collect();
    assert_eq!(versions, all);
    assert_eq!(status["channels"].as_array().unwrap().len(), PUBLISHERS);
    assert_eq!(world.bucket().versions("bolt/metadata/timestamp.json"), 1 + PUBLISHERS, "each counted once");
    assert_eq!(world.bucket().content("bolt/metadata/2.targets.json").unwrap(), b"half", "nothing was written over");
}

#[test]
fn a_publisher_that_comes_second_begins_again() {
    let world = World::with_bucket();
    let pack = |name: &str| PackSource::new(name, "1.0.0").action("a", "bolt: {class: diagnostic}", "#!/bin/sh\n");
    let proxy = Proxy::before(world.bucket().address());
    // The first one has written everything but the timestamp when the second one begins, and comes to its end.
    proxy.fail("PUT /packs/bolt/metadata/timestamp.json", 1, Fault::Hold);
    let at = bolt_tests::bucket::location(&world.bucket().url("bolt"), &proxy.endpoint());
    let source = pack("first").write(&world.scratch("sources")).display().to_string();
    let keys = world.site.keys().display().to_string();
    let bolt = Bolt::new(&world.site.client_config());
    let arguments = ["repo", "publish", &source, "--repo", &at, "--keys", &keys, "--channel", "prod"];
    let first = bolt.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !proxy.passed().iter().any(|passed| passed.fault == Some(Fault::Hold)) {
        assert!(Instant::now() < deadline, "the first one did not come to its timestamp");
        std::thread::yield_now();
    }
    world.publish(&pack("second"));
    proxy.heal();
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success(), "{first:?}");
    let (_, status) = bolt.json(["repo", "status", "--repo", &location(&world)]);
    let published: Vec<_> = status["versions"].as_array().unwrap().iter().map(|v| v["pack"].clone()).collect();
    assert_eq!(published, ["first", "second"], "nothing was lost");
}

/// `bolt repo rotate-root` for all keys but the root's, through `location`: into `new`, beside the world's own.
fn rotate(world: &World, location: &str, new: &str) -> std::process::Command {
    let keys = world.site.keys().display().to_string();
    let command = ["repo", "rotate-root", "--repo", location, "--keys", &keys, "--new-keys", new, "--plain-keys"];
    let replace = ["targets", "snapshot", "timestamp"].map(|role| ["--replace", role]).concat();
    Bolt::new(&world.site.client_config()).command([&command[..], &replace].concat())
}

/// Publishes a version of the probe pack with `keys`.
fn publish(world: &World, version: &str, keys: &str) -> CommandOutput {
    let source = PackSource::probe().version(version).write(&world.scratch("sources")).display().to_string();
    let command = ["repo", "publish", &source, "--repo", &location(world), "--keys", keys, "--channel", "prod"];
    Bolt::new(&world.site.client_config()).run(command)
}

fn published(world: &World) -> Vec<serde_json::Value> {
    let (code, status) = Bolt::new(&world.site.client_config()).json(["repo", "status", "--repo", &location(world)]);
    assert_eq!(code, 0, "{status}");
    status["versions"].as_array().unwrap().iter().map(|v| v["version"].clone()).collect()
}

/// Before the first of the two new roots, and before the second, when everything is signed with the new keys already.
#[tokio::test]
async fn a_new_root_that_another_publisher_overtakes_takes_its_change_along() {
    for overtaken in ["2.root.json", "3.root.json"] {
        let world = World::with_bucket();
        world.publish(&PackSource::probe());
        let agent = world.agent();
        let operator = world.operator(&agent);
        let proxy = Proxy::before(world.bucket().address());
        proxy.fail(&format!("PUT /packs/bolt/metadata/{overtaken}"), 1, Fault::Hold);
        let at = bolt_tests::bucket::location(&world.bucket().url("bolt"), &proxy.endpoint());
        let (keys, new) = (world.site.keys().display().to_string(), world.path().join("new").display().to_string());
        let rotation = rotate(&world, &at, &new).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let held = || proxy.passed().iter().any(|passed| passed.fault == Some(Fault::Hold));
        until("the new root to be written", async || held()).await;
        world.publish(&PackSource::probe().version("1.1.0"));
        proxy.heal();
        let rotation = rotation.wait_with_output().unwrap();
        assert!(rotation.status.success(), "{rotation:?}");
        let said = publish(&world, "1.2.0", &keys);
        assert!(said.code != 0 && said.stderr.contains("may not sign"), "the old keys are of no use: {said:?}");
        assert_eq!(published(&world), ["1.0.0", "1.1.0"], "nothing was lost");
        let said = publish(&world, "1.2.0", &new);
        assert_eq!(said.code, 0, "{said:?}");
        operator.send(Call::post("/v1/packs/sync", "")).await;
        until("a version under the new root", async || version(&operator).await == "1.2.0").await;
    }
}

/// Wherever its publisher loses the bucket, all goes on with the old keys until it is done again.
#[tokio::test]
async fn a_change_of_keys_that_loses_the_bucket_can_be_done_again() {
    for lost in ["2.root.json", "3.snapshot.json", "timestamp.json", "3.root.json"] {
        let world = World::with_bucket();
        world.publish(&PackSource::probe());
        let agent = world.start(&spec("i-1").set("repository", "poll", "1s"));
        let operator = world.operator(&agent);
        let proxy = Proxy::before(world.bucket().address());
        proxy.fail(&format!("PUT /packs/bolt/metadata/{lost}"), 1, Fault::Status(403, "AccessDenied"));
        let through = bolt_tests::bucket::location(&world.bucket().url("bolt"), &proxy.endpoint());
        let new = |name: &str| world.path().join(name).display().to_string();
        let said = rotate(&world, &through, &new("new")).output().unwrap();
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.code() == Some(5) && text.contains("access is denied"), "{lost}: {said:?}");
        assert_eq!(text.contains("rotate again, with another directory"), lost != "2.root.json", "{text}");

        let keys = world.site.keys().display().to_string();
        assert_eq!(publish(&world, "1.1.0", &keys).code, 0, "{lost}");
        until("a version of the old keys", async || version(&operator).await == "1.1.0").await;
        let said = rotate(&world, &location(&world), &new("newer")).output().unwrap();
        assert!(said.status.success(), "{lost}: {said:?}");
        assert_ne!(publish(&world, "1.2.0", &keys).code, 0, "{lost}");
        assert_eq!(publish(&world, "1.2.0", &new("newer")).code, 0, "{lost}");
        until("a version of the new keys", async || version(&operator).await == "1.2.0").await;
        assert_eq!(published(&world), ["1.0.0", "1.1.0", "1.2.0"]);
    }
}

async fn version(operator: &Operator) -> String {
    packs(operator).await.items[0].version.as_ref().unwrap().to_string()
}

/// Returns the report of an agent that cannot read its repository and has nothing active.
pub(crate) async fn cannot(world: &World, agent: &LocalAgent) -> String {
    let operator = world.operator(agent);
    let failure = packs(&operator).await.sync.unwrap().failure.expect("the poll failed");
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    assert!(health.degraded && health.ready, "{health:?}");
    let log = fs::read_to_string(agent.log()).unwrap();
    assert!(!log.contains("canary-bucket-secret"), "{log}");
    println!("{failure}");
    failure
}

#[tokio::test]
async fn what_is_wrong_with_credentials_and_addresses_is_said() {
    let (world, bucket) = mirrored();
    let at = |id: &str| bucket.follow(spec(id), "bolt");
    let wrong_secret = world.start(&at("i-1").env("AWS_SECRET_ACCESS_KEY", "canary-bucket-secret-of-another"));
    let said = cannot(&world, &wrong_secret).await;
    assert!(said.contains("access is denied") && said.contains("SignatureDoesNotMatch"), "{said}");
    let unknown = world.start(&at("i-2").env("AWS_ACCESS_KEY_ID", "AKIDNOBODY"));
    let said = cannot(&world, &unknown).await;
    assert!(said.contains("access is denied"), "{said}");
    let none = world.start(&at("i-3").env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", ""));
    let said = cannot(&world, &none).await;
    assert!(said.contains("no AWS credentials were found") && !said.contains("Attempted"), "{said}");
    let no_bucket = world.start(&follow(spec("i-4"), "s3://others/bolt", &bucket.endpoint()));
    let said = cannot(&world, &no_bucket).await;
    assert!(said.contains("s3://others/bolt") && said.contains("the bucket does not exist"), "{said}");
    let no_prefix = world.start(&bucket.follow(spec("i-5"), "other"));
    let said = cannot(&world, &no_prefix).await;
    assert!(said.contains("there is no repository at s3://packs/other"), "{said}");
    let profile = world.start(&at("i-6").set("repository", "profile", "nobody"));
    let said = cannot(&world, &profile).await;
    assert!(said.contains("no AWS credentials were found (profile \"nobody\""), "{said}");
}

#[tokio::test]
async fn the_variables_of_the_sync_reach_neither_api_nor_action() {
    let world = World::with_bucket();
    world.publish(&PackSource::probe().action("environment", "bolt: {class: diagnostic}", "#!/bin/sh\nenv\n"));
    let agent = world.agent();
    let ran = world.operator(&agent).run("probe.environment", serde_json::json!({})).await;
    let said = world.operator(&agent).stdout(&ran).await;
    assert!(said.contains("BOLT_ACTION") && !said.contains("AWS_"), "{said}");
    let api = crate::restarts::child(agent.launcher_pid().unwrap(), "api").unwrap();
    let environment = fs::read_to_string(format!("/proc/{api}/environ")).unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("AWS_"), "{environment}");
}

#[tokio::test]
async fn credentials_come_from_the_profile_of_the_instance() {
    let (world, bucket) = mirrored();
    let metadata = Metadata::start();
    let spec = bucket.follow(spec("i-1"), "bolt").env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
    let spec = spec.env("AWS_EC2_METADATA_DISABLED", "false");
    // A proxy that cannot be reached: the metadata service is never asked through one.
    let spec =
        spec.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.endpoint()).env("HTTP_PROXY", "http://127.0.0.1:1");
    let agent = world.start(&spec);
    let operator = world.operator(&agent);
    let list = packs(&operator).await;
    assert_eq!(list.items.len(), 1, "{list:?}");
    let asked = metadata.asked();
    assert_eq!(asked.first().map(String::as_str), Some("PUT /latest/api/token"), "{asked:?}");
    assert!(asked.iter().all(|line| line.starts_with("PUT") || line.ends_with("with a token")), "{asked:?}");
}

#[tokio::test]
async fn a_bucket_is_reached_through_a_proxy() {
    let (world, bucket) = mirrored();
    let proxy = Proxy::before(bucket.address());
    let spec = follow(spec("i-1"), &bucket.url("bolt"), "http://bucket.invalid");
    let spec = spec.set("repository", "allow_http", true);
    let agent = world.start(&spec.clone().env("HTTP_PROXY", &proxy.endpoint()));
    let operator = world.operator(&agent);
    assert_eq!(packs(&operator).await.items.len(), 1);
    let passed = proxy.passed();
    assert!(
        passed.len() > 3 && passed.iter().all(|p| p.path.starts_with("http://bucket.invalid/packs/")),
        "{passed:?}"
    );
    let mut other = spec.env("HTTP_PROXY", &proxy.endpoint()).env("NO_PROXY", "bucket.invalid");
    other.facts.id = packs_schema::base::name::InstanceId::new("i-2").unwrap();
    let agent = world.start(&other.set("repository", "timeout", "1s"));
    let said = cannot(&world, &agent).await;
    // A resolver may take longer than the time-out to say that there is no such host.
    let expected = ["bucket.invalid", "lookup", "no answer within the time-out"];
    assert!(expected.iter().any(|text| said.contains(text)), "{said}");
    assert_eq!(proxy.passed().len(), passed.len(), "NO_PROXY counts");
}

#[tokio::test]
async fn a_pack_of_50_mb_is_never_held_in_memory() {
    let world = World::with_bucket();
    world.publish_large();
    let agent = world.agent();
    let operator = world.operator(&agent);
    assert_eq!(packs(&operator).await.items.len(), 1, "{:?}", agent.sync_status());
    let peak_kb = sync_peak_kb(&agent).expect("it says so");
    println!("a sync with a pack of 50 MB from a bucket: {peak_kb} kB at most");
    assert!(peak_kb <= 32 << 10, "{peak_kb} kB");
}

/// The listing shows presence and length of archives; `--verify` reads them as well.
#[test]
fn archives_in_a_bucket_are_checked() {
    let world = World::with_bucket();
    world.publish(&PackSource::probe());
    let bolt = world.bolt(&[]);
    let location = location(&world);
    let status = |more: &[&str]| bolt.run([&["repo", "status", "--repo", &location], more].concat());
    let keys = world.bucket().keys("bolt/targets/");
    let key = keys.into_iter().find(|key| key.ends_with(".tar.gz")).unwrap();
    let good = world.bucket().content(&key).unwrap();
    let promote = || {
        let keys = world.site.keys().display().to_string();
        bolt.run([
            "repo",
            "promote",
            "probe",
            "--from",
            "prod",
            "--to",
            "test",
            "--new-channel",
            "--repo",
            &location,
            "--keys",
            &keys,
        ])
    };
    assert_eq!(status(&["--verify"]).code, 0);
    let mut changed = good.clone();
    changed[20] ^= 1;
    for (bytes, plain, said) in [
        (None, 1, "it is missing"),
        (Some(good[..100].to_vec()), 1, "it has 100 bytes instead of the"),
        (Some(changed), 0, "its bytes are not those that were signed"),
    ] {
        match bytes {
            None => world.bucket().remove(&key),
            Some(bytes) => world.bucket().put(&key, bytes),
        }
        let listed = status(&[]);
        assert_eq!(listed.code, plain, "{listed:?}");
        let read = status(&["--verify"]);
        assert!(read.code == 1 && read.stderr.contains(said), "{read:?}");
        assert!(read.stderr.contains("publish it again") && read.stderr.contains("bolt repo rollback"), "{read:?}");
        let promoted = promote();
        assert!(promoted.code == 5 && promoted.stderr.contains(said), "{promoted:?}");
    }
    world.bucket().put(&key, good);
    assert_eq!(status(&["--verify"]).code, 0);
    assert_eq!(promote().code, 0);

    // Not to be able to list is neither good nor "all missing".
    world.bucket().deny_listings(true);
    let denied = status(&[]);
    assert!(denied.code == 1 && denied.stderr.contains("the archives could not be listed"), "{denied:?}");
    assert!(!denied.stderr.contains("is unusable"), "{denied:?}");
    assert!(denied.stdout.contains("channel    prod: probe 1.0.0"), "{denied:?}");
}
