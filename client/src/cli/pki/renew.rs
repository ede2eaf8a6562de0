//! `bolt pki renew`: a new certificate for the names of an old one.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{AuthorityArgs, ValidityArgs, failure};
use crate::cli::failure::{Exit, Failure};
use crate::pki::Renewed;
use crate::show;
use crate::{errln, outln};

/// Make a new certificate for the names of an old one.
#[derive(Debug, Args)]
#[command(after_help = "\
The old certificate must be of this authority; it may have expired. It is replaced atomically and keeps its owner and mode;
agents notice the change by themselves. The key stays the same unless --new-key names it.

Examples:
  bolt pki renew /etc/bolt/tls/i-0abc.pem --ca /root/bolt-ca
  bolt pki renew me.pem --ca ca/ca.pem --new-key me.key --days 30
  bolt pki renew ca/ca.pem --ca ca --days 3650          the authority itself: give the new ca.pem to agents and clients")]
pub(in crate::cli) struct RenewCommand {
    /// The certificate to renew.
    certificate: PathBuf,
    #[command(flatten)]
    authority: AuthorityArgs,
    /// Make a new key, too, in place of the one in this file.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    new_key: Option<PathBuf>,
    /// Write the new certificate to this new file instead of replacing the old one.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    validity: ValidityArgs,
}

/// Runs `bolt pki renew`.
pub(super) fn run(command: &RenewCommand, json: bool) -> Result<Exit, Failure> {
    let authority = command.authority.load()?;
    let key = command.new_key.as_deref();
    let renewal = authority.renew(&command.certificate, command.validity.validity(), key.is_some());
    let renewal = renewal.map_err(|e| failure(&e))?;
    let written: &Path = match &command.out {
        Some(out) => {
            renewal.write_new(out).map_err(|e| failure(&e))?;
            out
        }
        None => {
            renewal.replace(&command.certificate, key).map_err(|e| failure(&e))?;
            &command.certificate
        }
    };
    let name = match &renewal.renewed {
        Renewed::Leaf(subject) => subject.uri(),
        Renewed::Authority => "the authority".to_owned(),
    };
    if json {
        let value = json!({ "certificate": written, "key": key, "name": name, "key_sha256": renewal.fingerprint });
        outln!("{}", show::json(&value));
        return Ok(Exit::Success);
    }
    outln!("{}", show::path(written));
    key.iter().for_each(|key| outln!("{}", show::path(key)));
    match renewal.renewed {
        Renewed::Leaf(_) => errln!("renewed for {}", show::visible(&name)),
        Renewed::Authority => {
            errln!(
                "give the new {} to every agent and client; certificates that it signed stay valid",
                show::path(written)
            );
        }
    }
    Ok(Exit::Success)
}
