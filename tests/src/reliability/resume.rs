//! Kills the client of a run at random moments, again and again, and lets `bolt resume` end it: nothing is started twice, and
//! no result is lost.
//!
//! With the record in a bucket, clients also die at a request to it, are paused instead while another one takes over their run,
//! and two resume at once.

use std::fmt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::bucket::location;
use crate::fleet::{ACTION, Fleet, Latency, Setup};
use crate::random::Random;
use crate::{Bucket, CommandOutput, Proxy};

/// Instances of the simulated fleet.
const INSTANCES: u32 = 24;
/// Latest moment of a kill, in milliseconds after the start of the client.
const LATEST: u64 = 900;
/// Maximum number of kills in a cycle.
const KILLS: u64 = 4;
/// Last request to the bucket at which a client is killed.
const LAST_REQUEST: u64 = 16;

/// Size of a run of this program.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of runs.
    pub cycles: u64,
    /// Seed.
    pub seed: u64,
    /// Number of runs at the same time.
    pub workers: u64,
    /// Place of the record.
    pub store: Store,
}

/// Place of the record of the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The state directory of the user.
    Directory,
    /// A bucket, with leases that expire after a second.
    Bucket,
}

/// Figures of a run of this program.
#[derive(Debug, Default)]
pub struct Figures {
    /// Runs.
    pub cycles: u64,
    /// Clients that were killed before they ended by themselves.
    pub kills: u64,
    /// Kills before the plan was recorded, after which the run was started again under its id.
    pub before_the_plan: u64,
    /// Kills after which some instances had an end and others had none.
    pub in_the_middle: u64,
    /// Clients that were paused while another one took over their run.
    pub paused: u64,
    /// Of these, clients that reported it: the others had ended their run.
    pub taken_over: u64,
    /// Times at which two clients resumed at once.
    pub rivals: u64,
    /// Executions, by the ledger of the fleet.
    pub starts: u64,
    /// First broken promise.
    pub broken: Option<String>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { cycles, kills, before_the_plan, in_the_middle, paused, taken_over, rivals, starts, broken } =
            self;
        write!(
            f,
            "{cycles} runs on {INSTANCES} instances, {kills} clients killed ({before_the_plan} before the plan was recorded, \
             {in_the_middle} in the middle), "
        )?;
        if paused + rivals > 0 {
            write!(f, "{paused} paused ({taken_over} found their run taken over), {rivals} times two at once, ")?;
        }
        write!(f, "{starts} executions; {}", broken.as_deref().unwrap_or("none started twice, no result lost"))
    }
}

/// Runs the cycles.
pub fn run(plan: Plan) -> Figures {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let latency = Latency { median_ms: 30, tail_percent: 5, tail_ms: 250 };
    let fleet = Fleet::start(Setup { latency, seed: plan.seed, ..Setup::healthy(INSTANCES) }, directory.path());
    fleet.make_certificates();
    let bucket = (plan.store == Store::Bucket).then(Bucket::start);
    let figures = Mutex::new(Figures::default());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..plan.workers.max(1) {
            scope.spawn(|| {
                loop {
                    let cycle = next.fetch_add(1, Ordering::Relaxed);
                    let is_broken = figures.lock().unwrap_or_else(PoisonError::into_inner).broken.is_some();
                    if cycle >= plan.cycles || is_broken {
                        return;
                    }
                    let ended = Cycle::new(&fleet, bucket.as_ref(), plan.seed, cycle).run();
                    let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
                    figures.add(ended);
                }
            });
        }
    });
    figures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Figures {
    fn add(&mut self, cycle: Figures) {
        self.cycles += cycle.cycles;
        self.kills += cycle.kills;
        self.before_the_plan += cycle.before_the_plan;
        self.in_the_middle += cycle.in_the_middle;
        self.paused += cycle.paused;
        self.taken_over += cycle.taken_over;
        self.rivals += cycle.rivals;
        self.starts += cycle.starts;
        self.broken = self.broken.take().or(cycle.broken);
    }
}

