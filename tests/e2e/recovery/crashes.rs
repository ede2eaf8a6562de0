//! The api and the launcher are killed again and again while callers go on: a small fault harness.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bolt_client::local::{Caller, LocalAgent};
use bolt_tests::http::{Call, send};
use bolt_tests::{Random, World, is_root, skip, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Execution, Page};
use packs_schema::base::name::ExecutionId;
use serde_json::json;

use super::{Ledger, ends};
use crate::calls::{run, until};
use crate::restarts::child;

/// Number of executions requested.
const ASKED: usize = 40;
/// Number of kills.
const KILLS: usize = 6;
/// The seed, unless `BOLT_TEST_SEED` gives another.
const SEED: u64 = 0x5eed_0042;

/// Retries with the same idempotency key until the execution is accepted.
async fn ask(address: SocketAddr, operator: &Caller, key: &str) -> ExecutionId {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let call = Call::post("/v1/executions", run("probe.linger", json!({}))).header("idempotency-key", key);
        match send(address, Some(operator), call).await {
            Ok(answer) if answer.status.is_success() => return answer.json::<Execution>().id,
            Ok(answer) => assert!(answer.status == 503 || answer.status == 409, "{}", answer.text()),
            Err(_) => {}
        }
        assert!(Instant::now() < until, "{key} was never accepted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Kills the api, or now and then the launcher, at moments that the seed chooses.
async fn havoc(agent: &mut LocalAgent, random: &mut Random, operator: &Caller, address: SocketAddr) {
    for round in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.below(300))).await;
        let launcher = agent.launcher_pid().unwrap();
        if round % 3 == 2 {
            agent.kill_launcher();
            agent.launch().unwrap();
        } else if let Some(api) = child(launcher, "api") {
            let _ = kill(Pid::from_raw(api), Signal::SIGKILL);
        }
        // Every second kill comes before the next api is up.
        if random.below(2) == 0 {
            until("the api", async || send(address, Some(operator), Call::get("/v1/health")).await.is_ok()).await;
        }
    }
}

#[tokio::test]
async fn every_accepted_execution_ends_once_and_runs_at_most_once() {
    let seed = std::env::var("BOLT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(SEED);
    println!("BOLT_TEST_SEED={seed}");
    let world = World::empty();
    let ledger = Ledger::new(&world);
    world.publish(&ledger.pack());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = spec("i-1").set("api", "listen", free.to_string()).set("execution", "max_running", 2);
    let mut agent = world.start(&settings.set("execution", "max_queued", 500));
    let address = agent.address();
    let operator = world.site.operator();
    let asking = async {
        let mut accepted = BTreeMap::new();
        for n in 0..ASKED {
            let key = format!("key-{n}");
            let id = ask(address, &operator, &key).await;
            accepted.insert(id, key);
        }
        accepted
    };
    let mut random = Random::new(seed);
    let (accepted, ()) = tokio::join!(asking, havoc(&mut agent, &mut random, &operator, address));
    assert_eq!(accepted.len(), ASKED, "each key stands for one execution");
    until("the api", async || send(address, Some(&operator), Call::get("/v1/health")).await.is_ok()).await;
    let mut all = Vec::new();
    until("all ends", async || {
        let answer = send(address, Some(&operator), Call::get("/v1/executions?limit=200")).await.unwrap();
        all = answer.json::<Page<Execution>>().items;
        all.iter().all(|execution| execution.state.is_terminal())
    })
    .await;
    for end in &all {
        let ran = ledger.count(&end.id);
        assert_eq!(ran, usize::from(end.state == State::Succeeded), "seed {seed}: it ran {ran} times: {end:?}");
    }
    for (id, key) in accepted.iter().step_by(7) {
        assert_eq!(ask(address, &operator, key).await, *id, "seed {seed}: the key stands for it ever after");
    }
    let ends = ends(&world.operator(&agent)).await;
    assert!(ends.values().all(|states| states.len() == 1), "seed {seed}: {ends:?}");
    assert!(accepted.keys().all(|id| ends.contains_key(id)));
    let succeeded = all.iter().filter(|end| end.state == State::Succeeded).count();
    assert_eq!((all.len(), ledger.lines().len()), (ASKED, succeeded), "seed {seed}: nothing ran that nobody asked for");
}

/// Takes a copy of the descriptor that holds the lock, kills the shim, and closes the lock file while it is still held.
/// Releases it, without closing it, when a line comes.
const HOLDER: &str = r#"
import ctypes, fcntl, glob, os, select, signal, sys
lock, pidfd_getfd = sys.argv[1], 438
def holder():
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(path) == lock:
                return int(path.split("/")[2]), int(path.split("/")[4])
        except OSError:
            pass
pid, descriptor = holder()
process = os.pidfd_open(pid)
copy = ctypes.CDLL(None, use_errno=True).syscall(pidfd_getfd, process, descriptor, 0)
assert copy >= 0, os.strerror(ctypes.get_errno())
os.kill(pid, signal.SIGKILL)
select.select([process], [], [], 60)
open(lock, "r+").close()
print("closed", flush=True)
sys.stdin.readline()
fcntl.flock(copy, fcntl.LOCK_UN)
print("released", flush=True)
sys.stdin.readline()
"#;

/// The kernel reports the last close of a lock file before it releases the lock: an api that checks in between must check again.
#[tokio::test]
async fn a_lock_that_is_released_after_its_last_close_was_told_ends_its_execution() {
    if !is_root() {
        skip(
            "a_lock_that_is_released_after_its_last_close_was_told_ends_its_execution",
            "another process's descriptor needs root",
        );
        return;
    }
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let execution = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&execution).await;
    let lock = agent.state().join("exec").join(execution.id.as_str()).join("lock");
    let mut holder = std::process::Command::new("/usr/bin/python3");
    holder.arg("-c").arg(HOLDER).arg(&lock).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let mut said = std::io::BufReader::new(holder.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "closed");
    // When it answers, the api has seen that the lock is held.
    let path = format!("/v1/executions/{}", execution.id);
    for _ in 0..3 {
        let now: Execution = operator.send(Call::get(&path)).await.json();
        assert_eq!(now.state, State::Running);
    }
    holder.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "released");
    assert_eq!(operator.wait(&execution).await.state, State::Lost);
    drop(holder.stdin.take());
    holder.wait().unwrap();
}
