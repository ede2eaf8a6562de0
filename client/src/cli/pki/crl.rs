//! `bolt pki crl`: the list of revoked certificates, for agents.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{AuthorityArgs, failure};
use crate::cli::failure::{Exit, Failure};
use crate::cli::numbers::whole;
use crate::pki::crl_path;
use crate::show::{self, counted};
use crate::{errln, outln};

/// Make or renew the list of revoked certificates.
#[derive(Debug, Args)]
#[command(after_help = "\
The list (PEM) replaces the previous one atomically and has a higher number. A file that holds \
anything else is not replaced, and neither is a list whose revocations the new one would take back, \
as with an old copy of the journal.

Agents read the files that `crls` under [tls] of agent.toml names, notice a change within seconds, \
and keep the list in effect when they are given an older one.

Make the next list before this one is due, also when nothing was revoked: agents warn 30 days before that, and after it \
do as `expired_crl` in agent.toml says. An intermediate authority has a list of its own.

Examples:
  bolt pki crl --ca ca
  bolt pki crl --ca issuing --out /srv/bolt/crl.pem --days 90")]
pub(in crate::cli) struct CrlCommand {
    #[command(flatten)]
    authority: AuthorityArgs,
    /// File for the list [default: beside the authority's certificate, ca.crl for ca.pem].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Days until the next list is due; at most as long as the authority is valid.
    #[arg(long, default_value = "60", allow_negative_numbers = true, value_parser = whole::<u32>(1..=3650))]
    days: u32,
}

/// Runs `bolt pki crl`.
pub(super) fn run(command: &CrlCommand, json: bool) -> Result<Exit, Failure> {
    let authority = command.authority.load()?;
    let out = command.out.clone().unwrap_or(crl_path(command.authority.path()?));
    let (list, count) = authority.make_crl(&out, command.days).map_err(|e| failure(&e))?;
    if json {
        let value = json!({
            "crl": out, "number": list.number, "revoked": count,
            "this_update": list.this_update.to_string(), "next_update": list.next_update.to_string(),
        });
        outln!("{}", show::json(&value));
        return Ok(Exit::Success);
    }
    outln!("{}", show::path(&out));
    let certificates = counted(count, "certificate");
    errln!("list {} names {certificates}; the next one is due at {}", list.number, list.next_update);
    Ok(Exit::Success)
}
