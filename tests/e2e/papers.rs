//! Papers: every command in every README and other Markdown file of the repository is run here.
//!
//! ```text
//!  README.md ──markdown──▶ steps: a command with the output shown below it │ a file to write
//!                             └──sandbox──▶ one bash per paper ──transcript──▶ compared with what is shown
//! ```
//!
//! The convention for authors:
//!
//! - Commands are in fenced blocks of language `console`, each after `$ `. A backslash at the end of a line continues the
//!   command, and so does a here-document. What follows up to the next `$ ` is the output; without any, none is compared.
//! - `…` matches any text in a line, and on a line of its own for any number of lines. Ids, digests, times, durations,
//!   sizes and ports match any other, and the order of lines is free.
//! - A command must succeed, unless the next command is `echo $?`.
//! - A block whose fence names a file (` ```yaml actions/usage.yaml `) is written to that file before what follows runs.
//! - The commands of one paper run in order, in one shell, in a checkout of its own with its own `HOME`.
//!
//! A command that cannot run here is listed in `exceptions.rs` with a reason, which the test prints; so is what runs with
//! other names or counts.
//!
//! `BOLT_TEST_PAPERS=1` with `--nocapture` prints what each command printed: use it to write transcripts.

mod exceptions;
mod host;
mod manual;
mod markdown;
mod mentions;
mod prose;
mod reference;
mod sandbox;
mod threats;
mod transcript;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bolt_tests::{binaries, skip};

use exceptions::{INSTEAD, NOT_RUN};
use markdown::{Command, Step};
use sandbox::{Outcome, Sandbox};

/// Returns the root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above")
}

