//! The audit log after a power cut: verified as `bolt audit verify` does, and compared with what was answered before the cut.
//!
//! - Both chains are whole. A last line without an end may be left; the agent removes it at its next start and records that.
//! - Each accepted execution has one entry once the agent has started again, and each answered kill has one on the disk.
//! - No execution has two, and none that was not ordered has one.
//!
//! [`controls`] spoils copies of the files, which must be found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bolt_client::audit::{AuditError, Entries, Listed, find, verify};
use packs_schema::agent::audit::{Chain, Outcome, RECOVER};

use super::vm::Vm;

/// Changes that the log must have.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    /// Accepted executions.
    pub(super) runs: BTreeSet<String>,
    /// Executions whose kill was answered.
    pub(super) kills: BTreeSet<String>,
}

/// Content of a log, and what is wrong with its chains.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Number of entries of each accepted execution.
    runs: BTreeMap<String, u64>,
    kills: BTreeSet<String>,
    /// Entries of changes and of refusals.
    pub(super) entries: (u64, u64),
    /// Incomplete last lines that an agent has removed, or that are there.
    pub(super) torn: u64,
    broken: Vec<String>,
}

/// Copies the guest's files into `directory`, which is emptied first. The agent may be writing.
pub(super) fn copy_out(vm: &mut Vm, directory: &Path) -> Result<(), String> {
    let archive = vm.ok("tar -C /var/lib/bolt/audit --warning=no-file-changed -cz . | base64 -w0")?;
    let archive = BASE64_STANDARD.decode(archive.trim()).map_err(|e| format!("the audit log: {e}"))?;
    empty(directory)?;
    let mut tar = Command::new("tar");
    tar.arg("-xzC").arg(directory).stdin(Stdio::piped());
    let mut tar = tar.spawn().map_err(text)?;
    let written = tar.stdin.take().map(|mut input| input.write_all(&archive));
    let status = tar.wait().map_err(text)?;
    match (written, status.success()) {
        (Some(Ok(())), true) => Ok(()),
        (written, _) => Err(format!("the audit log cannot be unpacked: {written:?}, {status}")),
    }
}

/// Reads and verifies the files in a directory.
pub(super) fn read(directory: &Path) -> Result<Log, String> {
    let chains = match find(directory) {
        Err(AuditError::Nothing(_)) => Vec::new(),
        found => found.map_err(text)?,
    };
    let (mut log, mut torn) = (Log::default(), Vec::new());
    if chains.iter().all(|files| files.chain != Some(Chain::Changes)) {
        log.broken.push("there is no chain of changes".to_owned());
    }
    for files in &chains {
        let report = verify(files, &[]).map_err(text)?;
        match files.chain {
            Some(Chain::Refusals) => log.entries.1 += report.entries,
            _ => log.entries.0 += report.entries,
        }
        if let Some(incomplete) = report.incomplete {
            log.torn += 1;
            torn.push((incomplete.file, incomplete.line));
        }
        if let Some(broken) = report.broken {
            let name = files.chain.map_or("file", Chain::as_str);
            let (sequence, line) = (broken.sequence, broken.line);
            log.broken.push(format!(
                "{name} entry {sequence}, {} line {line}: {}",
                broken.file.display(),
                broken.problem
            ));
        }
    }
    let mut entries = Entries::new(chains);
    while let Some(listed) = entries.next_entry().map_err(text)? {
        let entry = match listed {
            Listed::Entry(entry) => entry.1.entry,
            // Left by a cut.
            Listed::Unreadable(path, line) if torn.contains(&(path.clone(), line)) => continue,
            Listed::Unreadable(path, line) => {
                log.broken.push(format!("{} line {line} is no entry", path.display()));
                continue;
            }
        };
        match (entry.verb.as_str(), entry.execution, entry.outcome) {
            ("run", Some(execution), Outcome::Accepted) => *log.runs.entry(execution.to_string()).or_default() += 1,
            ("kill", Some(execution), Outcome::Accepted) => _ = log.kills.insert(execution.to_string()),
            (verb, ..) if verb == RECOVER && entry.outcome == Outcome::Done => log.torn += 1,
            (verb, ..) if verb == RECOVER => log.broken.push(format!("the agent found {:?}", entry.detail)),
            _ => {}
        }
    }
    Ok(log)
}

impl Log {
    /// Returns what is wrong, whether or not the agent has completed the log: a broken chain, an execution that is there twice, and
    /// a kill that was answered and is not there.
    pub(super) fn problems(&self, expected: &Expected) -> Vec<String> {
        let broken = self.broken.iter().cloned();
        let twice = self.runs.iter().filter(|(_, count)| **count > 1);
        let twice = twice.map(|(id, count)| format!("{id} has {count} entries"));
        let killed = expected.kills.difference(&self.kills).map(|id| format!("no entry of the answered kill of {id}"));
        broken.chain(twice).chain(killed).collect()
    }

    /// Returns the accepted executions without an entry: none once the agent has started again.
    pub(super) fn missing(&self, expected: &Expected) -> Vec<String> {
        let missing = expected.runs.iter().filter(|id| !self.runs.contains_key(*id));
        missing.map(|id| format!("no entry of the accepted execution {id}")).collect()
    }

    /// Returns the executions with an entry that `ordered` lacks.
    pub(super) fn unknown(&self, ordered: &BTreeSet<String>) -> Vec<String> {
        let unknown = self.runs.keys().filter(|id| !ordered.contains(*id));
        unknown.map(|id| format!("an entry of {id}, which was not ordered")).collect()
    }
}

