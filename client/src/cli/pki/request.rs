//! `bolt pki csr` and `bolt pki sign`: the key stays on its host, and the signer confirms the names.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{AuthorityArgs, ClientArgs, InstanceArgs, ValidityArgs, address, failure, file_stem};
use crate::cli::block_on;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::{can_ask, confirm};
use crate::files;
use crate::pki::{NewRequest, Request, Subject};
use crate::show;
use crate::{errln, outln};

/// Make a key and a request for a certificate.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, on the instance; then `bolt pki sign` where the authority is:
  bolt pki csr instance i-0abc --out /etc/bolt/tls")]
pub(in crate::cli) struct CsrCommand {
    #[command(subcommand)]
    subject: CsrSubject,
}

#[derive(Debug, Subcommand)]
enum CsrSubject {
    /// For the agent of an instance.
    #[command(after_help = "Example:\n  bolt pki csr instance i-0abc --out /etc/bolt/tls")]
    Instance {
        #[command(flatten)]
        instance: InstanceArgs,
        #[command(flatten)]
        target: CsrTarget,
    },
    /// For a caller.
    #[command(after_help = "Example:\n  bolt pki csr client spiffe://example.org/oncall --out me")]
    Client {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        target: CsrTarget,
    },
}

#[derive(Debug, Args)]
struct CsrTarget {
    /// Directory for the request and the key; made when it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs `bolt pki csr`.
pub(super) fn csr(command: CsrCommand, json: bool) -> Result<Exit, Failure> {
    let (subject, target) = match command.subject {
        CsrSubject::Instance { instance, target } => (instance.subject(), target),
        CsrSubject::Client { client, target } => (client.subject(), target),
    };
    let new = NewRequest::create(&subject).map_err(|e| failure(&e))?;
    let (request, key) = new.write(&target.out, &file_stem(&subject)).map_err(|e| failure(&e))?;
    if json {
        let made = json!({ "request": request, "key": key, "key_sha256": new.fingerprint });
        outln!("{}", show::json(&made));
    } else {
        outln!("{}\n{}", show::path(&request), show::path(&key));
        errln!("SHA-256 of the public key: {}", new.fingerprint);
        let addresses = subject.addresses().iter().map(|address| format!(" --address {}", show::visible(address)));
        errln!(
            "next, where the authority is: bolt pki sign {} --ca <DIR> --name {}{}",
            show::path(&request),
            show::visible(&subject.uri()),
            addresses.collect::<String>()
        );
    }
    Ok(Exit::Success)
}

/// Sign a request.
#[derive(Debug, Args)]
#[command(after_help = "\
The names in the request are only what its author asks for. On a terminal they are shown and confirmed; elsewhere --name \
and each --address must repeat them.

Examples:
  bolt pki sign i-0abc.csr --ca ca
  bolt pki sign i-0abc.csr --ca ca --name bolt://instance/i-0abc --address 10.0.0.7 --out i-0abc.pem")]
pub(in crate::cli) struct SignCommand {
    /// The request, of `bolt pki csr` or another program (PKCS #10, PEM).
    request: PathBuf,
    #[command(flatten)]
    authority: AuthorityArgs,
    /// The name that the request must have: bolt://instance/<ID>, or the principal of a caller.
    #[arg(long, value_name = "URI")]
    name: Option<String>,
    /// A host name or IP address that the request may have beside the instance id; repeatable.
    #[arg(long, value_name = "HOST|IP", value_parser = address, requires = "name")]
    address: Vec<String>,
    /// File for the certificate [default: the request's path with .pem].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    validity: ValidityArgs,
}

/// Runs `bolt pki sign`.
pub(super) fn sign(command: &SignCommand, json: bool) -> Result<Exit, Failure> {
    let authority = command.authority.load()?;
    let request = Request::read(&command.request).map_err(|e| failure(&e))?;
    let out = command.out.clone().unwrap_or_else(|| command.request.with_extension("pem"));
    authority.check_new_file(&out).map_err(|e| failure(&e))?;
    match &command.name {
        Some(name) => check(&request.subject, name, &command.address)?,
        None => ask(&request)?,
    }
    let certificate = authority.sign_request(&request, command.validity.validity()).map_err(|e| failure(&e))?;
    files::write_new(&out, certificate.as_bytes(), 0o644).map_err(|e| failure(&e.into()))?;
    if json {
        let signed = json!({ "certificate": out, "name": request.subject.uri(), "key_sha256": request.fingerprint });
        outln!("{}", show::json(&signed));
    } else {
        outln!("{}", show::path(&out));
    }
    Ok(Exit::Success)
}

/// Refuses a request for other names than these.
fn check(subject: &Subject, name: &str, addresses: &[String]) -> Result<(), Failure> {
    let uri = subject.uri();
    if uri != name {
        let problem = format!("the request asks for {}, not {}", show::visible(&uri), show::visible(name));
        return Err(Failure::new(Exit::Usage, problem).hint("sign it only if you know who made it"));
    }
    match subject.addresses().iter().find(|address| !addresses.contains(address)) {
        None => Ok(()),
        Some(other) => {
            let problem = format!("the request also asks for the address {}", show::visible(other));
            Err(Failure::new(Exit::Usage, problem).hint(format!("confirm it with --address {}", show::visible(other))))
        }
    }
}

/// Shows what the request asks for, and asks whether to sign it.
fn ask(request: &Request) -> Result<(), Failure> {
    let uri = show::visible(&request.subject.uri());
    if !can_ask() {
        let problem = format!("the request asks for {uri}, and nothing confirms that it may");
        return Err(
            Failure::new(Exit::Usage, problem).hint(format!("confirm it with --name {uri}, or run this on a terminal"))
        );
    }
    errln!("name       {uri}");
    for address in request.subject.addresses() {
        errln!("address    {}", show::visible(address));
    }
    errln!("for        {}", request.subject.purpose());
    errln!("key        SHA-256 {}, as `bolt pki csr` printed it", request.fingerprint);
    let confirmed = block_on(async { confirm("Sign it?").await.map_err(|_| Failure::interrupted()) })?;
    if confirmed { Ok(()) } else { Err(Failure::new(Exit::Usage, "not confirmed; nothing was signed")) }
}
