//! Check of a disk state: an agent recovers it, and must have what had been heard by then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use super::{DiskStates, Heard, text};
use crate::machine::audit_log::{self, Expected};
use crate::machine::load::Api;
use crate::machine::power::unchanged;
use crate::machine::site::ID;
use crate::{World, spec};

/// Repairs the file system as a boot would, and gives the agent's state to an agent of this host.
pub(super) fn take_out(world: &World, state: &Path) -> Result<(), String> {
    let fsck = Command::new("e2fsck").args(["-f", "-y"]).arg(state).output().map_err(text)?;
    if !matches!(fsck.status.code(), Some(0 | 1)) {
        return Err(format!("e2fsck: {}", String::from_utf8_lossy(&fsck.stdout)));
    }
    let agent = world.path().join("agents").join(ID);
    if agent.exists() {
        fs::remove_dir_all(&agent).map_err(text)?;
    }
    fs::create_dir_all(&agent).map_err(text)?;
    let request = format!("rdump /var/lib/bolt {}", agent.display());
    let dump = Command::new("debugfs").arg("-R").arg(request).arg(state).output().map_err(text)?;
    let to = agent.join("state");
    fs::rename(agent.join("bolt"), &to).map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&dump.stderr)))?;
    let guest = fs::metadata(&to).map_err(text)?.uid();
    let api = world.site.accounts().ok_or("not root")?.api;
    // The account of the guest's api is that of this host's; all other owners stay.
    let mut left = vec![to];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).map_err(text)?;
        if meta.uid() == guest {
            std::os::unix::fs::lchown(&path, Some(api), Some(api)).map_err(text)?;
        }
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).map_err(text)?.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

/// Starts an agent on the state and checks what had been heard when the log ended at `end`. Returns every broken promise.
pub(super) async fn recovered(
    world: &World,
    ledger: &BTreeMap<String, Heard>,
    end: u64,
    figures: &mut DiskStates,
) -> Result<Vec<String>, String> {
    let mut broken = Vec::new();
    let executions = world.path().join("agents").join(ID).join("state/exec");
    let known = |name: &str| ledger.values().any(|heard| heard.accepted.1.id.as_str() == name);
    for entry in fs::read_dir(executions).map_err(text)?.flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() == 36 && !known(&name) {
            broken.push(format!("directory: {name} was never ordered"));
        }
    }
    broken.extend(rows(world, ledger, end)?.into_iter().map(|problem| format!("history: {problem}")));
    let expected = expected(ledger, end);
    let audit = world.path().join("agents").join(ID).join("state/audit");
    // A kill is on the disk before it is answered; an execution may still be marked in its row.
    let log = audit_log::read(&audit)?;
    figures.torn += u64::from(log.torn > 0);
    broken.extend(log.problems(&expected).into_iter().map(|problem| format!("audit, before the start: {problem}")));
    // World::start panics with the agent's log.
    let agent = world.start(&spec(ID));
    let api = Api { address: agent.address(), caller: world.site.operator() };
    let log = || {
        let log = fs::read_to_string(agent.log()).unwrap_or_default();
        log.lines().rev().take(8).collect::<Vec<_>>().join("\n")
    };
    for (key, heard) in ledger.iter().filter(|(_, heard)| heard.accepted.0 <= end) {
        match api.wait(heard.accepted.1.id.as_str()).await {
            Ok(_) => figures.found += 1,
            Err(error) => {
                broken.push(format!("agent: {key}: {error}"));
                continue;
            }
        }
        if let Some((at, told, output)) = &heard.told
            && *at <= end
        {
            match unchanged(&api, told, output).await {
                Ok(is_lost) => {
                    figures.ends += 1;
                    figures.outputs_lost += u64::from(is_lost);
                }
                Err(error) => broken.push(format!("agent: {key}: {error}\n{}", log())),
            }
        }
    }
    let log = audit_log::read(&audit)?;
    let ordered: BTreeSet<String> = ledger.values().map(|heard| heard.accepted.1.id.to_string()).collect();
    let lost = log.missing(&expected);
    figures.audited += (expected.runs.len() - lost.len() + expected.kills.len()) as u64;
    let problems = log.problems(&expected).into_iter().chain(lost).chain(log.unknown(&ordered));
    broken.extend(problems.map(|problem| format!("audit: {problem}")));
    Ok(broken)
}

/// Returns what the audit log must have of a disk whose log ended at `end`.
fn expected(ledger: &BTreeMap<String, Heard>, end: u64) -> Expected {
    let ids = |is_there: &dyn Fn(&Heard) -> bool| {
        ledger.values().filter(|heard| is_there(heard)).map(|heard| heard.accepted.1.id.to_string()).collect()
    };
    Expected {
        runs: ids(&|heard| heard.accepted.0 <= end),
        kills: ids(&|heard| heard.killed.is_some_and(|at| at <= end)),
    }
}

/// Program that prints what SQLite says of a history, and `<id> <end>` for each row.
const ROWS: &str = "import sqlite3, sys, uuid\n\
    history = sqlite3.connect(sys.argv[1])\n\
    print('check', history.execute('PRAGMA integrity_check').fetchone()[0])\n\
    rows = history.execute('SELECT id, created_at_ms + ended_after_ms FROM executions')\n\
    print(*('%s %s' % (uuid.UUID(bytes=id[-16:]), end or 0) for id, end in rows), sep='\\n')\n";

/// Checks that the history is whole and has a row of everything that was accepted, with the end of everything whose end was told,
/// before an agent repairs it from the directories: an answer follows its row to the disk. Returns every problem.
fn rows(world: &World, ledger: &BTreeMap<String, Heard>, end: u64) -> Result<Vec<String>, String> {
    // Of a copy: to read it recovers its log.
    let copy = tempfile::tempdir_in(world.path()).map_err(text)?;
    let state = world.path().join("agents").join(ID).join("state");
    for name in ["history.db", "history.db-wal"] {
        if state.join(name).exists() {
            fs::copy(state.join(name), copy.path().join(name)).map_err(text)?;
        }
    }
    let printed =
        Command::new("python3").args(["-c", ROWS]).arg(copy.path().join("history.db")).output().map_err(text)?;
    if !printed.status.success() {
        return Ok(vec![format!("it cannot be read: {}", String::from_utf8_lossy(&printed.stderr))]);
    }
    let printed = String::from_utf8_lossy(&printed.stdout);
    let rows: BTreeMap<&str, &str> = printed.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut missing = Vec::new();
    if rows.get("check") != Some(&"ok") {
        missing.push(format!("integrity_check says {:?}", rows.get("check")));
    }
    for (key, heard) in ledger.iter().filter(|(_, heard)| heard.accepted.0 <= end) {
        let id = heard.accepted.1.id.as_str();
        let told = heard.told.as_ref().filter(|(at, ..)| *at <= end).and_then(|(_, told, _)| told.ended_at_ms);
        match (rows.get(id), told) {
            (None, _) => missing.push(format!("{key}, {id}: accepted, and there is no row of it")),
            (Some(row), Some(told)) if **row != told.to_string() => {
                missing.push(format!("{key}, {id}: ended at {told}, and its row says {row}"));
            }
            _ => {}
        }
    }
    Ok(missing)
}
