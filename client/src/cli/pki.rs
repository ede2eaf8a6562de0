//! `bolt pki`: a small certificate authority, for those who have none.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use packs_schema::base::name::{InstanceId, Principal};
use serde_json::json;

use super::failure::{Exit, Failure};
use super::numbers::whole;
use crate::files::FileError;
use crate::pki::{Authority, CA_CERTIFICATE, CA_KEY, Issued, PkiError, Validity, is_host_name};
use crate::show;
use crate::{errln, outln};

/// A small certificate authority.
#[derive(Debug, Subcommand)]
pub(super) enum PkiCommand {
    /// Make an authority: ca.pem, which agents and clients trust, and ca.key, which signs.
    Init(InitCommand),
    /// Issue a certificate: for an instance's agent, or for a client.
    Issue(IssueCommand),
}

/// Make an authority.
#[derive(Debug, Args)]
pub(super) struct InitCommand {
    /// Where its files go; made when it is missing.
    dir: PathBuf,
    /// What it is called.
    #[arg(long, default_value = "Bolt")]
    name: String,
    /// How long it is valid.
    #[arg(long, default_value = "3650", allow_negative_numbers = true, value_parser = whole::<u32>(1..=36_500))]
    days: u32,
}

/// Issue a certificate.
#[derive(Debug, Args)]
pub(super) struct IssueCommand {
    /// The authority's directory.
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// For the agent of an instance: it names bolt://instance/<ID>.
    Instance {
        /// The instance id, as the inventory and the agent's configuration have it.
        id: InstanceId,
        /// A further host name or IP address for programs that check these; Bolt goes by the id alone.
        #[arg(long, value_name = "HOST|IP", value_parser = address)]
        address: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
    /// For a caller: agents know it by its name, and grant it what grants.toml says.
    Client {
        /// The name, a URI such as spiffe://example.org/oncall.
        principal: Principal,
        #[command(flatten)]
        target: Target,
    },
}

fn address(text: &str) -> Result<String, String> {
    if text.parse::<std::net::IpAddr>().is_ok() || is_host_name(text) {
        return Ok(text.to_owned());
    }
    Err("write a host name such as web-1.example.org or an IP address, without a port".to_owned())
}

#[derive(Debug, Args)]
struct Target {
    /// Where the certificate and the key go; made when it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long it is valid.
    #[arg(long, default_value = "365", allow_negative_numbers = true, value_parser = whole::<u32>(1..=36_500))]
    days: u32,
}

/// Runs `bolt pki`.
pub(super) fn run(command: PkiCommand, json: bool) -> Result<Exit, Failure> {
    match command {
        PkiCommand::Init(init) => {
            let authority = Authority::create_with(&init.name, Validity::days(init.days)).map_err(|e| failure(&e))?;
            authority.write(&init.dir).map_err(|e| failure(&e))?;
            say(json, &init.dir.join(CA_CERTIFICATE), &init.dir.join(CA_KEY));
            if !json {
                errln!("keep the key where only you can read it: who has it can name any instance and any principal");
            }
        }
        PkiCommand::Issue(issue) => {
            let Some(dir) = &issue.ca else {
                return Err(Failure::new(Exit::Usage, "--ca is missing: the directory of the authority")
                    .hint("`bolt pki init <DIR>` makes one"));
            };
            let authority = Authority::load(dir).map_err(|e| failure(&e))?;
            let (issued, stem, target) = sign(&authority, &issue.subject).map_err(|e| failure(&e))?;
            let (certificate, key) = issued.write(&target.out, &stem).map_err(|e| failure(&e))?;
            say(json, &certificate, &key);
        }
    }
    Ok(Exit::Success)
}

fn sign<'a>(authority: &Authority, subject: &'a Subject) -> Result<(Issued, String, &'a Target), PkiError> {
    match subject {
        Subject::Instance { id, address, target } => {
            let issued = authority.issue_instance_at(id, address, Validity::days(target.days))?;
            Ok((issued, file_stem(id.as_str()), target))
        }
        Subject::Client { principal, target } => {
            let issued = authority.issue_client(principal, Validity::days(target.days))?;
            let last = principal.as_str().rsplit('/').find(|part| !part.is_empty()).unwrap_or("client");
            Ok((issued, file_stem(last), target))
        }
    }
}

/// A file name made of `name`: letters, digits, `.`, `_` and `-`.
fn file_stem(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let stem: String = name.chars().take(100).map(plain).collect();
    if stem.starts_with('.') { format!("_{stem}") } else { stem }
}

fn say(json: bool, certificate: &Path, key: &Path) {
    if json {
        outln!("{}", show::json(&json!({ "certificate": certificate, "key": key })));
    } else {
        outln!("{}\n{}", show::path(certificate), show::path(key));
    }
}

fn failure(error: &PkiError) -> Failure {
    match error {
        PkiError::Validity(..) | PkiError::Issue { .. } | PkiError::Outlives { .. } | PkiError::Load { .. } => {
            Failure::from_error(Exit::Usage, error)
        }
        PkiError::File(FileError::Exists(_)) => Failure::from_error(Exit::Usage, error),
        PkiError::File(_) | PkiError::Pem(_) => Failure::from_error(Exit::Storage, error),
    }
}
