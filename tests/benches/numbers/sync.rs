//! Cost of polls of a bucket: an idle poll, the time from a publish to an active pack, and the memory for a large pack.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bolt_client::local::LocalAgent;
use bolt_tests::{PackSource, World, spec, sync_peak_kb};

/// Number of idle polls measured.
const IDLE: usize = 10;
/// Number of publications timed.
const PUBLISHES: u32 = 10;
/// Deadline of every step.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints what polls cost.
pub(crate) fn print() {
    print_idle();
    let world = World::empty();
    world.publish_large();
    println!("{}", peak("a sync with a pack of 50 MB from a directory, at most", &world.agent()));
    let world = World::with_bucket();
    world.publish_large();
    println!("{}", peak("a sync with a pack of 50 MB from a bucket, at most", &world.agent()));
    let attacks = passed(&["sync::tests::attacks", "sync::tests::delegates"]);
    println!("{:<58} {attacks:>9}      tests", "attacks on a repository, what is active untouched");
}

/// Returns the number of the agent's tests below these modules that pass; `-` if some fail, or cargo is missing.
fn passed(modules: &[&str]) -> String {
    let Some(cargo) = std::env::var_os("CARGO") else { return "-".to_owned() };
    let mut tests = Command::new(cargo);
    tests.args(["test", "--quiet", "-p", "bolt-agent", "--lib", "--"]).args(modules);
    let output = tests.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next());
    line.filter(|_| output.status.success()).unwrap_or("-").to_owned()
}

fn print_idle() {
    let world = World::with_bucket();
    let pack = |n: u32| {
        PackSource::new("small", &format!("1.{n}.0")).action("a", "bolt: {class: diagnostic}", "#!/bin/true\n")
    };
    world.publish(&pack(0));
    let agent = world.start(&spec("i-1").set("repository", "poll", "100ms"));
    // A poll has ended when the launcher notes another one; the next begins a while later, so the marks lie between polls.
    let end = || fs::read(agent.directory().join("run/sync.json")).unwrap_or_default();
    let next = |last: Vec<u8>| {
        until(|| end() != last && !end().is_empty());
        end()
    };
    let mut last = next(Vec::new());
    let mark = world.bucket().mark();
    for _ in 0..IDLE {
        last = next(last);
    }
    let traffic = world.bucket().since(mark);
    assert!(traffic.requests.iter().all(|asked| asked.status == 304), "{traffic:?}");
    let requests = traffic.requests.len() as f64 / IDLE as f64;
    let bytes = (traffic.bytes_in + traffic.bytes_out) / IDLE as u64;
    println!("{:<58} {requests:>9.1}      (target 1)", "a poll with nothing new, requests");
    println!(
        "{:<58} {bytes:>9} B    (target <= 2048; TLS would add its handshake)",
        "a poll with nothing new, both ways"
    );

    let (at, keys) = (world.repository().display().to_string(), world.site.keys().display().to_string());
    let repo = |command: &[&str]| {
        let said = world.bolt(&[]).run([&["repo"], command, &["--repo", &at, "--keys", &keys]].concat());
        assert_eq!(said.code, 0, "{said:?}");
    };
    let mut times: Vec<Duration> = (1..=PUBLISHES)
        .map(|n| {
            let version = format!("1.{n}.0-");
            let source = pack(n).write(&world.scratch("sources")).display().to_string();
            repo(&["publish", &source, "--channel", "test"]);
            let since = Instant::now();
            repo(&["promote", "small", "--from", "test", "--to", "prod", "--new-channel"]);
            until(|| current(&agent).starts_with(&version));
            since.elapsed()
        })
        .collect();
    times.sort_unstable();
    let p50 = times[times.len() / 2].as_millis();
    println!(
        "{:<58} {p50:>9} ms   (p50; polls every 100 ms; of 2m: 2m24s more)",
        "from `bolt repo promote` to active, through a bucket"
    );
}

/// Prints the row with the figures that the sync reports about itself.
fn peak(name: &str, agent: &LocalAgent) -> String {
    let peak = sync_peak_kb(agent).map_or_else(|| "-".to_owned(), |peak| peak.to_string());
    format!("{name:<58} {peak:>9} kB   (target <= 32768)")
}

fn current(agent: &LocalAgent) -> String {
    let link = fs::read_link(agent.directory().join("packs/small/current")).unwrap_or_default();
    Path::new(&link).display().to_string()
}

fn until(mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !probe() {
        assert!(Instant::now() < deadline, "it did not come true within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
