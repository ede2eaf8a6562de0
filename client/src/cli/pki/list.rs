//! `bolt pki list`: the journal of an authority.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AuthorityArgs, failure};
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal;
use crate::pki::{IssuedCertificate, JournalContent, journal_path};
use crate::show::{self, visible};
use crate::{errln, out, outln};

/// List what an authority has issued and revoked.
#[derive(Debug, Args)]
#[command(after_help = "\
The list is the authority's journal (ca.journal beside ca.pem); the key is not needed. Certificates whose validity has \
ended are shown with --all.

Examples:
  bolt pki list --ca ca
  bolt pki list --ca ca --name spiffe://example.org/ann --all
  bolt pki list --ca ca --json | jq -r '.[] | select(.state == \"revoked\") | .serial'")]
pub(in crate::cli) struct ListCommand {
    #[command(flatten)]
    authority: AuthorityArgs,
    /// Only certificates with this URI.
    #[arg(long, value_name = "URI")]
    name: Option<String>,
    /// Also certificates whose validity has ended.
    #[arg(long)]
    all: bool,
}

/// Runs `bolt pki list`.
pub(super) fn run(command: &ListCommand, json: bool) -> Result<Exit, Failure> {
    let path = journal_path(command.authority.path()?);
    let journal = JournalContent::read(&path).map_err(|e| failure(&e.into()))?;
    let now = Timestamp::now();
    let is_shown = |certificate: &&IssuedCertificate| {
        (command.all || certificate.not_after >= now)
            && command.name.as_ref().is_none_or(|name| certificate.uri.as_ref() == Some(name))
    };
    let shown = journal.certificates.iter().filter(is_shown);
    if json {
        let values: Vec<Value> = shown.map(|certificate| value(certificate, &journal, now)).collect();
        outln!("{}", show::json(&values));
        return Ok(Exit::Success);
    }
    let rows: Vec<Vec<String>> = shown.map(|certificate| row(certificate, &journal, now)).collect();
    if rows.is_empty() {
        errln!("no such certificate in {}", show::path(&path));
    } else {
        out!("{}", show::table(&["NAME", "STATE", "EXPIRES", "SERIAL"], &rows, terminal::width()));
    }
    if let Some(list) = journal.list {
        errln!("revocation list {} of {} is due again at {}", list.number, list.this_update, list.next_update);
    }
    Ok(Exit::Success)
}

fn state(certificate: &IssuedCertificate, journal: &JournalContent, now: Timestamp) -> &'static str {
    match journal.revocation(&certificate.serial) {
        Some(_) => "revoked",
        None if certificate.not_after < now => "expired",
        None => "valid",
    }
}

fn row(certificate: &IssuedCertificate, journal: &JournalContent, now: Timestamp) -> Vec<String> {
    let name = visible(certificate.uri.as_deref().unwrap_or(&certificate.subject));
    let reason = journal.revocation(&certificate.serial).map(|revoked| format!(" ({})", revoked.reason));
    let state = format!("{}{}", state(certificate, journal, now), reason.unwrap_or_default());
    vec![name, state, certificate.not_after.to_string(), certificate.serial.to_string()]
}

fn value(certificate: &IssuedCertificate, journal: &JournalContent, now: Timestamp) -> Value {
    let mut value = json!(certificate);
    value["state"] = json!(state(certificate, journal, now));
    if let Some(revoked) = journal.revocation(&certificate.serial) {
        value["revoked"] = json!({ "at": revoked.revoked_at.to_string(), "reason": revoked.reason });
    }
    value
}
