//! `bolt pki intermediate`: an authority below a root that is kept offline.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{AuthorityArgs, failure};
use crate::cli::failure::{Exit, Failure};
use crate::cli::numbers::whole;
use crate::pki::{CA_CERTIFICATE, CA_KEY, ROOT_CERTIFICATE, Validity};
use crate::show;
use crate::{errln, outln};

/// Make an intermediate authority.
#[derive(Debug, Args)]
#[command(after_help = "\
Run it where the root is, on a host without network, and carry the new directory to the host that issues certificates. \
The root must be made with `bolt pki init --intermediates`. The intermediate signs certificates of instances and callers, \
and no other authority. Agents and clients trust root.pem; each certificate that the intermediate issues is followed by \
the intermediate's own, in the same file. Its revocation list is its own (`bolt pki crl --ca <DIR>`); give agents that \
and the root's.

Example:
  bolt pki init root --name 'Example Bolt root' --intermediates
  bolt pki intermediate issuing --ca root --name 'Example Bolt issuing 2027'
  bolt pki issue --ca issuing instance i-0abc --out certs")]
pub(in crate::cli) struct IntermediateCommand {
    /// Directory for its files; made when it is missing.
    dir: PathBuf,
    #[command(flatten)]
    authority: AuthorityArgs,
    /// Name of the intermediate authority, another one than the root's.
    #[arg(long, default_value = "Bolt issuing")]
    name: String,
    /// Days until it expires.
    #[arg(long, default_value = "1095", allow_negative_numbers = true, value_parser = whole::<u32>(1..=36_500))]
    days: u32,
}

/// Runs `bolt pki intermediate`.
pub(super) fn run(command: &IntermediateCommand, json: bool) -> Result<Exit, Failure> {
    let authority = command.authority.load()?;
    let files = [CA_CERTIFICATE, CA_KEY, ROOT_CERTIFICATE];
    authority.check_new_files(&command.dir, &files).map_err(|e| failure(&e))?;
    let made = authority.issue_intermediate(&command.name, Validity::days(command.days)).map_err(|e| failure(&e))?;
    made.write(&command.dir).map_err(|e| failure(&e))?;
    let [certificate, key, root] = files.map(|name| command.dir.join(name));
    if json {
        outln!("{}", show::json(&json!({ "certificate": certificate, "key": key, "root": root })));
    } else {
        outln!("{}\n{}\n{}", show::path(&certificate), show::path(&key), show::path(&root));
        errln!("give {} to agents and clients, and keep the root's key offline", show::path(&root));
    }
    Ok(Exit::Success)
}
