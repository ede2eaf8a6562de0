//! `bolt pki renew`: a new certificate for the names of an old one.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{AuthorityArgs, failure};
use crate::cli::failure::{Exit, Failure};
use crate::cli::numbers::whole;
use crate::pki::{Renewed, Validity};
use crate::show;
use crate::{errln, outln};

/// Make a new certificate for the names of an old one.
#[derive(Debug, Args)]
#[command(after_help = "\
The old certificate must be of this authority; it may have expired. The new one is valid for as long as the old one was, \
unless --days says otherwise. The file is replaced atomically and keeps its owner and mode; agents notice the change by \
themselves. The key stays the same unless --new-key names it. Then both files are written first and renamed together, and \
the old key is FILE.old meanwhile: if that is left after a crash, the certificate is still the old one; move the key back.

Examples:
  bolt pki renew /etc/bolt/tls/i-0abc.pem --ca /root/bolt-ca
  bolt pki renew me.pem --ca ca/ca.pem --new-key me.key --days 30
  bolt pki renew ca/ca.pem --ca ca --days 3650          the authority: distribute the new ca.pem
  bolt pki renew issuing/ca.pem --ca root               an intermediate, where its root is")]
pub(in crate::cli) struct RenewCommand {
    /// The certificate to renew.
    certificate: PathBuf,
    #[command(flatten)]
    authority: AuthorityArgs,
    /// Make a new key, too, in place of the certificate's own one in this file, or in a new file.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    new_key: Option<PathBuf>,
    /// Write the new certificate to this new file instead of replacing the old one.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Days until the new certificate expires [default: as long as the old one was valid].
    #[arg(long, allow_negative_numbers = true, value_parser = whole::<u32>(1..=36_500))]
    days: Option<u32>,
}

/// Runs `bolt pki renew`.
pub(super) fn run(command: &RenewCommand, json: bool) -> Result<Exit, Failure> {
    let authority = command.authority.load()?;
    let key = command.new_key.as_deref();
    authority.check_renewal(&command.certificate, key, command.out.as_deref()).map_err(|e| failure(&e))?;
    let renewal = authority.renew(&command.certificate, command.days.map(Validity::days), key.is_some());
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
        Renewed::Intermediate(name) => name.clone(),
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
        Renewed::Intermediate(_) => {
            errln!("renewed {}; what it issues from now on carries the new certificate", show::visible(&name));
        }
    }
    Ok(Exit::Success)
}
