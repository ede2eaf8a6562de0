//! `bolt pki`: a small certificate authority, for those who have none.

mod crl;
mod intermediate;
mod list;
mod renew;
mod request;
mod revoke;
mod show;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use packs_schema::base::name::{InstanceId, Principal};
use serde_json::json;

use super::failure::{Exit, Failure};
use super::numbers::whole;
use crate::files::FileError;
use crate::pki::{
    Authority, CA_CERTIFICATE, CA_KEY, JournalError, PkiError, Subject, Validity, is_host_name, names_instance,
};
use crate::show as shown;
use crate::{errln, outln};

/// A small certificate authority.
#[derive(Debug, Subcommand)]
pub(super) enum PkiCommand {
    /// Make an authority: ca.pem, which agents and clients trust, and ca.key, which signs.
    Init(InitCommand),
    /// Issue a certificate together with its key: for an instance's agent, or for a caller.
    Issue(IssueCommand),
    /// Make a key and a request for a certificate, on the host that uses them: the key never leaves it.
    Csr(request::CsrCommand),
    /// Sign a request, after its names were confirmed.
    Sign(request::SignCommand),
    /// Make a new certificate for the names of an old one, before or after that expires.
    Renew(renew::RenewCommand),
    /// Show names, purpose and validity of certificates and requests.
    Show(show::ShowCommand),
    /// List what an authority has issued and revoked.
    List(list::ListCommand),
    /// Revoke certificates, in the authority's journal.
    Revoke(revoke::RevokeCommand),
    /// Make or renew the list of revoked certificates, which agents read.
    Crl(crl::CrlCommand),
    /// Make an intermediate authority, so that its root can be kept offline.
    Intermediate(intermediate::IntermediateCommand),
}

/// Make an authority.
#[derive(Debug, Args)]
#[command(after_help = "\
The directory also gets a journal (ca.journal) of all that the authority signs, for `bolt pki list` and `bolt pki revoke`.

Examples:
  bolt pki init /root/bolt-ca --name 'Example Bolt authority'
  bolt pki init /media/offline/root --name 'Example Bolt root' --intermediates")]
pub(super) struct InitCommand {
    /// Directory for its files; made when it is missing.
    dir: PathBuf,
    /// Name of the authority.
    #[arg(long, default_value = "Bolt")]
    name: String,
    /// Days until it expires.
    #[arg(long, default_value = "3650", allow_negative_numbers = true, value_parser = whole::<u32>(1..=36_500))]
    days: u32,
    /// Let it sign intermediate authorities, which `bolt pki intermediate` makes.
    #[arg(long)]
    intermediates: bool,
}

/// Issue a certificate.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt pki issue --ca ca instance i-0abc --out certs
  bolt pki issue --ca ca client spiffe://example.org/oncall --out ~/.config/bolt --days 30")]
pub(super) struct IssueCommand {
    #[command(flatten)]
    authority: AuthorityArgs,
    #[command(subcommand)]
    subject: IssueSubject,
}

#[derive(Debug, Subcommand)]
enum IssueSubject {
    /// For the agent of an instance: it names bolt://instance/<ID>.
    #[command(after_help = "Example:\n  bolt pki issue --ca ca instance i-0abc --out certs")]
    Instance {
        #[command(flatten)]
        instance: InstanceArgs,
        #[command(flatten)]
        target: Target,
    },
    /// For a caller: agents know it by its name, and grant it what grants.toml says.
    #[command(after_help = "Example:\n  bolt pki issue --ca ca client spiffe://example.org/oncall --out certs")]
    Client {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        target: Target,
    },
}

/// Name of an instance's certificate.
#[derive(Debug, Args)]
struct InstanceArgs {
    /// The instance id, as in the inventory and the agent's configuration.
    id: InstanceId,
    /// A further host name or IP address, for programs that check these; Bolt checks the id alone. Repeatable.
    #[arg(long, value_name = "HOST|IP", value_parser = address)]
    address: Vec<String>,
}

/// Name of a caller's certificate.
#[derive(Debug, Args)]
struct ClientArgs {
    /// The name, a URI such as spiffe://example.org/oncall.
    #[arg(value_parser = caller)]
    principal: Principal,
}

/// Reads the name of a caller, which is not that of an instance.
fn caller(text: &str) -> Result<Principal, String> {
    if names_instance(text) {
        return Err("that is the name of an instance: use `instance <ID>` instead of `client`".to_owned());
    }
    let principal = Principal::new(text).map_err(|error| error.to_string())?;
    if principal.is_local() {
        return Err(
            "the scheme local is that of local access, and no agent accepts a certificate with it: choose another name, such \
             as spiffe://example.org/oncall"
                .to_owned(),
        );
    }
    Ok(principal)
}

impl InstanceArgs {
    fn subject(self) -> Subject {
        Subject::Instance { id: self.id, addresses: self.address }
    }
}

impl ClientArgs {
    fn subject(self) -> Subject {
        Subject::Client(self.principal)
    }
}

/// Authority that signs.
#[derive(Debug, Args)]
struct AuthorityArgs {
    // Optional for clap, since a global option has this name, too.
    /// The authority: its directory, or its certificate with the key beside it (ca.key for ca.pem).
    #[arg(long, value_name = "DIR|FILE")]
    ca: Option<PathBuf>,
}

