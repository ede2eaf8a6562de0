//! Power cuts: QEMU is killed at seeded moments while executions are ordered, and after each boot every promise is checked
//! against the ledger on this host.
//!
//! ```text
//!  boot ─▶ check the ledger ─▶ place orders ═╗
//!   ▲                          cut at a moment ═╝ ─▶ (sometimes: boot, cut again before it is ready)
//!   └──────────────────────────────────────────┘
//! ```
//!
//! Each execution that was answered with a 202 must exist and end, and keep the end that was reported. A request without an answer
//! that is repeated with its key must not start a second execution, and no action may start twice. Output is not synced when an
//! execution ends: lost output must be marked as dropped, and is counted separately. A quarter of the executions is killed at once.
//! Each acceptance and each kill that was answered is in the audit log, whose chains are whole ([`audit_log`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::json;
use tokio::task::JoinSet;

use super::audit_log::{self, Expected};
use super::load::{self, Api};
use super::site::{MachineSite, THIRD};
use super::vm::Vm;
use crate::Random;
use crate::http::Call;

/// Maximum number of executions ordered before a cut.
const ORDERS: u64 = 10;
/// Maximum time from the first order to the cut, in milliseconds.
const MOMENT: u64 = 14_000;
/// Time within which an order must be accepted before the only cut of a run.
const AT_WORK_WITHIN: Duration = Duration::from_secs(60);
/// Lines of an execution.
const LINES: u64 = 6;
/// Attempts, one each second, to find the last entries in the audit log: they are written behind the answers.
const ATTEMPTS: u32 = 60;

/// Parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of power cuts.
    pub cuts: u64,
    /// Seed that reproduces the moments and orders.
    pub seed: u64,
}

