//! `bolt pki revoke`: certificates that are no longer to be accepted.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args};
use serde_json::json;

use super::{AuthorityArgs, failure};
use crate::cli::failure::{Exit, Failure};
use crate::pki::{Authority, Revocable, RevocationReason, Revoked, Serial};
use crate::show::{self, visible};
use crate::{errln, outln};

/// Revoke certificates.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["certificates", "serial", "name"]))]
#[command(after_help = "\
The revocation is written to the authority's journal. Agents refuse the certificate once they have the next revocation
list: run `bolt pki crl` and give them its file, which `crls` under [tls] of agent.toml names. Open connections end, too.
Revoking a certificate again changes nothing. --name takes every certificate of that name in the journal that is still
valid. A reason of compromise also revokes all other certificates of the same key, such as those before a renewal.

Examples:
  bolt pki revoke lost-laptop.pem --ca ca --reason key-compromise
  bolt pki revoke --serial 01932f7a5c3e7d02b1d0c64f2b9a8e11 --ca ca
  bolt pki revoke --name spiffe://example.org/ann --ca ca --reason cessation-of-operation")]
pub(in crate::cli) struct RevokeCommand {
    /// Files of certificates; of a file with a chain, the first one.
    #[arg(value_name = "CERTIFICATE")]
    certificates: Vec<PathBuf>,
    /// A serial number, as `bolt pki list` and `bolt pki show` print it; repeatable.
    #[arg(long, value_name = "HEX")]
    serial: Vec<Serial>,
    /// The URI of an instance or caller; repeatable.
    #[arg(long, value_name = "URI")]
    name: Vec<String>,
    #[command(flatten)]
    authority: AuthorityArgs,
    /// Why: it is part of the list.
    #[arg(long, default_value = "unspecified", value_parser = reasons())]
    reason: String,
}

fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(RevocationReason::ALL.iter().map(|reason| reason.name()))
}

/// Runs `bolt pki revoke`.
pub(super) fn run(command: &RevokeCommand, json: bool) -> Result<Exit, Failure> {
    let authority = command.authority.load()?;
    let named = RevocationReason::ALL.iter().find(|reason| reason.name() == command.reason);
    let reason = named.copied().unwrap_or(RevocationReason::Unspecified);
    let files = command.certificates.iter().cloned().map(Revocable::File);
    let serials = command.serial.iter().cloned().map(Revocable::Serial);
    let names = command.name.iter().cloned().map(Revocable::Uri);
    let mut all = Vec::new();
    for what in files.chain(serials).chain(names) {
        all.extend(authority.revoke(&what, reason).map_err(|e| failure(&e))?);
    }
    if json {
        let values: Vec<_> = all.iter().map(value).collect();
        outln!("{}", show::json(&values));
        return Ok(Exit::Success);
    }
    for revoked in &all {
        outln!("{}  {}", revoked.certificate.serial, name(revoked));
        if revoked.already {
            let (at, reason) = (revoked.revocation.revoked_at, revoked.revocation.reason);
            errln!("{} was revoked before, at {at:.0} ({reason})", revoked.certificate.serial);
        }
    }
    say_next(&authority);
    Ok(Exit::Success)
}

fn name(revoked: &Revoked) -> String {
    visible(revoked.certificate.uri.as_deref().unwrap_or(&revoked.certificate.subject))
}

fn value(revoked: &Revoked) -> serde_json::Value {
    let Revoked { certificate, revocation, already } = revoked;
    json!({
        "serial": certificate.serial, "name": certificate.uri, "subject": certificate.subject,
        "reason": revocation.reason, "revoked_at": format!("{:.0}", revocation.revoked_at), "already": already,
    })
}

fn say_next(authority: &Authority) {
    if let Some(journal) = authority.journal() {
        let ca = show::path(&journal.with_extension("pem"));
        errln!("next: bolt pki crl --ca {ca}, and give the list to the agents");
    }
}
