//! schemathesis against the OpenAPI document of a live agent.
//!
//! Each round is one run of the tool with a seed of its own, until so many cases were sent. Its own checks hold statuses,
//! media types, headers and schemas of all answers against the document; `hooks.py` adds checks of problems and of lines, and
//! has the list of explained findings. Any other finding is a failure.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bolt_client::local::{LocalAgent, OPERATOR};
use packs_schema::agent::rest::Code;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Tools;
use crate::http::{Call, send};
use crate::{PackSource, World, process, spec};

const HOOKS: &str = include_str!("hooks.py");
/// Operations of the document; a case is of one of them.
const OPERATIONS: u64 = 20;
/// Maximum number of cases for an operation in a round.
const MAX_EXAMPLES: u64 = 500;
/// Maximum number of findings that are printed in full.
const MAX_SHOWN: usize = 20;

/// Parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Cases, at least.
    pub cases: u64,
    /// Seed of the first round; each further round has the next one.
    pub seed: u64,
    /// Requests at once.
    pub workers: u64,
}

/// Figures of a run.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Cases that were generated, sent and checked.
    pub cases: u64,
    /// Runs of the tool.
    pub rounds: u64,
    /// Explained findings, by name.
    pub explained: BTreeMap<String, u64>,
    /// All other findings.
    pub unexplained: Vec<String>,
    /// Errors of the tool itself, each of which has ended the cases of one operation early.
    pub tool_errors: u64,
    /// Answers by status, as the agent counted them.
    pub answers: BTreeMap<String, u64>,
    /// Resident memory of the api after the first round and at the end, in kB.
    pub memory_kb: [u64; 2],
    /// Descriptors of the api after the first round and at the end.
    pub descriptors: [u64; 2],
    took: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cases, rounds, seconds) = (self.cases, self.rounds, self.took.as_secs());
        writeln!(f, "{cases} cases in {rounds} rounds, {seconds} s")?;
        let answers: Vec<String> = self.answers.iter().map(|(status, count)| format!("{count} × {status}")).collect();
        writeln!(f, "  answers: {}", answers.join(", "))?;
        for (name, count) in &self.explained {
            writeln!(f, "  explained: {name}: {count}")?;
        }
        let ([memory, memory_end], [descriptors, descriptors_end]) = (self.memory_kb, self.descriptors);
        writeln!(
            f,
            "  api: {memory} kB and {descriptors} descriptors after a round; {memory_end} kB and {descriptors_end} at the end"
        )?;
        for finding in self.unexplained.iter().take(MAX_SHOWN) {
            writeln!(f, "  UNEXPLAINED: {finding}")?;
        }
        if self.tool_errors > 0 {
            writeln!(
                f,
                "  errors of the tool itself, which ended an operation of a round early: {}",
                self.tool_errors
            )?;
        }
        write!(f, "  {} unexplained", self.unexplained.len())
    }
}

/// Report that the tool writes (`--report json`), as far as it is read here.
#[derive(Deserialize)]
struct Report {
    complete: bool,
    test_cases: TestCases,
    failures: Vec<Value>,
    errors: Vec<ReportedErrors>,
}

/// Errors of one kind.
#[derive(Deserialize)]
struct ReportedErrors {
    count: u64,
}

#[derive(Deserialize)]
struct TestCases {
    generated: u64,
}