/// Moment at which a client is killed or paused.
#[derive(Debug, Clone, Copy)]
enum Moment {
    After(Duration),
    /// When so many requests to the bucket have been made.
    AtRequest(usize),
}

/// A run with the clients that carry it out.
struct Cycle<'a> {
    fleet: &'a Fleet,
    run: String,
    random: Random,
    /// Options of each command, and the proxy that counts requests to the bucket.
    store: Option<(Proxy, [String; 2])>,
    figures: Figures,
}

impl Cycle<'_> {
    fn new<'a>(fleet: &'a Fleet, bucket: Option<&Bucket>, seed: u64, cycle: u64) -> Cycle<'a> {
        let random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(cycle));
        let store = bucket.map(|bucket| {
            let proxy = Proxy::before(bucket.address());
            // A prefix of its own, so that a list of runs is short.
            let at = location(&bucket.url(&format!("runs/{seed}-{cycle}")), &proxy.endpoint());
            (proxy, ["--run-store".to_owned(), format!("{at}&lease=1s")])
        });
        let figures = Figures { cycles: 1, ..Figures::default() };
        Cycle { fleet, run: format!("r-{seed}-{cycle}"), random, store, figures }
    }

    fn run(mut self) -> Figures {
        let strategies: [&[&str]; 5] = [
            &["--at-once"],
            &["--at-once", "--parallel", "3"],
            &["--batch", "5"],
            &["--canary", "2", "--batch", "40%"],
            &[],
        ];
        let strategy = *self.random.one_of(&strategies);
        let mut first = vec!["run", ACTION, "--everywhere", "--max-failures", "100%", "--run-id"];
        let run = self.run.clone();
        first.push(&run);
        first.extend(strategy);
        let resume = ["resume", &run];
        let kills = 1 + self.random.below(KILLS);
        let mut is_recorded = false;
        let mut last = None;
        for attempt in 0..=kills {
            let arguments: &[&str] = if is_recorded { &resume } else { &first };
            let moment = (attempt < kills).then(|| self.moment());
            if self.store.is_some() && is_recorded && self.random.below(4) == 0 {
                match self.rivals(&resume) {
                    Ok(output) => last = Some(output),
                    Err(problem) => self.figures.broken = Some(problem),
                }
                break;
            }
            match self.client(arguments, moment) {
                Ended::ByItself(output) => {
                    last = Some(output);
                    break;
                }
                Ended::Killed => self.figures.kills += 1,
                Ended::Paused(child) => {
                    self.figures.paused += 1;
                    match self.take_over(child, &resume) {
                        Ok(output) => last = Some(output),
                        Err(problem) => self.figures.broken = Some(problem),
                    }
                    break;
                }
            }
            let runs = self.bolt(&["runs", "--limit", "100000"]);
            let runs: Value = serde_json::from_str(&runs.stdout).unwrap_or_default();
            let known =
                runs["runs"].as_array().into_iter().flatten().find(|known| known["run"] == run.as_str()).cloned();
            is_recorded = known.is_some();
            match known {
                None => self.figures.before_the_plan += 1,
                Some(known) => {
                    let count = |state: &str| known["summary"][state].as_u64().unwrap_or(0);
                    let ended = count("succeeded");
                    self.figures.in_the_middle += u64::from(ended > 0 && ended < u64::from(INSTANCES));
                }
            }
        }
        if self.figures.broken.is_none() {
            self.figures.broken = last.map_or(Some("no client ended".to_owned()), |output| self.judge(&output));
        }
        self.figures
    }

    fn moment(&mut self) -> Moment {
        match self.store.is_some() && self.random.below(2) == 0 {
            true => Moment::AtRequest(usize::try_from(1 + self.random.below(LAST_REQUEST)).unwrap_or_default()),
            false => Moment::After(Duration::from_millis(self.random.below(LATEST))),
        }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.fleet.bolt().command(arguments);
        command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some((_, options)) = &self.store {
            command.args(options);
        }
        command
    }

    fn bolt(&self, arguments: &[&str]) -> CommandOutput {
        CommandOutput::from(self.command(arguments).output().expect("bolt can be run"))
    }

    /// Runs a client, and kills it at a moment. One of four is paused instead, if its record is in a bucket.
    fn client(&mut self, arguments: &[&str], moment: Option<Moment>) -> Ended {
        let requests = || self.store.as_ref().map_or(0, |(proxy, _)| proxy.passed().len());
        let before = requests();
        let mut child: Child = self.command(arguments).spawn().expect("bolt can be run");
        match moment {
            Some(Moment::After(time)) => std::thread::sleep(time),
            Some(Moment::AtRequest(count)) => {
                while requests() < before + count && child.try_wait().expect("it is a child").is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            None => {}
        }
        if moment.is_some() && child.try_wait().expect("it is a child").is_none() {
            if self.store.is_some() && self.random.below(4) == 0 {
                signal(&child, Signal::SIGSTOP);
                return Ended::Paused(child);
            }
            child.kill().expect("it is a child");
            child.wait().expect("it is a child");
            return Ended::Killed;
        }
        Ended::ByItself(CommandOutput::from(child.wait_with_output().expect("its output can be read")))
    }

    /// Lets another client resume the run of a paused one, and then lets that one go on. Returns the output of the client that
    /// has carried the run to its end.
    fn take_over(&mut self, paused: Child, resume: &[&str]) -> Result<CommandOutput, String> {
        let output = self.bolt(resume);
        signal(&paused, Signal::SIGCONT);
        let late = CommandOutput::from(paused.wait_with_output().expect("its output can be read"));
        if output.code == 2 && output.stderr.contains("not in the record of runs") {
            // Paused before the plan was recorded: it carries out its run alone.
            return Ok(late);
        }
        let is_told = late.stderr.contains("taken over by another client")
            || late.stderr.contains("carried out by another client");
        self.figures.taken_over += u64::from(is_told);
        if late.code != 0 && !is_told {
            return Err(format!("run {}: the paused client was told nothing: {late:?}", self.run));
        }
        Ok(output)
    }

    /// Lets two clients resume at once. Returns the output of the one that has carried the run to its end.
    fn rivals(&mut self, resume: &[&str]) -> Result<CommandOutput, String> {
        self.figures.rivals += 1;
        let clients = [0, 1].map(|_| self.command(resume).spawn().expect("bolt can be run"));
        let outputs =
            clients.map(|child| CommandOutput::from(child.wait_with_output().expect("its output can be read")));
        // Both, where one came after the end of the other.
        let is_busy =
            |output: &CommandOutput| output.code == 2 && output.stderr.contains("carried out by another client");
        if !outputs.iter().all(|output| output.code == 0 || is_busy(output)) {
            return Err(format!("run {}: two clients at once: {outputs:?}", self.run));
        }
        let [one, other] = outputs;
        if one.code == 0 { Ok(one) } else { Ok(other) }
    }

    /// Returns the first broken promise.
    fn judge(&mut self, output: &CommandOutput) -> Option<String> {
        let broken = |problem: String| Some(format!("run {}: {problem}", self.run));
        let Ok(report) = serde_json::from_str::<Value>(&output.stdout) else {
            return broken(format!("the last client printed no report: {output:?}"));
        };
        let entries = report["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
        if entries.len() != INSTANCES as usize || output.code != 0 {
            return broken(format!("exit code {}, {} instances in the report: {output:?}", output.code, entries.len()));
        }
        if let Some(wrong) =
            entries.iter().find(|entry| entry["state"] != "succeeded" || entry["execution"]["id"].is_null())
        {
            return broken(format!("the result of an instance is lost: {wrong}"));
        }
        for (instance, seen) in &self.fleet.ledger().instances {
            let starts = seen.starts.get(&self.run).copied().unwrap_or(0);
            self.figures.starts += u64::from(starts);
            if starts != 1 {
                return broken(format!("{instance} started {starts} executions"));
            }
        }
        None
    }
}

/// End of a client.
enum Ended {
    ByItself(CommandOutput),
    Killed,
    /// Not at all yet.
    Paused(Child),
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("it is a child");
}
