//! `bolt repo trust`: which root a publisher trusts.

use std::path::PathBuf;

use clap::Args;

use super::args::PinArgs;
use super::{failure, print};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::repo::{self, TrustOptions, Trusted};
use crate::{errln, outln};

/// Pin a root.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo trust                          shows the pinned root and its fingerprint
  bolt repo trust --root root.json --fingerprint 5d41… --repo s3://packs/prod --keys ./keys")]
pub(crate) struct TrustCommand {
    #[command(flatten)]
    places: PinArgs,
    /// Root to pin: root.json from the publisher who ran `bolt repo init`, or the file of repository.root of an agent. Never
    /// take it from the repository. Without it the pinned root is shown.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Refuse a root with another fingerprint than this, which `init` and `trust` print for whoever made the repository.
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<String>,
    /// Go on from a state of the repository that is older than one seen before, such as a bucket restored from a copy: the next
    /// change signs it with versions above those seen. What was published since is lost.
    #[arg(long)]
    accept_older: bool,
}

pub(super) fn run(command: TrustCommand, context: &Context) -> Result<Exit, Failure> {
    let TrustCommand { places, root, fingerprint, accept_older } = command;
    let (repository, keys, state) = places.places(context)?;
    let is_compared = fingerprint.is_some() || root.is_none();
    let options = TrustOptions { repository, keys, state, root, fingerprint, accept_older };
    let trusted = repo::trust(&options).map_err(|e| failure(&e))?;
    print(context.json, &trusted, |trusted: &Trusted| {
        outln!("{}", trusted.root.display());
        outln!("root version {}  fingerprint {}", trusted.version, trusted.fingerprint);
        outln!("{} of these keys must sign the next root:", trusted.threshold);
        trusted.root_keys.iter().for_each(|id| outln!("root key {id}"));
        if !is_compared {
            errln!("Compare the fingerprint with what `bolt repo trust` shows whoever gave you the file.");
        }
        if trusted.accepted_older {
            errln!("The older state is accepted: the next change goes on from it.");
        }
    });
    Ok(Exit::Success)
}