impl AuthorityArgs {
    fn load(&self) -> Result<Authority, Failure> {
        Authority::load(self.path()?).map_err(|e| failure(&e))
    }

    fn path(&self) -> Result<&Path, Failure> {
        self.ca.as_deref().ok_or_else(|| {
            Failure::new(Exit::Usage, "--ca is missing: the directory of the authority")
                .hint("`bolt pki init <DIR>` makes one")
        })
    }
}

fn address(text: &str) -> Result<String, String> {
    if text.parse::<std::net::IpAddr>().is_ok() || is_host_name(text) {
        return Ok(text.to_owned());
    }
    Err("write a host name such as web-1.example.org or an IP address, without a port".to_owned())
}

/// Directory and validity of what is issued.
#[derive(Debug, Args)]
struct Target {
    /// Directory for the certificate and the key; made when it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    validity: ValidityArgs,
}

#[derive(Debug, Args)]
struct ValidityArgs {
    /// Days until it expires.
    #[arg(long, default_value = "365", allow_negative_numbers = true, value_parser = whole::<u32>(1..=36_500))]
    days: u32,
}

impl ValidityArgs {
    fn validity(&self) -> Validity {
        Validity::days(self.days)
    }
}

/// Runs `bolt pki`.
pub(super) fn run(command: PkiCommand, json: bool) -> Result<Exit, Failure> {
    match command {
        PkiCommand::Init(init) => {
            let authority = Authority::create_root(&init.name, Validity::days(init.days), u8::from(init.intermediates));
            let authority = authority.map_err(|e| failure(&e))?;
            authority.write(&init.dir).map_err(|e| failure(&e))?;
            print_pair(json, &init.dir.join(CA_CERTIFICATE), &init.dir.join(CA_KEY));
            if !json {
                errln!("keep the key where only you can read it: whoever has it can name any instance and any caller");
            }
            Ok(Exit::Success)
        }
        PkiCommand::Issue(command) => issue(command, json),
        PkiCommand::Csr(command) => request::csr(command, json),
        PkiCommand::Sign(command) => request::sign(&command, json),
        PkiCommand::Renew(command) => renew::run(&command, json),
        PkiCommand::Show(command) => show::run(&command, json),
        PkiCommand::List(command) => list::run(&command, json),
        PkiCommand::Revoke(command) => revoke::run(&command, json),
        PkiCommand::Crl(command) => crl::run(&command, json),
        PkiCommand::Intermediate(command) => intermediate::run(&command, json),
    }
}

fn issue(command: IssueCommand, json: bool) -> Result<Exit, Failure> {
    let authority = command.authority.load()?;
    let (subject, target) = match command.subject {
        IssueSubject::Instance { instance, target } => (instance.subject(), target),
        IssueSubject::Client { client, target } => (client.subject(), target),
    };
    let validity = target.validity.validity();
    let stem = file_stem(&subject);
    let names = [&*format!("{stem}.pem"), &format!("{stem}.key")];
    authority.check_new_files(&target.out, &names).map_err(|e| failure(&e))?;
    let issued = match &subject {
        Subject::Instance { id, addresses } => authority.issue_instance_at(id, addresses, validity),
        Subject::Client(principal) => authority.issue_client(principal, validity),
    };
    let issued = issued.map_err(|e| failure(&e))?;
    let (certificate, key) = issued.write(&target.out, &stem).map_err(|e| failure(&e))?;
    print_pair(json, &certificate, &key);
    Ok(Exit::Success)
}

/// Makes a file name of a subject: letters, digits, `.`, `_` and `-`.
fn file_stem(subject: &Subject) -> String {
    let name = match subject {
        Subject::Instance { id, .. } => id.as_str(),
        Subject::Client(principal) => principal.as_str().rsplit('/').find(|part| !part.is_empty()).unwrap_or("client"),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let stem: String = name.chars().take(100).map(plain).collect();
    if stem.starts_with('.') { format!("_{stem}") } else { stem }
}

fn print_pair(json: bool, certificate: &Path, key: &Path) {
    if json {
        outln!("{}", shown::json(&json!({ "certificate": certificate, "key": key })));
    } else {
        outln!("{}\n{}", shown::path(certificate), shown::path(key));
    }
}

fn failure(error: &PkiError) -> Failure {
    match error {
        PkiError::Validity(..)
        | PkiError::Issue { .. }
        | PkiError::Outlives { .. }
        | PkiError::CompromisedKey { .. }
        | PkiError::Load { .. }
        | PkiError::Output { .. }
        | PkiError::Request { .. }
        | PkiError::Renew { .. }
        | PkiError::Revoke { .. }
        | PkiError::Crl { .. }
        | PkiError::NoJournal
        | PkiError::Intermediate { .. }
        | PkiError::Journal(
            JournalError::Missing(_)
            | JournalError::Lost { .. }
            | JournalError::Older { .. }
            | JournalError::TakesBack { .. },
        ) => Failure::from_error(Exit::Usage, error),
        PkiError::File(FileError::Exists(_)) => Failure::from_error(Exit::Usage, error),
        PkiError::File(_) | PkiError::Pem(_) | PkiError::Journal(_) => Failure::from_error(Exit::Storage, error),
    }
}
