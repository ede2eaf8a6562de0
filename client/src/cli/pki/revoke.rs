//! `bolt pki revoke`: certificates that are no longer to be accepted.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args};
use serde_json::json;

use super::{AuthorityArgs, failure};
use crate::cli::failure::{Exit, Failure};
use crate::pki::{Revocable, RevocationReason, Revoked, Serial, crl_path};
use crate::show::{self, visible};
use crate::{errln, outln};

/// Revoke certificates.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["certificates", "serial", "name"]))]
#[command(after_help = "\
Records revocations in the authority's journal: of all that are named, or of none if one of them is an error. They take \
effect when agents have the next revocation list: make it with `bolt pki crl`, and install it as a file that `crls` under \
[tls] of agent.toml names. Agents then refuse the certificates and close open connections that use them.

--name revokes every certificate with this URI that is still valid. With the reason key-compromise or ca-compromise, all \
other valid certificates of the same key are revoked as well, such as those from before a renewal. To revoke a certificate \
that is already revoked changes nothing.

Examples:
  bolt pki revoke lost-laptop.pem --ca ca --reason key-compromise
  bolt pki revoke --serial 01932f7a5c3e7d02b1d0c64f2b9a8e11 --ca ca
  bolt pki revoke --name spiffe://example.org/ann --ca ca --reason cessation-of-operation")]
pub(in crate::cli) struct RevokeCommand {
    /// Files with certificates; only the first certificate of each is revoked.
    #[arg(value_name = "CERTIFICATE")]
    certificates: Vec<PathBuf>,
    /// Serial number, as printed by `bolt pki list` and `bolt pki show`; repeatable.
    #[arg(long, value_name = "HEX")]
    serial: Vec<Serial>,
    /// URI of an instance or a caller; repeatable.
    #[arg(long, value_name = "URI")]
    name: Vec<String>,
    #[command(flatten)]
    authority: AuthorityArgs,
    /// Reason, which the revocation list contains.
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
    let named: Vec<Revocable> = files.chain(serials).chain(names).collect();
    let all = authority.revoke(&named, reason).map_err(|e| failure(&e))?;
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
    let ca = command.authority.path()?;
    errln!("next: run `bolt pki crl --ca {}`, and give {} to the agents", show::path(ca), show::path(&crl_path(ca)));
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