/// Returns every Markdown file of the repository, relative to its root, sorted.
fn all_papers() -> Vec<PathBuf> {
    let (mut papers, mut directories) = (Vec::new(), vec![root().to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && !name.starts_with('.') {
                    directories.push(path);
                }
            } else if name.ends_with(".md") {
                papers.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    papers.sort();
    papers
}

fn read(paper: &Path) -> String {
    fs::read_to_string(root().join(paper)).unwrap()
}

/// True if a command of a paper is listed as one that is not run here.
fn is_exception(paper: &Path, command: &Command) -> bool {
    NOT_RUN.iter().any(|entry| entry.covers(paper, &command.text))
}

/// Runs the commands of a paper in order and compares what they print with what the paper shows.
fn run_paper(paper: &str, sandbox: &Sandbox) {
    let paper = Path::new(paper);
    let steps = markdown::parse(&read(paper)).unwrap_or_else(|problems| panic!("{}: {problems:#?}", paper.display()));
    let is_run = |step: &&Step| step.command().is_none_or(|command| !is_exception(paper, command));
    let steps: Vec<&Step> = steps.iter().filter(is_run).collect();
    let run: Vec<&Command> = steps.iter().filter_map(|step| step.command()).collect();
    let outcomes = sandbox.run(&steps.iter().map(|step| substituted(paper, (*step).clone())).collect::<Vec<_>>());
    if std::env::var_os("BOLT_TEST_PAPERS").is_some() {
        for (command, outcome) in run.iter().zip(&outcomes) {
            eprintln!("$ {}\n{}[exit code {}]", command.text, outcome.output, outcome.status);
        }
    }
    let mut problems = Vec::new();
    for (index, command) in run.iter().enumerate() {
        let reads_status = run.get(index + 1).is_some_and(|next| next.text.starts_with("echo $?"));
        let Some(outcome) = outcomes.get(index) else {
            problems.push(format!("{}:{}: was not reached: {}", paper.display(), command.line, command.text));
            break;
        };
        if let Err(problem) = judge(command, outcome, reads_status) {
            let Outcome { status, output } = outcome;
            let shown = format!("$ {}\n{output}[exit code {status}]", command.text);
            problems.push(format!("{}:{}: {problem}\n{shown}", paper.display(), command.line));
        }
    }
    assert!(problems.is_empty(), "{} of {} commands:\n{}", problems.len(), run.len(), problems.join("\n\n"));
    assert_eq!(run.len(), outcomes.len());
}

/// Replaces the parts of commands that are others here.
fn substituted(paper: &Path, step: Step) -> Step {
    let Step::Command(command) = step else { return step };
    let entries = INSTEAD.iter().filter(|entry| Path::new(entry.paper) == paper);
    let text = entries.fold(command.text, |text, entry| text.replace(entry.shown, entry.run));
    Step::Command(Command { text, ..command })
}

fn judge(command: &Command, outcome: &Outcome, reads_status: bool) -> Result<(), String> {
    if outcome.status != 0 && !reads_status {
        return Err("failed".to_owned());
    }
    match &command.shown {
        Some(shown) => transcript::compare(shown, &outcome.output),
        None => Ok(()),
    }
}

#[test]
fn the_commands_of_the_pack_author() {
    binaries();
    run_paper("packs-schema/README.md", &Sandbox::checkout());
}

#[test]
fn the_commands_of_the_rest_interface() {
    if tools_or_skip("the_commands_of_the_rest_interface", &["curl", "jq"]) {
        binaries();
        run_paper("agent/README.md", &Sandbox::checkout());
    }
}

#[test]
fn the_commands_of_the_operator() {
    let Some(sandbox) = host::sandbox() else {
        return skip("the_commands_of_the_operator", "it takes root, unshare, overlay file systems and limits");
    };
    binaries();
    run_paper("systemd/README.md", &sandbox);
    drop(sandbox);
    host::remove_cgroups();
}

/// Starts the fleet of the README's first transcript, and makes the snapshots that the demo's own story has removed.
const FLEET: &str = r#"
bolt demo --keep --directory "$HOME/fleet" >"$HOME/fleet.log" 2>&1
export BOLT_CLIENT_CONFIG="$HOME/fleet/client.toml"
for data in "$HOME"/fleet/agents/*/cassandra/data; do
    for table in users/profiles-5f1c users/sessions-77ab billing/invoices-03de; do
        mkdir -p "$data/$table/snapshots/old"
        head -c 200000 /dev/zero >"$data/$table/snapshots/old/nb-1-big-Data.db"
        touch -d '41 days ago' "$data/$table/snapshots/old" "$data/$table/snapshots/old/nb-1-big-Data.db"
        chown -R --reference="$data" "$data/$table/snapshots/old"
    done
done
"#;

#[test]
fn the_commands_of_the_readme() {
    binaries();
    let mut sandbox = Sandbox::checkout();
    sandbox.enter(&[], FLEET.to_owned());
    run_paper("README.md", &sandbox);
}

#[test]
fn the_commands_of_callers_and_publishers() {
    if tools_or_skip("the_commands_of_callers_and_publishers", &["jq"]) {
        binaries();
        run_paper("client/README.md", &Sandbox::checkout());
    }
}

#[test]
fn the_commands_of_the_inventories() {
    let test = "the_commands_of_the_inventories";
    let Some(moto) = std::env::var_os("BOLT_MOTO_SERVER").map(PathBuf::from).filter(|program| program.exists()) else {
        return skip(test, "BOLT_MOTO_SERVER is not set");
    };
    binaries();
    let sandbox = Sandbox::checkout();
    let environment = moto.ancestors().nth(2).expect("it is <environment>/bin/moto_server");
    std::os::unix::fs::symlink(environment, sandbox.path("bolt/moto")).unwrap();
    run_paper("client/examples/inventory/README.md", &sandbox);
}

#[test]
fn the_commands_of_the_evidence() {
    binaries();
    run_paper("tests/README.md", &Sandbox::checkout());
}

/// Returns false, and says so, when a program that a paper uses is not installed.
fn tools_or_skip(test: &str, tools: &[&str]) -> bool {
    let is_there = |tool: &&&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
    };
    let missing: Vec<&&str> = tools.iter().filter(|tool| !is_there(tool)).collect();
    if !missing.is_empty() {
        skip(test, &format!("not installed: {missing:?}"));
    }
    missing.is_empty()
}

/// Papers that a test above runs.
const RUN: [&str; 7] = [
    "README.md",
    "agent/README.md",
    "client/README.md",
    "client/examples/inventory/README.md",
    "packs-schema/README.md",
    "systemd/README.md",
    "tests/README.md",
];

#[test]
fn every_command_is_run_or_listed() {
    let mut problems = Vec::new();
    let mut used = vec![false; NOT_RUN.len()];
    for paper in all_papers() {
        let steps = match markdown::parse(&read(&paper)) {
            Ok(steps) => steps,
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| format!("{}:{problem}", paper.display())));
                continue;
            }
        };
        let is_run = RUN.iter().any(|run| Path::new(run) == paper);
        for command in steps.iter().filter_map(Step::command) {
            match NOT_RUN.iter().position(|entry| entry.covers(&paper, &command.text)) {
                Some(index) => {
                    used[index] = true;
                    let (line, why) = (command.line, NOT_RUN[index].why);
                    // Past the capture of the test runner.
                    let (paper, text) = (paper.display(), command.first_line());
                    let listed = format!("NOT RUN {paper}:{line}: {text}: {why}\n");
                    std::io::stderr().write_all(listed.as_bytes()).unwrap();
                }
                None if is_run => {}
                None => {
                    let text = command.first_line();
                    problems.push(format!("{}:{}: no test runs it: {text}", paper.display(), command.line));
                }
            }
        }
    }
    for entry in INSTEAD.iter().filter(|entry| !read(Path::new(entry.paper)).contains(entry.shown)) {
        problems.push(format!("{}: nothing reads {:?}: remove it from INSTEAD", entry.paper, entry.shown));
    }
    for (entry, _) in NOT_RUN.iter().zip(used).filter(|(_, used)| !used) {
        problems.push(format!("{}: no command begins with {:?}: remove it from NOT_RUN", entry.paper, entry.command));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
