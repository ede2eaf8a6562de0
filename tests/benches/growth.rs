//! Cost of a growing repository: requests and bytes of an agent's polls at 10, 100, 1,000 and 5,000 published versions, of
//! one change among 200 packs, and the objects and bytes that publishing leaves behind.
//!
//! ```text
//! cargo bench -p bolt-tests --bench growth                 everything
//! cargo bench -p bolt-tests --bench growth -- 100 20 50    up to 100 versions, 20 packs, 50 publications
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bolt_client::local::LocalAgent;
use bolt_client::repo::{PublishOptions, publish};
use bolt_tests::bucket::Traffic;
use bolt_tests::{Bucket, PackSource, World, spec};
use packs_schema::base::name::ChannelName;

/// The numbers of versions at which polls are measured.
const LEVELS: [u32; 4] = [10, 100, 1_000, 5_000];
/// Packs in the repository of which one changes.
const PACKS: u32 = 200;
/// Publications after which the repository is weighed.
const PUBLICATIONS: u32 = 508;
/// Deadline of every step.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u32>().ok());
    let most = numbers.next().unwrap_or(5_000);
    let packs = numbers.next().unwrap_or(PACKS);
    let publications = numbers.next().unwrap_or(PUBLICATIONS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("{:<62} {:>9} {:>12}", "", "requests", "bytes");
    print_versions(&runtime, most);
    print_packs(&runtime, packs);
    print_publications(publications);
}

/// Measures one pack with a growing number of versions.
fn print_versions(runtime: &tokio::runtime::Runtime, most: u32) {
    let (world, bucket) = (World::empty(), Bucket::start());
    let mut published = 0;
    for level in LEVELS.into_iter().filter(|level| *level <= most) {
        while published < level {
            published += 1;
            release(&world, "small", &format!("1.{published}.0"));
            remove_superseded(&world.site.repository());
        }
        bucket.mirror(&world.site.repository(), "bolt");
        let mark = bucket.mark();
        let polled = Polled::start(&world, &bucket, &format!("i-{level}"));
        row(&format!("{level} versions: first poll"), &bucket.since(mark));
        row(&format!("{level} versions: poll asked for, nothing new"), &polled.ask(runtime, &world, &bucket));
        published += 1;
        release(&world, "small", &format!("1.{published}.0"));
        bucket.mirror(&world.site.repository(), "bolt");
        row(&format!("{level} versions: poll after one publication"), &polled.ask(runtime, &world, &bucket));
    }
}

/// Many packs, one of which changes.
fn print_packs(runtime: &tokio::runtime::Runtime, packs: u32) {
    let (world, bucket) = (World::empty(), Bucket::start());
    for number in 0..packs {
        release(&world, &format!("pack{number}"), "1.0.0");
        remove_superseded(&world.site.repository());
    }
    bucket.mirror(&world.site.repository(), "bolt");
    let mark = bucket.mark();
    let polled = Polled::start(&world, &bucket, "i-1");
    row(&format!("{packs} packs: first poll"), &bucket.since(mark));
    row(&format!("{packs} packs: poll asked for, nothing new"), &polled.ask(runtime, &world, &bucket));
    release(&world, "pack1", "1.1.0");
    bucket.mirror(&world.site.repository(), "bolt");
    row(&format!("{packs} packs: poll after one of them changed"), &polled.ask(runtime, &world, &bucket));
}

/// Publications of ten packs in turn, and what lies in the repository then.
fn print_publications(publications: u32) {
    let world = World::empty();
    for number in 0..publications {
        release(&world, &format!("pack{}", number % 10), &format!("1.{number}.0"));
    }
    weigh(&format!("{publications} publications of 10 packs: the repository, objects"), &world.site.repository());
}

fn weigh(name: &str, repository: &Path) {
    let files = files(repository);
    let bytes: u64 = files.iter().map(|path| fs::metadata(path).map_or(0, |meta| meta.len())).sum();
    println!("{name:<62} {:>9} {bytes:>12}", files.len());
}

/// Publishes a version of a small pack to `prod`.
fn release(world: &World, name: &str, version: &str) {
    let pack = PackSource::new(name, version).action("a", "bolt: {class: diagnostic}", "#!/bin/true\n");
    let directory = pack.write(&world.scratch("sources"));
    let prod = ChannelName::new("prod").expect("a valid name");
    let options = PublishOptions::new(&directory, world.site.repository(), world.site.keys(), vec![prod]);
    publish(&options).expect("the pack can be published");
    drop(fs::remove_dir_all(directory));
}

/// Removes metadata and parts of the journal that newer ones of the same name replaced, so that a long run fits on the disk.
fn remove_superseded(repository: &Path) {
    let mut newest: BTreeMap<String, (u64, PathBuf)> = BTreeMap::new();
    for path in files(&repository.join("metadata")).into_iter().chain(files(&repository.join("targets/log"))) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((number, rest)) = name.split_once('.') else { continue };
        if rest == "root.json" || !rest.contains('.') {
            continue;
        }
        let modified = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        let modified = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        let age = number.parse().unwrap_or(modified.as_nanos() as u64);
        let rest = format!("{}/{rest}", path.parent().unwrap_or(&path).display());
        match newest.get(&rest) {
            Some((other, _)) if *other > age => drop(fs::remove_file(&path)),
            _ => {
                if let Some((_, old)) = newest.insert(rest, (age, path)) {
                    drop(fs::remove_file(old));
                }
            }
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.retain(|path| path.file_name().is_some_and(|name| name != ".lock"));
    found
}

fn row(name: &str, traffic: &Traffic) {
    println!("{name:<62} {:>9} {:>12}", traffic.requests.len(), traffic.bytes_in + traffic.bytes_out);
    if std::env::var_os("BOLT_GROWTH_REQUESTS").is_some() {
        for asked in traffic.requests.iter().take(12) {
            println!("    {} {} {}", asked.status, asked.method, asked.path);
        }
    }
}

/// An agent that polls when it is asked.
struct Polled {
    agent: LocalAgent,
}

impl Polled {
    fn start(world: &World, bucket: &Bucket, id: &str) -> Polled {
        let agent = world.start(&bucket.follow(spec(id).set("repository", "poll", "1h"), "bolt"));
        let polled = Polled { agent };
        until(|| !polled.end().is_empty());
        polled.check();
        polled
    }

    /// Returns the launcher's record of the last poll.
    fn end(&self) -> Vec<u8> {
        fs::read(self.agent.directory().join("run/sync.json")).unwrap_or_default()
    }

    fn ask(&self, runtime: &tokio::runtime::Runtime, world: &World, bucket: &Bucket) -> Traffic {
        let (last, mark) = (self.end(), bucket.mark());
        let client = world.client(&self.agent);
        runtime.block_on(client.sync()).expect("it can be asked");
        drop(client);
        until(|| self.end() != last);
        self.check();
        bucket.since(mark)
    }

    fn check(&self) {
        let status = self.agent.sync_status().expect("there was a poll");
        assert!(status.failure.is_none() && status.failed.is_empty(), "{status:?}");
    }
}

fn until(mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !probe() {
        assert!(Instant::now() < deadline, "it did not come true within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
