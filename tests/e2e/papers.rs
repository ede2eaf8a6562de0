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
//! - `…` stands for any text in a line, and on a line of its own for any number of lines. Ids, digests, times, durations,
//!   sizes and ports match any other, and the order of lines is free.
//! - A command must succeed, unless the next command is `echo $?`.
//! - A block whose fence names a file (` ```yaml actions/usage.yaml `) is written to that file before what follows runs.
//! - The commands of one paper run in order, in one shell, in a checkout of its own with its own `HOME`.
//!
//! A command that cannot run here is listed in `exceptions.rs` with a reason, which the test prints.
//!
//! `BOLT_TEST_PAPERS=1` prints what each command printed: use it to write transcripts.

mod exceptions;
mod markdown;
mod prose;
mod reference;
mod sandbox;
mod transcript;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bolt_tests::binaries;

use exceptions::{NOT_RUN, SUBSTITUTIONS};
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

/// Returns the reason why a command of a paper is not run here, if it is listed.
fn exception(paper: &Path, command: &Command) -> Option<&'static str> {
    NOT_RUN.iter().find(|entry| entry.covers(paper, &command.text)).map(|entry| entry.why)
}

/// Runs the commands of a paper in order and compares what they print with what the paper shows.
fn run_paper(paper: &str, sandbox: &Sandbox) {
    let paper = Path::new(paper);
    let steps = markdown::parse(&read(paper)).unwrap_or_else(|problems| panic!("{}: {problems:#?}", paper.display()));
    let commands: Vec<&Command> = steps.iter().filter_map(Step::command).collect();
    let (skipped, run): (Vec<_>, Vec<_>) = commands.iter().partition(|command| exception(paper, command).is_some());
    let kept = |step: &&Step| step.command().is_none_or(|command| exception(paper, command).is_none());
    let outcomes = sandbox.run(&steps.iter().filter(kept).cloned().map(substituted).collect::<Vec<_>>());
    let mut report = std::io::stderr();
    for command in skipped {
        let why = exception(paper, command).unwrap_or_default();
        writeln!(report, "NOT RUN {}:{}: {}: {why}", paper.display(), command.line, command.first_line()).unwrap();
    }
    if std::env::var_os("BOLT_TEST_PAPERS").is_some() {
        for (command, outcome) in run.iter().zip(&outcomes) {
            writeln!(report, "$ {}\n{}[exit code {}]", command.text, outcome.output, outcome.status).unwrap();
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

/// Replaces the names that are another in the sandbox.
fn substituted(step: Step) -> Step {
    let replace = |text: String| SUBSTITUTIONS.iter().fold(text, |text, entry| text.replace(entry.shown, entry.run));
    match step {
        Step::Command(command) => Step::Command(Command { text: replace(command.text), ..command }),
        Step::File { line, path, text } => Step::File { line, path, text: replace(text) },
    }
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

/// Papers that a test above runs.
const RUN: [&str; 1] = ["packs-schema/README.md"];

/// Papers that do not follow the convention yet.
const LATER: [&str; 4] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"];

fn is_later(paper: &Path) -> bool {
    LATER.iter().any(|later| Path::new(later) == paper)
}

#[test]
fn every_command_is_run_or_listed() {
    let mut problems = Vec::new();
    let mut used = vec![false; NOT_RUN.len()];
    for paper in all_papers().into_iter().filter(|paper| !is_later(paper)) {
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
                Some(index) => used[index] = true,
                None if is_run => {}
                None => {
                    let text = command.first_line();
                    problems.push(format!("{}:{}: no test runs it: {text}", paper.display(), command.line));
                }
            }
        }
    }
    for (entry, _) in NOT_RUN.iter().zip(used).filter(|(_, used)| !used) {
        problems.push(format!("{}: no command begins with {:?}: remove it from NOT_RUN", entry.paper, entry.command));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
