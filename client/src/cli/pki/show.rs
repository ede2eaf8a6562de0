//! `bolt pki show`: certificates and requests, for people and programs.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::failure;
use crate::cli::expiry::remaining;
use crate::cli::failure::{Exit, Failure};
use crate::outln;
use crate::pki::{Description, describe};
use crate::show::{self, visible};

/// Show certificates and requests.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt pki show ~/.config/bolt/me.pem
  bolt pki show /etc/bolt/tls/*.pem --json | jq -r '.[] | \"\\(.file) \\(.not_after)\"'")]
pub(in crate::cli) struct ShowCommand {
    /// Files with certificates or a request (PEM).
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs `bolt pki show`.
pub(super) fn run(command: &ShowCommand, json: bool) -> Result<Exit, Failure> {
    let mut all = Vec::new();
    for path in &command.files {
        all.extend(describe(path).map_err(|e| failure(&e))?.into_iter().map(|one| (path, one)));
    }
    if json {
        let values: Vec<serde_json::Value> = all
            .iter()
            .map(|(path, one)| {
                let mut value = serde_json::to_value(one).unwrap_or_default();
                value["file"] = json!(path);
                value
            })
            .collect();
        outln!("{}", show::json(&values));
        return Ok(Exit::Success);
    }
    for (path, one) in &all {
        outln!("{} ({})", show::path(path), one.kind);
        print(one);
    }
    Ok(Exit::Success)
}

fn print(one: &Description) {
    let line = |name: &str, value: &str| outln!("  {name:<9} {}", visible(value));
    for name in &one.names {
        line("name", name);
    }
    let purpose = match (&one.usages[..], one.authority) {
        (_, true) => "signing certificates (an authority)".to_owned(),
        ([], false) => "no TLS usage is named".to_owned(),
        (usages, false) => usages.join(", "),
    };
    line("for", &purpose);
    if let (Some(from), Some(to)) = (&one.not_before, one.expires) {
        line("valid", &format!("{from} to {to}, {}", remaining(to)));
    }
    for (name, value) in [("subject", &one.subject), ("issuer", &one.issuer), ("serial", &one.serial)] {
        if let Some(value) = value {
            line(name, value);
        }
    }
    line("key", &format!("sha256:{}", one.key_sha256));
}
