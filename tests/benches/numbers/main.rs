//! The numbers that the README states, beside what a user would otherwise use and beside the machine's own floor,
//! all measured in one run:
//!
//! ```text
//! cargo bench -p bolt-tests --bench numbers
//! cargo bench -p bolt-tests --bench numbers -- memory     only memory, handshakes and syncs
//! cargo bench -p bolt-tests --bench numbers -- warm       only one action, its rate and its phases
//! cargo bench -p bolt-tests --bench numbers -- machine    the same on a machine that is booted in QEMU, with cgroup v2
//! ```
//!
//! Builds the programs first, as optimised as benchmarks are: profile `bench`, whose output directory is that of `release`. The rows
//! for `ssh` need `sshd` (Debian: openssh-server) and root, and say so when they cannot be measured.

mod command;
mod disk;
mod handshakes;
mod memory;
mod nrpe;
mod phases;
mod rate;
mod sync;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bolt_client::connection::Agent;
use bolt_client::inventory::Inventory;
use bolt_client::local::LocalAgent;
use bolt_client::tls::Identity;
use bolt_tests::{PackSource, World, fan_out, machine, order, place, spec, ssh};
use packs_schema::agent::execution::State;

/// Script that is run everywhere: does nothing.
const NOTHING: &str = "#!/bin/true\n";
/// Runs before the clock counts.
const WARM_UP: usize = 20;