/// Outcome of a run.
#[derive(Debug, Default)]
pub struct Figures {
    /// Cuts while executions were ordered.
    pub cuts: u64,
    /// Cuts during a boot.
    pub cuts_at_boot: u64,
    /// Requests, whether answered or not.
    pub ordered: u64,
    /// Answered with a 202 before the cut.
    pub accepted: u64,
    /// Reported as ended before the cut.
    pub told: u64,
    /// Kills that were answered before the cut.
    pub killed: u64,
    /// Final states.
    pub ends: BTreeMap<State, u64>,
    /// Executions whose output a cut has taken, in part or whole, marked as dropped.
    pub outputs_lost: u64,
    /// Entries of changes and of refusals in the audit log after the last boot.
    pub audited: (u64, u64),
    /// Incomplete last lines that a cut left in it.
    pub torn: u64,
    /// Spoiled copies of it that were found out.
    pub controls: u64,
    /// Broken promises.
    pub violations: Vec<String>,
    /// Duration.
    pub took: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends: Vec<String> = self.ends.iter().map(|(state, n)| format!("{n} {state}")).collect();
        write!(
            f,
            "{} power cuts, {} of them at boot, in {:.0?}; {} executions ordered, {} accepted, {} killed and {} ended before a cut; \
             {}; output lost of {}, marked; audit log of {} changes and {} refusals, {} torn lines, {} controls found; \
             {} violations",
            self.cuts + self.cuts_at_boot,
            self.cuts_at_boot,
            self.took,
            self.ordered,
            self.accepted,
            self.killed,
            self.told,
            ends.join(", "),
            self.outputs_lost,
            self.audited.0,
            self.audited.1,
            self.torn,
            self.controls,
            self.violations.len()
        )?;
        for violation in &self.violations {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}

/// A request and what was heard of it before the cut.
#[derive(Debug, Clone, Default)]
struct Entry {
    accepted: Option<Execution>,
    /// True if its kill was answered.
    killed: bool,
    /// The end, and the whole output.
    told: Option<(Execution, String)>,
}

/// Entries by idempotency key.
type Ledger = Arc<Mutex<BTreeMap<String, Entry>>>;

/// Runs the plan. The error is of the machine, not of Bolt: it cannot be made or booted.
pub fn run(image: &Path, site: &MachineSite, plan: Plan) -> Result<Figures, String> {
    let began = Instant::now();
    let mut vm = site.install(image, THIRD)?;
    site.start(&mut vm, THIRD)?;
    let runtime = super::runtime()?;
    let mut random = Random::new(plan.seed);
    let mut figures = Figures::default();
    let mut kept: BTreeMap<String, (Execution, String)> = BTreeMap::new();
    let mut audit = Audit { directory: site.directory().join("audit"), expected: Expected::default() };
    let mut api = Api { address: vm.address(), caller: site.world.site.operator() };
    runtime.block_on(api.ready())?;
    while figures.cuts + figures.cuts_at_boot < plan.cuts {
        let cut = figures.cuts;
        let ledger = Ledger::default();
        let mut orders = JoinSet::new();
        for number in 0..2 + random.below(ORDERS - 1) {
            let key = format!("cut-{cut}-{number}");
            lock(&ledger).insert(key.clone(), Entry::default());
            let delay = Duration::from_millis(random.below(MOMENT / 2));
            let kill = number % 4 == 3;
            orders.spawn_on(place(api.clone(), key, (delay, kill), Arc::clone(&ledger)), runtime.handle());
        }
        // For the chain of refusals: there is no such action.
        let refused = api.clone();
        orders.spawn_on(async move { drop(refused.order("machine.none", &json!({}), "none").await) }, runtime.handle());
        std::thread::sleep(Duration::from_millis(random.below(MOMENT)));
        if plan.cuts == 1 {
            wait_accepted(&ledger);
        }
        vm.cut();
        drop(orders);
        figures.cuts += 1;
        // Sometimes the recovery is cut as well.
        while random.below(4) == 0 && figures.cuts + figures.cuts_at_boot < plan.cuts {
            vm.power_on().map_err(|e| e.to_string())?;
            std::thread::sleep(Duration::from_millis(5000 + random.below(20_000)));
            vm.cut();
            figures.cuts_at_boot += 1;
        }
        vm.boot()?;
        api.address = vm.address();
        let ledger = lock(&ledger).clone();
        let mut checked = match runtime.block_on(api.ready()) {
            Ok(()) => audit.check(&mut vm, &ledger, &mut figures)?,
            Err(error) => vec![error],
        };
        checked.extend(runtime.block_on(check(&api, &mut vm, &ledger, &mut kept, &mut figures)));
        figures.violations.extend(checked.into_iter().map(|violation| format!("cut {cut}: {violation}")));
        eprintln!("cut {cut}: {figures}, {:.0?}", began.elapsed());
    }
    // Everything once more, after the last boot.
    for (key, (end, output)) in &kept {
        match runtime.block_on(unchanged(&api, end, output)) {
            Ok(is_lost) => figures.outputs_lost += u64::from(is_lost),
            Err(violation) => figures.violations.push(format!("{key}, at the end: {violation}")),
        }
        *figures.ends.entry(end.state).or_default() += 1;
    }
    let ordered = kept.values().map(|(end, _)| end.id.to_string()).collect();
    let broken = audit.check_all(&mut vm, ordered, &mut figures)?;
    figures.violations.extend(broken.into_iter().map(|violation| format!("at the end: {violation}")));
    figures.took = began.elapsed();
    Ok(figures)
}

/// Waits until an order was accepted: without one, a single cut would test nothing on a machine that is slower than its seed assumes.
fn wait_accepted(ledger: &Ledger) {
    let until = Instant::now() + AT_WORK_WITHIN;
    while !lock(ledger).values().any(|entry| entry.accepted.is_some()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The copy of the guest's audit log, and what it must have.
struct Audit {
    directory: PathBuf,
    expected: Expected,
}

impl Audit {
    /// Checks the log of an agent that has just started; returns every broken promise. The error is of the machine.
    fn check(
        &mut self,
        vm: &mut Vm,
        ledger: &BTreeMap<String, Entry>,
        figures: &mut Figures,
    ) -> Result<Vec<String>, String> {
        for (accepted, entry) in ledger.values().filter_map(|entry| Some((entry.accepted.as_ref()?, entry))) {
            self.expected.runs.insert(accepted.id.to_string());
            if entry.killed {
                self.expected.kills.insert(accepted.id.to_string());
                figures.killed += 1;
            }
        }
        audit_log::copy_out(vm, &self.directory)?;
        let log = audit_log::read(&self.directory)?;
        (figures.audited, figures.torn) = (log.entries, log.torn);
        let broken = log.problems(&self.expected).into_iter().chain(log.missing(&self.expected));
        Ok(broken.map(|problem| format!("audit log: {problem}")).collect())
    }

    /// Checks that everything that was ordered is in the log and nothing else, and tries the controls.
    fn check_all(
        &mut self,
        vm: &mut Vm,
        ordered: BTreeSet<String>,
        figures: &mut Figures,
    ) -> Result<Vec<String>, String> {
        self.expected.runs.clone_from(&ordered);
        let mut broken = Vec::new();
        for _ in 0..ATTEMPTS {
            broken = self.check(vm, &BTreeMap::new(), figures)?;
            if broken.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        broken.extend(audit_log::read(&self.directory)?.unknown(&ordered));
        for (control, found) in audit_log::controls(&self.directory, &self.expected)? {
            eprintln!("control, {control}: {found:?}");
            match found.is_empty() {
                true => broken.push(format!("control: an audit log with {control} was not found out")),
                false => figures.controls += 1,
            }
        }
        Ok(broken)
    }
}

/// Orders an execution, may kill it, and follows it to its end, writing down what is answered, until the connection breaks.
async fn place(api: Api, key: String, (delay, kill): (Duration, bool), ledger: Ledger) {
    tokio::time::sleep(delay).await;
    let Ok(accepted) = api.order("machine.lines", &parameters(), &key).await else { return };
    let id = accepted.id.to_string();
    lock(&ledger).entry(key.clone()).or_default().accepted = Some(accepted);
    if kill {
        let Ok(answer) = api.ask(Call::post(&format!("/v1/executions/{id}/kill"), "")).await else { return };
        lock(&ledger).entry(key.clone()).or_default().killed = answer.status.is_success();
    }
    let Ok(end) = api.wait(&id).await else { return };
    let Ok(output) = api.stdout(&id).await else { return };
    lock(&ledger).entry(key).or_default().told = Some((end, output));
}

fn parameters() -> serde_json::Value {
    json!({"count": LINES, "pause": "0.3"})
}

/// Checks the ledger of one cut; returns every broken promise.
async fn check(
    api: &Api,
    vm: &mut Vm,
    ledger: &BTreeMap<String, Entry>,
    kept: &mut BTreeMap<String, (Execution, String)>,
    figures: &mut Figures,
) -> Vec<String> {
    let mut violations = Vec::new();
    for (key, entry) in ledger {
        figures.ordered += 1;
        figures.accepted += u64::from(entry.accepted.is_some());
        figures.told += u64::from(entry.told.is_some());
        let mut broken = Vec::new();
        // A question without an answer ends the check of this entry, and of no other.
        match check_entry(api, vm, (key, entry), &mut broken).await {
            Ok(end) => _ = kept.insert(key.clone(), end),
            Err(error) => broken.push(error),
        }
        violations.extend(broken.into_iter().map(|violation| format!("{key}: {violation}")));
    }
    violations
}

/// Checks one entry and adds every broken promise to `broken`. Returns its end and output for the last check; the error is a
/// question without an answer.
async fn check_entry(
    api: &Api,
    vm: &mut Vm,
    (key, entry): (&String, &Entry),
    broken: &mut Vec<String>,
) -> Result<(Execution, String), String> {
    // With the same key: the same execution, whether its answer arrived or not.
    let again = api.order_until("machine.lines", &parameters(), key).await?;
    if entry.accepted.as_ref().is_some_and(|accepted| accepted.id != again.id) {
        broken.push(format!("accepted as {:?}, and now {}", entry.accepted, again.id));
    }
    let end = api.wait(again.id.as_str()).await?;
    if let Some((told, output)) = &entry.told {
        broken.extend(unchanged(api, told, output).await.err());
    }
    let output = api.stdout(end.id.as_str()).await?;
    let expected = load::lines(end.id.as_str(), LINES);
    let fits = match end.state {
        State::Succeeded => output == expected || is_marked(&output, &expected),
        // The rest was never written.
        State::Interrupted | State::Lost | State::Error | State::Killed => expected.starts_with(before_mark(&output)),
        _ => false,
    };
    if !fits {
        broken.push(format!("{}: {} with output {output:?}", end.id, end.state));
    }
    let starts = vm.ok(&format!("cat /var/tmp/ledger/{} 2>/dev/null || true", end.id))?.lines().count();
    if starts > 1 || (end.state == State::Succeeded && starts != 1) {
        broken.push(format!("{}: {} and started {starts} times", end.id, end.state));
    }
    // For the last check, the whole output where it was once complete.
    let output = if end.state == State::Succeeded { expected } else { output };
    Ok((end, output))
}

/// Checks that an end that was reported is still the same. Returns true if output was lost, and is marked.
pub(super) async fn unchanged(api: &Api, told: &Execution, output: &str) -> Result<bool, String> {
    let now = api.wait(told.id.as_str()).await?;
    if (now.state, now.exit_status, now.ended_at_ms) != (told.state, told.exit_status, told.ended_at_ms) {
        return Err(format!("reported as {told:?}, now {now:?}"));
    }
    let text = api.stdout(told.id.as_str()).await?;
    match (text == output, is_marked(&text, output)) {
        (true, _) => Ok(false),
        (_, true) => Ok(true),
        _ => Err(format!("{} had output {output:?}, now {text:?}", told.id)),
    }
}

/// Beginning of the mark that stands for dropped output, and its end.
const MARK: (&str, &str) = ("\n[bolt: ", " bytes dropped]\n");

/// True if what is missing of `expected` is marked once, with its length.
fn is_marked(output: &str, expected: &str) -> bool {
    let Some((before, rest)) = output.split_once(MARK.0) else { return false };
    let Some((count, after)) = rest.split_once(MARK.1) else { return false };
    let Ok(count) = count.parse::<usize>() else { return false };
    let marked = before.len() + count + after.len() == expected.len();
    marked && expected.starts_with(before) && expected.ends_with(after)
}

fn before_mark(output: &str) -> &str {
    output.split_once(MARK.0).map_or(output, |(before, _)| before)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_output_that_is_marked_with_its_length_may_be_missing() {
        let expected = "line 0\nline 1\n";
        for good in [
            "\n[bolt: 14 bytes dropped]\n",
            "line 0\n\n[bolt: 7 bytes dropped]\n",
            "line\n[bolt: 3 bytes dropped]\nline 1\n",
        ] {
            assert!(is_marked(good, expected), "{good:?}");
        }
        for bad in ["", "line 0\n", expected, "\n[bolt: 13 bytes dropped]\n", "line 1\n\n[bolt: 7 bytes dropped]\n"] {
            assert!(!is_marked(bad, expected), "{bad:?}");
        }
    }
}
