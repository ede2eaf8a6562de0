//! Cost of a poll when little changed: requests depend on the changes, not on the size of the repository.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bolt_client::local::LocalAgent;
use bolt_tests::bucket::{Bucket, Traffic};
use bolt_tests::http::Call;
use bolt_tests::{Bolt, PackSource, World, spec};

use crate::calls::until;

/// Damage to a cached file.
type Damage = fn(&[u8]) -> Vec<u8>;

/// Packs in the repository of which one changes.
const PACKS: usize = 20;

fn pack(number: usize, version: &str) -> PackSource {
    PackSource::new(&format!("pack{number}"), version).action("a", "bolt: {class: diagnostic}", "#!/bin/sh\n")
}

/// A bucket with so many packs, and an agent that has them all and polls when it is asked.
async fn followed() -> (World, Bucket, LocalAgent) {
    let (world, bucket) = (World::empty(), Bucket::start());
    for number in 0..PACKS {
        world.publish(&pack(number, "1.0.0"));
    }
    bucket.mirror(&world.site.repository(), "bolt");
    let agent = world.start(&bucket.follow(spec("i-1"), "bolt").set("repository", "poll", "1h"));
    until("the first poll", async || !end(&agent).is_empty()).await;
    assert_eq!(agent.sync_status().unwrap().failure, None);
    (world, bucket, agent)
}

/// Returns the launcher's record of the last poll.
fn end(agent: &LocalAgent) -> Vec<u8> {
    fs::read(agent.directory().join("run/sync.json")).unwrap_or_default()
}

/// Asks for a poll, and gives what it cost; it must succeed.
async fn poll(world: &World, bucket: &Bucket, agent: &LocalAgent) -> Traffic {
    let operator = world.operator(agent);
    let (last, mark) = (end(agent), bucket.mark());
    operator.send(Call::post("/v1/packs/sync", "")).await;
    until("the end of the poll", async || end(agent) != last).await;
    let status = agent.sync_status().unwrap();
    assert!(status.failure.is_none() && status.failed.is_empty(), "{status:?}");
    bucket.since(mark)
}

fn current(agent: &LocalAgent, number: usize) -> String {
    let link = fs::read_link(agent.directory().join(format!("packs/pack{number}/current"))).unwrap();
    link.display().to_string()
}