/// Runs it.
pub fn run(tools: &Tools, plan: Plan) -> Figures {
    let world = World::empty();
    world.publish(&pack());
    let mut spec = spec("i-1").set("dev", "push", true);
    spec.grants = Some(format!(
        "[[grant]]\nprincipal = \"{OPERATOR}\"\nverbs = [\"read\", \"run\", \"kill\", \"sync\", \"push\", \"metrics\"]\nactions = [\"*\"]\n"
    ));
    let agent = world.start(&spec);
    let launcher = agent.launcher_pid().expect("the launcher runs");
    let api = process::api_of(launcher).expect("the api runs");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let get = |path: &str| {
        let answer = runtime.block_on(send(agent.address(), Some(&world.site.operator()), Call::get(path)));
        answer.expect("the agent answers")
    };
    let document: Value = get("/v1/openapi.json").json();
    let directory = world.scratch("schemathesis");
    write_site(&directory, &document);

    let (begun, mut figures) = (Instant::now(), Figures::default());
    while figures.cases < plan.cases {
        let left = (plan.cases - figures.cases).div_ceil(OPERATIONS).clamp(1, MAX_EXAMPLES);
        let report = round(tools, &world, &agent, &directory, plan, (figures.rounds, left));
        assert!(report.complete && report.test_cases.generated > 0, "a round did not end: {}", said(&directory));
        figures.cases += report.test_cases.generated;
        let said = said(&directory);
        let (errors, own) = (report.errors.iter().map(|errors| errors.count).sum::<u64>(), optimiser_errors(&said));
        if !report.failures.is_empty() || errors != own {
            figures.unexplained.push(findings(&said));
        }
        figures.tool_errors += own;
        let now = (memory_kb(api), descriptors(api));
        if figures.rounds == 0 {
            (figures.memory_kb[0], figures.descriptors[0]) = now;
        }
        (figures.memory_kb[1], figures.descriptors[1]) = now;
        figures.rounds += 1;
        if process::api_of(launcher) != Some(api) {
            figures.unexplained.push("the api was replaced".to_owned());
            break;
        }
    }
    for line in fs::read_to_string(directory.join("explained")).unwrap_or_default().lines() {
        *figures.explained.entry(line.to_owned()).or_default() += 1;
    }
    figures.answers = answers(&get("/v1/metrics").text());
    let log = fs::read_to_string(agent.log()).unwrap_or_default();
    figures.unexplained.extend(log.lines().filter(|line| line.contains("panicked")).map(str::to_owned));
    figures.took = begun.elapsed();
    figures
}

/// Returns the pack that the agent offers: actions that end at once.
fn pack() -> PackSource {
    PackSource::new("attack", "1.0.0")
        .action("nothing", "bolt: {class: diagnostic}", "#!/bin/true\n")
        .action("output", "bolt: {class: maintenance}", "#!/bin/sh\necho out\nprintf 'e\\377rr' >&2\nexit 3\n")
        .action("off", "enabled: false\nbolt: {class: diagnostic}", "#!/bin/true\n")
        .action(
            "typed",
            "parameters:\n  name: {type: string, pattern: '^[a-z]+$', required: true, position: 0}\n  \
             count: {type: integer, minimum: 1, maximum: 9, default: 3}\n  token: {type: string, secret: true}\n\
             bolt: {class: remediation}",
            "#!/bin/true\n",
        )
}

/// Writes what the hooks need to know.
fn write_site(directory: &Path, document: &Value) {
    let codes: BTreeMap<&str, u16> = Code::ALL.iter().map(|code| (code.as_str(), code.status())).collect();
    let site = json!({
        "codes": codes, "document": document, "instance": "i-1", "version": "1.0.0",
        "actions": {
            "attack.nothing": [{}],
            "attack.output": [{}],
            "attack.off": [{}],
            "attack.typed": [{"name": "x"}, {"name": "x", "count": 9}, {"name": "x", "token": "secret"}, {"name": "X"}],
        },
    });
    for (name, text) in [
        ("hooks.py", HOOKS),
        ("site.json", &site.to_string()),
        ("openapi.json", &document.to_string()),
        ("explained", ""),
    ] {
        fs::write(directory.join(name), text).expect("the file can be written");
    }
}

