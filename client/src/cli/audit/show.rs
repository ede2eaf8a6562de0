//! `bolt audit show`: entries of the audit log, by time.

use clap::Args;
use packs_schema::agent::audit::{Chain, Entry, Outcome, Record};
use serde_json::Value;

use super::{LogArgs, failure};
use crate::audit::{Entries, Listed};
use crate::cli::failure::{Exit, Failure};
use crate::cli::moment::{self, Moment};
use crate::show::{self, counted, visible, when};
use crate::{errln, outln};

/// List entries of an audit log.
#[derive(Debug, Args)]
#[command(after_help = "\
Entries of both chains, changes and refusals, by time. They are not verified: `bolt audit verify` does that.

An entry is written before the call is carried out (accepted), or after it (done, failed). Events of the agent itself are \
`start`; `load` and `reload` of a file of its configuration, failed if the content is not in effect; and `change` of \
agent.toml, which the next start reads. Of equal refusals within a minute the first has an entry, and one more has the \
count of the others. With --json, one object for each line. \
`recover` is about the files of the log: damage that was found, or a disk that took no entry.

Exit code 1 when a line is no entry, 5 when a file cannot be read.

Examples:
  bolt audit show --since 2h
  bolt audit show --refused --principal spiffe://example/ann
  bolt audit show --verb run,kill --json | jq -r '[.at_ms, .principal, .action] | @tsv'")]
pub(in crate::cli) struct ShowCommand {
    #[command(flatten)]
    log: LogArgs,
    /// Only entries of this time or later.
    #[arg(long, value_name = "TIME", long_help = format!("Only entries of this time or later.\n\n{}", moment::FORMS))]
    since: Option<Moment>,
    /// Only entries before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Only entries of this caller.
    #[arg(long, value_name = "URI")]
    principal: Option<String>,
    /// Only entries of these verbs, such as run,kill,sync,push,reload.
    #[arg(long, value_name = "VERB", value_delimiter = ',')]
    verb: Vec<String>,
    /// Only refused calls.
    #[arg(long)]
    refused: bool,
}

/// Runs `bolt audit show`.
pub(super) fn run(command: &ShowCommand, json: bool) -> Result<Exit, Failure> {
    let mut entries = Entries::new(command.log.find()?);
    let (mut unreadable, mut shown) = (0, 0);
    while let Some(listed) = entries.next_entry().map_err(|e| failure(&e))? {
        match listed {
            Listed::Unreadable(path, line) => {
                unreadable += 1;
                errln!("{} line {line} is not an entry", show::path(&path));
            }
            Listed::Entry(entry) if command.wants(&entry.1.entry) => {
                let (chain, record, value) = *entry;
                let line = if json { json_line(chain, value) } else { text(&record) };
                outln!("{line}");
                shown += 1;
            }
            Listed::Entry(_) => {}
        }
    }
    if unreadable > 0 {
        errln!("{} could not be read: `bolt audit verify` says more", counted(unreadable, "line"));
        return Ok(Exit::Failed);
    }
    if shown == 0 {
        errln!("no entries match");
    }
    Ok(Exit::Success)
}

impl ShowCommand {
    fn wants(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.at_ms >= since.ms())
            && self.until.is_none_or(|until| entry.at_ms < until.ms())
            && self.principal.as_ref().is_none_or(|principal| entry.principal.as_ref() == Some(principal))
            && (self.verb.is_empty() || self.verb.contains(&entry.verb))
            && (!self.refused || entry.outcome == Outcome::Refused)
    }
}

fn json_line(chain: Option<Chain>, mut value: Value) -> String {
    if let (Some(chain), Some(fields)) = (chain, value.as_object_mut()) {
        fields.insert("chain".to_owned(), chain.as_str().into());
    }
    show::json_line(&value)
}

fn text(record: &Record) -> String {
    let Entry {
        at_ms,
        verb,
        outcome,
        principal,
        local,
        action,
        execution,
        version,
        digest,
        parameters,
        noop,
        run,
        note,
        request,
        code,
        detail,
        count,
        first_ms,
    } = &record.entry;
    let who = principal.as_deref().unwrap_or(if *local { "local" } else { "-" });
    let mut line = format!("{} #{} {verb} {} by {who}", when::at(*at_ms), record.sequence, outcome.as_str());
    if let Some(action) = action {
        line.push_str(&format!(" on {action}"));
    }
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line.push_str(&format!("  {name}={value}"));
        }
    };
    field("code", code.clone());
    field("execution", execution.as_ref().map(ToString::to_string));
    field("version", version.clone());
    field("digest", digest.as_ref().map(|digest| digest.chars().take(12).collect()));
    field("parameters", parameters.as_ref().map(|parameters| parameters.names.join(",")));
    field("noop", noop.then(|| "true".to_owned()));
    field("run", run.as_ref().map(ToString::to_string));
    field("count", count.map(|count| count.to_string()));
    field("since", first_ms.map(when::at));
    field("request", request.clone());
    field("note", note.as_ref().map(|note| format!("{note:?}")));
    field("detail", detail.as_ref().map(|detail| format!("{detail:?}")));
    visible(&line)
}