fn cached(agent: &LocalAgent) -> Vec<PathBuf> {
    let entries = fs::read_dir(agent.directory().join("packs/.tuf/cache")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_poll_fetches_what_changed_and_nothing_else() {
    let (world, bucket, agent) = followed().await;
    let idle = poll(&world, &bucket, &agent).await;
    let asked: Vec<(u16, bool)> = idle.requests.iter().map(|r| (r.status, r.path.contains("root.json"))).collect();
    assert_eq!(asked, [(304, false), (404, true)], "asked for, with nothing new: {idle:?}");
    assert!(idle.bytes_in + idle.bytes_out <= 2048, "{idle:?}");
    world.publish(&pack(3, "1.1.0"));
    bucket.mirror(&world.site.repository(), "bolt");
    let changed = poll(&world, &bucket, &agent).await;
    assert!(current(&agent, 3).starts_with("1.1.0-"), "{changed:?}");
    // Timestamp, the question for a root, snapshot, targets, channel file, archive.
    assert_eq!(changed.requests.len(), 6, "{changed:?}");
    // Replaced files are not kept: timestamp, snapshot, targets, and a channel file for each pack.
    assert_eq!(cached(&agent).len(), 3 + PACKS);
    let idle = poll(&world, &bucket, &agent).await;
    assert_eq!(idle.requests.len(), 2, "{idle:?}");
}

#[tokio::test]
async fn what_is_cached_is_verified_as_if_it_had_been_fetched() {
    let (world, bucket, agent) = followed().await;
    let whole: Vec<(PathBuf, Vec<u8>)> =
        cached(&agent).into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
    assert_eq!(whole.len(), 3 + PACKS);
    let damages: [Damage; 4] = [
        |_| Vec::new(),
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        |bytes| String::from_utf8_lossy(bytes).replace("1.0.0", "6.6.6").into_bytes(),
        |bytes| [bytes, b" "].concat(),
    ];
    for damage in damages {
        for (path, bytes) in &whole {
            fs::write(path, damage(bytes)).unwrap();
        }
        poll(&world, &bucket, &agent).await;
        for (path, bytes) in &whole {
            assert!(fs::read(path).unwrap() == *bytes, "{} was not fetched again", path.display());
        }
        assert!(current(&agent, 0).starts_with("1.0.0-"));
    }
    // A file in the place of another, and a directory in the place of a file.
    fs::copy(&whole[0].0, &whole[1].0).unwrap();
    fs::remove_file(&whole[2].0).unwrap();
    fs::create_dir(&whole[2].0).unwrap();
    poll(&world, &bucket, &agent).await;
    world.publish(&pack(0, "1.1.0"));
    bucket.mirror(&world.site.repository(), "bolt");
    poll(&world, &bucket, &agent).await;
    assert!(current(&agent, 0).starts_with("1.1.0-"));
}

#[tokio::test]
async fn a_repository_of_the_format_before_is_followed_and_published_to() {
    let world = World::empty();
    let archive = fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/repository-format-1.tar.gz")).unwrap();
    let old = world.scratch("old");
    tar::Archive::new(flate2::read::GzDecoder::new(archive)).unpack(&old).unwrap();
    let bucket = Bucket::start();
    bucket.mirror(&old.join("repo"), "old");
    let root = old.join("repo/metadata/1.root.json").display().to_string();
    let agent = world.start(&bucket.follow(spec("i-1"), "old").set("repository", "root", root.as_str()));
    let version = |agent: &LocalAgent, pack: &str| {
        let link = fs::read_link(agent.directory().join("packs").join(pack).join("current")).ok()?;
        link.display().to_string().split_once('-').map(|(version, _)| version.to_owned())
    };
    until("the first poll", async || !end(&agent).is_empty()).await;
    assert_eq!(version(&agent, "small").as_deref(), Some("1.55.0"), "{:?}", agent.sync_status());
    let at = old.join("repo").display().to_string();
    let keys = old.join("keys").display().to_string();
    let command = ["repo", "rollback", "small", "--channel", "prod", "--repo", &at, "--keys", &keys, "--root", &root];
    let said = Bolt::new(&world.site.client_config()).run(command);
    assert_eq!(said.code, 0, "{said:?}");
    bucket.mirror(&old.join("repo"), "old");
    poll(&world, &bucket, &agent).await;
    assert_eq!(version(&agent, "small").as_deref(), Some("1.45.0"), "{:?}", agent.sync_status());
}

#[tokio::test]
async fn a_bucket_that_is_pruned_serves_agents_as_before() {
    let world = World::with_bucket();
    for minor in 0..9 {
        world.publish(&pack(0, &format!("1.{minor}.0")));
    }
    let agent = world.start(&spec("i-1").set("repository", "poll", "1h"));
    until("the first poll", async || !end(&agent).is_empty()).await;
    let (at, keys) = (world.repository().display().to_string(), world.site.keys().display().to_string());
    let prune = |more: &[&str]| {
        let command = ["repo", "prune", "--repo", &at, "--keys", &keys, "--keep-versions", "2", "--older-than", "1ms"];
        let (code, said) = world.bolt(&[&agent]).json([&command[..], more].concat());
        assert_eq!(code, 0, "{said}");
        said
    };
    world.bucket().age(Duration::from_secs(3 * 86_400));
    let dry = prune(&["--dry-run", "--reached"]);
    let keys_before = world.bucket().keys("bolt/");
    assert_eq!((dry["dry_run"].as_bool(), dry["versions"].as_array().unwrap().len()), (Some(true), 6), "{dry}");
    let pruned = prune(&["--reached"]);
    assert_eq!(pruned["versions"], dry["versions"]);
    let gone: Vec<&str> = pruned["files"].as_array().unwrap().iter().filter_map(|file| file.as_str()).collect();
    assert!(gone.iter().any(|file| file.starts_with("metadata/")), "{gone:?}");
    let left = world.bucket().keys("bolt/");
    assert!(gone.iter().all(|file| !left.contains(&format!("bolt/{file}"))));
    // Only the prune's own state is new, and what stood before it is whole.
    assert!(left.len() < keys_before.len(), "{left:?}");
    assert!(left.iter().any(|key| key.contains("packs/pack0/1.0.0")), "an agent in a poll may be reading it");
    let idle = poll(&world, world.bucket(), &agent).await;
    assert!(idle.requests.iter().all(|asked| asked.status < 500), "{idle:?}");
    for _ in 0..2 {
        let refreshed = world.bolt(&[]).run(["repo", "refresh", "--repo", &at, "--keys", &keys]);
        assert_eq!(refreshed.code, 0, "{refreshed:?}");
        world.bucket().age(Duration::from_secs(3 * 86_400));
        world.publish(&pack(1, &format!("1.{}.0", world.bucket().versions("bolt/metadata/timestamp.json"))));
        world.bucket().age(Duration::from_secs(3 * 86_400));
    }
    prune(&[]);
    let left = world.bucket().keys("bolt/");
    assert!(!left.iter().any(|key| key.contains("packs/pack0/1.0.0")), "{left:?}");
    let fresh = world.start(&spec("i-2"));
    until("its first poll", async || !end(&fresh).is_empty()).await;
    assert!(current(&fresh, 0).starts_with("1.8.0-"), "{:?}", fresh.sync_status());
    world.bolt(&[]).run(["repo", "rollback", "pack0", "--channel", "prod", "--repo", &at, "--keys", &keys]);
    poll(&world, world.bucket(), &fresh).await;
    assert!(current(&fresh, 0).starts_with("1.7.0-"), "{:?}", fresh.sync_status());
    // An agent that does not answer may run anything.
    drop(agent);
    let command =
        ["repo", "prune", "--repo", &at, "--keys", &keys, "--keep-versions", "1", "--older-than", "1ms", "--reached"];
    let said = world.bolt(&[&fresh]).run(command);
    assert_eq!(said.code, 0, "{said:?}");
    let offline = world.bolt(&[&fresh]);
    drop(fresh);
    let said = offline.run(command);
    assert!(said.code == 1 && said.stderr.contains("nothing was removed"), "{said:?}");
}