/// Runs the tool once. Examples and borders of values (`coverage`) are the same in each round, so that only the first has them.
fn round(
    tools: &Tools,
    world: &World,
    agent: &LocalAgent,
    directory: &Path,
    plan: Plan,
    (number, examples): (u64, u64),
) -> Report {
    let operator = world.site.operator();
    let report = directory.join("report.json");
    // With threads, the generator of borders fails in CPython 3.11 ("AST constructor recursion depth mismatch").
    let (phases, workers) = match number {
        0 if examples == MAX_EXAMPLES => ("examples,coverage", 1),
        _ => ("fuzzing", plan.workers),
    };
    let mut command = Command::new(tools.schemathesis());
    command.arg("run").arg(directory.join("openapi.json"));
    command.arg("--url").arg(format!("https://{}", agent.address()));
    command.arg("--request-cert").arg(&operator.certificate).arg("--request-cert-key").arg(&operator.key);
    // Callers know an agent by its instance id, which is no name of a host.
    command.args(["--tls-verify", "false", "--request-timeout", "90", "--no-color", "--continue-on-failure"]);
    command.args(["--checks", "all", "--phases", phases, "--generation-database", "none", "--report", "json"]);
    command.arg("--report-json-path").arg(&report);
    for (option, value) in [("--max-examples", examples), ("--seed", plan.seed + number), ("--workers", workers)] {
        command.arg(option).arg(value.to_string());
    }
    command.env("SCHEMATHESIS_HOOKS", directory.join("hooks.py"));
    command.env("BOLT_TEST_ATTACK_SITE", directory.join("site.json"));
    command.env("BOLT_TEST_ATTACK_EXPLAINED", directory.join("explained"));
    let output = fs::File::create(said_path(directory)).expect("the file can be made");
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a descriptor"))
        .stderr(output);
    drop(fs::remove_file(&report));
    command.status().expect("schemathesis can be run");
    let text = fs::read_to_string(&report).unwrap_or_else(|e| panic!("no report: {e}: {}", said(directory)));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn said_path(directory: &Path) -> PathBuf {
    directory.join("said")
}

/// Returns what the tool printed.
fn said(directory: &Path) -> String {
    fs::read_to_string(said_path(directory)).unwrap_or_default()
}

/// Returns the number of errors in Hypothesis's optimiser, which reads beyond the end of its own list; the agent has no part in
/// them.
fn optimiser_errors(said: &str) -> u64 {
    let traces = said.split("Traceback (most recent call last):").skip(1);
    let is_own = |trace: &&str| {
        let frames = trace.lines().take_while(|line| !line.contains("IndexError: Index "));
        let last = frames.filter(|line| line.contains("  File \"")).map(str::trim).collect::<Vec<_>>();
        let begins = |from: usize, file: &str| last.iter().rev().nth(from).is_some_and(|line| line.contains(file));
        trace.contains("IndexError: Index ") && begins(0, "conjecture/data.py") && begins(1, "conjecture/optimiser.py")
    };
    traces.filter(is_own).count() as u64
}

/// Returns the part of the tool's output that tells findings, with the requests that reproduce them.
fn findings(said: &str) -> String {
    let from = [" ERRORS =", " FAILURES ="].iter().filter_map(|title| said.find(title)).min().unwrap_or(0);
    let text = &said[from..];
    text[..text.find(" WARNINGS =").unwrap_or(text.len())].to_owned()
}

/// Returns the agent's own counts of answers, by status.
fn answers(metrics: &str) -> BTreeMap<String, u64> {
    let mut answers = BTreeMap::new();
    for line in metrics.lines() {
        let Some((labels, count)) =
            line.strip_prefix("bolt_http_requests_total{").and_then(|rest| rest.split_once("} "))
        else {
            continue;
        };
        let status = labels.split("status=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        *answers.entry(status.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
    }
    answers
}

pub(super) fn memory_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kb.unwrap_or(0)
}

pub(super) fn descriptors(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::optimiser_errors;

    #[test]
    fn an_error_of_the_optimiser_is_the_tools_and_no_other() {
        let trace = |file: &str, error: &str| {
            format!(
                "Runtime Error\n\n    Traceback (most recent call last):\n      File \"/x/hypothesis/core.py\", line 1, in run\n        go()\n      \
                 File \"/x/hypothesis/internal/conjecture/{file}\", line 185, in attempt_replace\n        spans[j]\n      \
                 File \"/x/hypothesis/internal/conjecture/data.py\", line 579, in __getitem__\n    {error}\n"
            )
        };
        let own = trace("optimiser.py", "IndexError: Index 80 out of range [-78, 78)");
        assert_eq!(optimiser_errors(&own), 1);
        assert_eq!(optimiser_errors(&own.repeat(2)), 2);
        assert_eq!(optimiser_errors(&trace("optimiser.py", "OSError: connection reset")), 0);
        assert_eq!(optimiser_errors(&trace("engine.py", "IndexError: Index 80 out of range [-78, 78)")), 0);
        assert_eq!(optimiser_errors("Network Error\n\nConnection refused\n"), 0);
    }
}