fn main() {
    bolt_tests::bench_binaries();
    let only = std::env::args().find(|argument| matches!(argument.as_str(), "memory" | "warm" | "machine"));
    if only.as_deref() == Some("machine") {
        return print_machine();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let world = World::empty();
    let sleep = "bolt: {class: diagnostic, grace: 100ms}";
    let pack = PackSource::new("bench", "1.0.0").action("nothing", "bolt: {class: diagnostic}", NOTHING).action(
        "sleep",
        sleep,
        "#!/bin/sh\nexec sleep 600\n",
    );
    world.publish(&pack);
    let (agent, _runtime_directory) = place::start(&world, &spec("i-1").set("execution", "max_running", 64));
    let caller = Caller::new(&world, &agent);

    if only.as_deref() != Some("warm") {
        print_rest(&world, &runtime, &caller, &agent);
    }
    if only.as_deref() == Some("memory") {
        return disk::print(&world.scratch("commits"));
    }
    let program = script(&world);
    println!("\n{:<44} {:>10} {:>10} {:>9}", "one action that does nothing, ms", "p50", "p99", "runs");
    let floor = row("fork + exec + wait", 400, || run_here(&program));
    let file = world.path().join("fsync");
    let synced = row("fork + exec + wait, and one fsync", 400, || run_here(&program).and_then(|()| sync_one(&file)));
    disk::print(&world.scratch("commits"));
    let (warm, new) = {
        let agent = caller.agent();
        rows(
            ["bolt: POST ?wait, warm connection", "bolt: POST ?wait, new connection"],
            400,
            [&mut || runtime.block_on(Caller::try_nothing(&agent)), &mut || {
                runtime.block_on(Caller::try_nothing(&caller.agent()))
            }],
        )
    };
    let in_one =
        |warm: Duration| ratio("bolt warm / (fork+exec+wait and one fsync)", Some(warm), Some(synced), "<= 2.2");
    if only.as_deref() == Some("warm") {
        rate::print(&runtime, &caller);
        phases::print(&runtime, &caller, &world);
        println!();
        return in_one(warm);
    }
    let command = command::print(&world);

    let stock = with_sshd(&world, false, |sshd| row("ssh, new connection, stock sshd", 20, || sshd.run_new(&program)));
    let tuned = with_sshd(&world, true, |sshd| row("ssh, new connection, tuned sshd", 20, || sshd.run_new(&program)));
    let master = with_sshd(&world, true, |sshd| {
        let master = sshd.master().expect("a master connection");
        row("ssh, warm ControlMaster, tuned sshd", 100, || master.run(&program))
    });

    rate::print(&runtime, &caller);
    phases::print(&runtime, &caller, &world);

    fan_out::print_agents(fan_out::AGENTS);

    println!();
    sync::print();

    println!("\n{:<58} {:>8} {:>8}", "ratios of p50", "", "target");
    in_one(warm);
    ratio("bolt warm / fork+exec+wait", Some(warm), Some(floor), "");
    ratio("ssh warm ControlMaster / bolt warm", master, Some(warm), ">= 4");
    ratio("ssh new, tuned / bolt new connection", tuned, Some(new), ">= 30");
    ratio("ssh new, stock / bolt new connection", stock, Some(new), ">= 65");
    ratio("bolt run, whole command / bolt new connection", Some(command), Some(new), "");
}

/// Runs this program with `warm` on a booted machine, and prints what it printed there.
fn print_machine() {
    let run = || machine::numbers(&machine::image()?, &std::env::current_exe().map_err(|e| e.to_string())?);
    match run() {
        Ok(output) => println!("on a booted machine, emulated, with cgroup v2\n{output}"),
        Err(why) => println!("SKIPPED the booted machine: {why}"),
    }
}

fn print_rest(world: &World, runtime: &tokio::runtime::Runtime, caller: &Caller, agent: &LocalAgent) {
    println!("\n{:<58} {:>12}", "at rest", "");
    runtime.block_on(caller.wait_nothing(&caller.agent()));
    memory::wait_until_trimmed();
    memory::print_rest(agent);
    let sshd = tempfile::Builder::new().prefix("sshd-").tempdir_in(world.path()).expect("a directory");
    let sshd = ssh::Sshd::start(sshd.path(), false).expect("sshd can be started");
    memory::print_other("sshd, idle", sshd.as_ref().map(ssh::Sshd::pid), "openssh-server");
    let nrpe = nrpe::Nrpe::start(&world.scratch("nrpe"));
    memory::print_other("nrpe, idle", nrpe.as_ref().map(nrpe::Nrpe::pid), "nagios-nrpe-server");
    drop((sshd, nrpe));
    memory::print_shims(runtime, caller, agent);
    memory::print_first(runtime, caller);
    handshakes::print();
}

/// The script that `ssh` and the floor run: the same as the action's.
fn script(world: &World) -> PathBuf {
    let path = world.scratch("programs").join("nothing.sh");
    fs::write(&path, NOTHING).expect("the script can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    path
}

fn run_here(program: &Path) -> io::Result<()> {
    let status = Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

fn sync_one(path: &Path) -> io::Result<()> {
    let mut file = fs::File::options().create(true).append(true).open(path)?;
    file.write_all(&[7; 512])?;
    file.sync_data()
}

/// Times `run`, prints its row, and gives its median.
fn row<E: std::fmt::Display>(name: &str, runs: usize, mut run: impl FnMut() -> Result<(), E>) -> Duration {
    let mut times = Vec::with_capacity(runs);
    for index in 0..runs + WARM_UP.min(runs) {
        let time = timed(name, &mut run);
        if index >= WARM_UP.min(runs) {
            times.push(time);
        }
    }
    print_row(name, times)
}

/// Times two things in turns, so that other work on the host delays both, prints their rows, and gives their medians.
fn rows<E: std::fmt::Display>(
    names: [&str; 2],
    runs: usize,
    both: [&mut dyn FnMut() -> Result<(), E>; 2],
) -> (Duration, Duration) {
    let [first, second] = both;
    let mut times = [Vec::with_capacity(runs), Vec::with_capacity(runs)];
    for index in 0..runs + WARM_UP {
        let [one, other] = [timed(names[0], &mut *first), timed(names[1], &mut *second)];
        if index >= WARM_UP {
            times[0].push(one);
            times[1].push(other);
        }
    }
    let [one, other] = times;
    (print_row(names[0], one), print_row(names[1], other))
}

fn timed<E: std::fmt::Display>(name: &str, run: &mut (impl FnMut() -> Result<(), E> + ?Sized)) -> Duration {
    let start = Instant::now();
    run().unwrap_or_else(|e| panic!("{name}: {e}"));
    start.elapsed()
}

fn print_row(name: &str, mut times: Vec<Duration>) -> Duration {
    let runs = times.len();
    times.sort_unstable();
    let (p50, p99) = (times[runs / 2], times[runs * 99 / 100]);
    println!("{name:<44} {:>10.2} {:>10.2} {runs:>9}", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3);
    p50
}

fn ratio(name: &str, above: Option<Duration>, below: Option<Duration>, target: &str) {
    match (above, below) {
        (Some(above), Some(below)) => {
            println!("{name:<58} {:>8.1} {target:>8}", above.as_secs_f64() / below.as_secs_f64());
        }
        _ => println!("{name:<58} {:>8} {target:>8}", "-"),
    }
}

fn with_sshd(world: &World, tuned: bool, measure: impl FnOnce(&ssh::Sshd) -> Duration) -> Option<Duration> {
    let directory = tempfile::Builder::new().prefix("sshd-").tempdir_in(world.path()).expect("a directory");
    match ssh::Sshd::start(directory.path(), tuned).expect("sshd can be started") {
        Some(sshd) => Some(measure(&sshd)),
        None => {
            println!("SKIPPED ssh: it needs root and /usr/sbin/sshd (Debian: apt-get install openssh-server)");
            None
        }
    }
}

/// The operator, through the client library.
pub(crate) struct Caller {
    inventory: Inventory,
    identity: Identity,
}

impl Caller {
    fn new(world: &World, agent: &LocalAgent) -> Caller {
        world.bolt(&[agent]);
        let operator = world.site.operator();
        let inventory = Inventory::load(&world.path().join("inventory.toml")).expect("the inventory reads");
        let identity =
            Identity::load(&operator.certificate, &operator.key, &world.site.ca()).expect("the identity reads");
        Caller { inventory, identity }
    }

    /// A client that has not connected yet.
    pub(crate) fn agent(&self) -> Agent {
        Agent::new(&self.inventory.instances()[0], &self.identity)
    }

    async fn try_nothing(agent: &Agent) -> Result<(), String> {
        let wait = Some(Duration::from_secs(10));
        let execution = agent.create(&order("bench.nothing"), None, wait).await.map_err(|e| e.to_string())?;
        if execution.state == State::Succeeded { Ok(()) } else { Err(format!("{execution:?}")) }
    }

    async fn wait_nothing(&self, agent: &Agent) {
        Caller::try_nothing(agent).await.expect("the action succeeds");
    }
}