/// Spoils copies of the files in `directory` and returns the name of each, and what is wrong with it: an entry that is removed,
/// one that is changed, and a log that ends before the last accepted execution.
pub(super) fn controls(directory: &Path, expected: &Expected) -> Result<Vec<(&'static str, Vec<String>)>, String> {
    let path = newest(directory)?;
    let content = fs::read_to_string(&path).map_err(text)?;
    let lines: Vec<&str> = content.split_inclusive('\n').collect();
    let is_run = |line: &str| line.contains("\"verb\":\"run\"");
    let runs: Vec<usize> = (0..lines.len()).filter(|at| is_run(lines[*at])).collect();
    let (Some(middle), Some(last)) = (runs.get(runs.len() / 2).copied(), runs.last().copied()) else {
        return Err("the audit log has no execution to spoil".to_owned());
    };
    let removed: String = lines.iter().enumerate().filter(|(at, _)| *at != middle).map(|(_, line)| *line).collect();
    let changed = lines[middle].replacen("/operator\"", "/operatoR\"", 1);
    if changed == lines[middle] {
        return Err(format!("no principal to change in {changed:?}"));
    }
    let changed: String =
        lines.iter().enumerate().map(|(at, line)| if at == middle { changed.as_str() } else { *line }).collect();
    let copy = directory.with_extension("control");
    let mut found = Vec::new();
    for (name, spoiled) in
        [("an entry removed", removed), ("an entry changed", changed), ("an end cut off", lines[..last].concat())]
    {
        empty(&copy)?;
        for entry in fs::read_dir(directory).map_err(text)?.flatten() {
            fs::copy(entry.path(), copy.join(entry.file_name())).map_err(text)?;
        }
        fs::write(copy.join(path.file_name().unwrap_or_default()), spoiled).map_err(text)?;
        let log = read(&copy)?;
        found.push((name, log.problems(expected).into_iter().chain(log.missing(expected)).collect()));
    }
    Ok(found)
}

/// Returns the newest file of changes.
fn newest(directory: &Path) -> Result<PathBuf, String> {
    let chains = find(directory).map_err(text)?;
    let changes = chains.into_iter().find(|files| files.chain == Some(Chain::Changes));
    let path = changes.and_then(|files| files.files.into_iter().next_back());
    path.map(|(_, path)| path).ok_or_else(|| "there is no chain of changes".to_owned())
}

fn empty(directory: &Path) -> Result<(), String> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(text)?;
    }
    fs::create_dir_all(directory).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use packs_schema::agent::audit::{Entry, Head, seal};
    use packs_schema::base::name::ExecutionId;

    use super::*;

    const IDS: [&str; 3] = [
        "019f0c3e-7b50-7000-8000-000000000001",
        "019f0c3e-7b50-7000-8000-000000000002",
        "019f0c3e-7b50-7000-8000-000000000003",
    ];

    /// Writes a chain of these changes; returns its file.
    fn chain(directory: &Path, changes: &[(&str, &str)]) -> PathBuf {
        let (mut head, mut content) = (Head::EMPTY, String::new());
        for (verb, id) in changes {
            let execution = Some(id.parse::<ExecutionId>().unwrap());
            let entry =
                Entry { execution, ..Entry::new(1, *verb, Outcome::Accepted) }.by("spiffe://bolt.local/operator");
            let (line, next) = seal(&head, &entry);
            content.push_str(&line);
            head = next;
        }
        let path = directory.join(Chain::Changes.file_name(1));
        fs::write(&path, content).unwrap();
        path
    }

    fn expected(runs: &[&str], kills: &[&str]) -> Expected {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        Expected { runs: set(runs), kills: set(kills) }
    }

    #[test]
    fn a_torn_last_line_is_no_problem_and_what_was_answered_may_not_be_missing() {
        let temp = tempfile::tempdir().unwrap();
        let path = chain(temp.path(), &[("run", IDS[0]), ("kill", IDS[0]), ("run", IDS[1])]);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"seq\":4,\"prev\"")).unwrap();
        let log = read(temp.path()).unwrap();
        let good = expected(&IDS[..2], &IDS[..1]);
        assert_eq!((log.problems(&good), log.missing(&good), log.torn), (vec![], vec![], 1));
        assert!(log.problems(&expected(&IDS, &IDS[1..2]))[0].contains(IDS[1]));
        assert!(log.missing(&expected(&IDS, &[]))[0].contains(IDS[2]));
        assert!(log.unknown(&expected(&IDS[..1], &[]).runs)[0].contains(IDS[1]));
        chain(temp.path(), &[("run", IDS[0]), ("run", IDS[0])]);
        assert_eq!(read(temp.path()).unwrap().problems(&Expected::default()).len(), 1);
    }

    #[test]
    fn each_spoiled_copy_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("audit");
        fs::create_dir(&directory).unwrap();
        chain(&directory, &[("run", IDS[0]), ("run", IDS[1]), ("run", IDS[2])]);
        let found = controls(&directory, &expected(&IDS, &[])).unwrap();
        assert_eq!(found.len(), 3);
        found.iter().for_each(|(name, problems)| assert!(!problems.is_empty(), "{name}"));
        assert!(found[2].1 == [format!("no entry of the accepted execution {}", IDS[2])], "{found:?}");
    }
}
