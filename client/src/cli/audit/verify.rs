//! `bolt audit verify`: the chain of hashes of the audit log.

use std::str::FromStr;

use clap::Args;
use packs_schema::agent::audit::{Chain, Head};
use serde_json::{Value, json};

use super::{LogArgs, failure};
use crate::audit::{self, ChainFiles, Report};
use crate::cli::failure::{Exit, Failure};
use crate::outln;
use crate::show::{self, counted};

/// Verify the chain of hashes of an audit log.
#[derive(Debug, Args)]
#[command(after_help = "\
Each entry holds the hash of the one before: a change, a removal or an added entry breaks the chain. \
Broken as well are an entry of refusals in the chain of changes, or the other way round, an older \
file without an entry, and a chain of changes without an entry or a file.

Entries that were removed from the end, a chain of refusals that was removed, and a chain that was \
written again, are found only with a head that was kept elsewhere: keep what this command prints, or \
take sequence number and hash from the journal (journalctl -t bolt-audit _UID=$(id -u bolt)).

A last line without an end is what a power cut leaves, and a newest file without an entry what that \
or a full disk leaves; the agent removes both before it writes there again. Both are reported and \
are no errors: whether entries were removed there, only a head that was kept tells. \
Files that were rotated away are none either: the first file names the hash of its predecessor.

Exit code 0 when the chains are whole, 1 when one is broken, 5 when a file cannot be read.

Examples:
  bolt audit verify
  bolt audit verify --head 1042:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  bolt audit verify --json /srv/evidence/i-1/audit | jq -r '.[].head'")]
pub(in crate::cli) struct VerifyCommand {
    #[command(flatten)]
    log: LogArgs,
    /// Head that was kept elsewhere: sequence number and hash of an entry that must be there; repeatable. It is of the chain
    /// of changes, unless `refusals:` is before it.
    #[arg(long, value_name = "[CHAIN:]SEQ:HASH")]
    head: Vec<KeptHead>,
}

/// Head of a chain that was kept elsewhere.
#[derive(Debug, Clone, Copy)]
struct KeptHead {
    chain: Chain,
    head: Head,
}

impl FromStr for KeptHead {
    type Err = String;
    fn from_str(text: &str) -> Result<KeptHead, String> {
        let named = |chain: &Chain| text.strip_prefix(chain.as_str())?.strip_prefix(':').map(|rest| (*chain, rest));
        let (chain, rest) = Chain::ALL.iter().find_map(named).unwrap_or((Chain::Changes, text));
        rest.parse().map(|head| KeptHead { chain, head }).map_err(|error| error.to_string())
    }
}

/// Runs `bolt audit verify`.
pub(super) fn run(command: &VerifyCommand, json: bool) -> Result<Exit, Failure> {
    let mut chains = command.log.find()?;
    let is_directory = command.log.path.is_dir();
    // A chain of which a head was kept, and no file is there, has lost all entries. An agent begins that of changes at its start.
    for chain in command.head.iter().map(|kept| kept.chain).chain([Chain::Changes]).filter(|_| is_directory) {
        if !chains.iter().any(|files| files.chain == Some(chain)) {
            chains.push(ChainFiles { chain: Some(chain), files: vec![] });
        }
    }
    let is_verified = |kept: &&KeptHead| chains.iter().any(|files| files.chain.is_none_or(|chain| chain == kept.chain));
    if let Some(kept) = command.head.iter().find(|kept| !is_verified(kept)) {
        let path = show::path(&command.log.path);
        let message =
            format!("--head {}: it is of the chain of {}, and {path} is no file of that", kept.head, kept.chain);
        let hint = "name the directory, or a file of that chain; a head without refusals: before it is one of changes";
        return Err(Failure::new(Exit::Usage, message).hint(hint));
    }
    let mut reports = Vec::new();
    for files in &chains {
        // A file with a name of its own may be of either chain.
        let of_chain = |kept: &&KeptHead| files.chain.is_none_or(|chain| chain == kept.chain);
        let kept: Vec<Head> = command.head.iter().filter(of_chain).map(|kept| kept.head).collect();
        reports.push(audit::verify(files, &kept).map_err(|e| failure(&e))?);
    }
    if json {
        outln!("{}", show::json(&reports.iter().map(value).collect::<Vec<_>>()));
    } else {
        reports.iter().for_each(|report| outln!("{}", text(report)));
    }
    let is_whole = reports.iter().all(|report| report.broken.is_none());
    Ok(if is_whole { Exit::Success } else { Exit::Failed })
}

fn name(report: &Report) -> &'static str {
    report.chain.map_or("file", Chain::as_str)
}

fn text(report: &Report) -> String {
    let entries = counted(usize::try_from(report.entries).unwrap_or(usize::MAX), "entry").replace("entrys", "entries");
    let files = counted(report.files, "file");
    let mut lines = vec![match &report.broken {
        None if report.entries == 0 => format!("{}: nothing to verify, no entry in {files}", name(report)),
        None => format!("{}: whole, {entries} in {files}", name(report)),
        Some(broken) if report.files == 0 => format!("{}: BROKEN: {}", name(report), broken.problem),
        Some(broken) => format!(
            "{}: BROKEN at entry {}, {} line {}: {}",
            name(report),
            broken.sequence,
            show::path(&broken.file),
            broken.line,
            broken.problem
        ),
    }];
    match report.start {
        Some(start) if start.sequence > 1 => lines.push(format!(
            "  begins with entry {}; earlier ones were rotated away, the last of them with the hash {}",
            start.sequence, start.previous
        )),
        Some(_) => lines.push("  begins with entry 1".to_owned()),
        None => {}
    }
    if let Some(empty) = report.incomplete.as_ref().filter(|incomplete| incomplete.bytes == 0) {
        lines.push(format!(
            "  the newest file, {}, has no entry, as after a power cut or on a full disk; if entries were removed from it, only a \
             head that was kept tells",
            show::path(&empty.file)
        ));
    } else if let Some(incomplete) = &report.incomplete {
        lines.push(format!(
            "  the last line, {} line {}, has no end ({} bytes), as after a power cut: no call was answered before its entry was complete",
            show::path(&incomplete.file),
            incomplete.line,
            incomplete.bytes
        ));
    }
    if let Some(head) = report.head {
        let until = if report.broken.is_some() { "verified up to" } else { "head" };
        lines.push(format!("  {until} {head}"));
    }
    lines.join("\n")
}

fn value(report: &Report) -> Value {
    let broken = report.broken.as_ref().map(|broken| {
        json!({
            "file": broken.file, "line": broken.line, "sequence": broken.sequence, "code": broken.problem.as_str(),
            "message": broken.problem.to_string(),
        })
    });
    let incomplete = report.incomplete.as_ref();
    json!({
        "chain": report.chain.map(Chain::as_str),
        "whole": report.broken.is_none(),
        "files": report.files,
        "entries": report.entries,
        "first": report.start.map(|start| start.sequence),
        "predecessor": report.start.map(|start| start.previous.to_string()),
        "head": report.head.map(|head| head.to_string()),
        "broken": broken,
        "incomplete": incomplete.map(|i| json!({"file": i.file, "line": i.line, "bytes": i.bytes})),
    })
}
