//! `bolt grants lint`: grants that are valid, and probably not meant.

use std::path::PathBuf;

use clap::Args;
use packs_schema::agent::config::Config;
use packs_schema::agent::grants::Surroundings;

use super::{read, read_grants, read_packs};
use crate::cli::failure::{Exit, Failure};
use crate::show::{self, counted, visible};
use crate::{errln, outln};

/// Find grants that are shadowed, unused or too wide.
#[derive(Debug, Args)]
#[command(after_help = "\
Findings:
  shadowed          another grant gives everything that this one gives
  unused_principal  no authority in --agent-config may vouch for the principal
  local_principal   a principal with the scheme local, which no certificate has
  unused_limit      a limit of principals to whom nothing is granted
  unused_action     no pack given by --pack has such an action; give all packs
  no_actions        a verb that needs actions is given on none
  no_verbs          the grant gives no verb
  partial_metrics   the verb metrics on some actions only, so that a scraper misses the others
  too_wide          run, push or approve of changes, for every principal of a domain, or on
                    every action for a prefix of principals; kill or read of every action,
                    or sync, for every principal of a domain

Exit code 0 without findings, 1 with findings, 2 when a file has errors.

Examples:
  bolt grants lint --grants grants.toml
  bolt grants lint --agent-config /etc/bolt/agent.toml --json \\
    --pack packs/linux --pack packs/cassandra")]
pub(in crate::cli) struct LintCommand {
    /// The file of grants.
    #[arg(long, value_name = "FILE", default_value = "/etc/bolt/grants.toml")]
    grants: PathBuf,
    /// The agent's configuration, for the principals that its authorities may vouch for.
    #[arg(long, value_name = "FILE")]
    agent_config: Option<PathBuf>,
    /// Directory of a pack, for the names of its actions; repeatable.
    #[arg(long, value_name = "DIR")]
    pack: Vec<PathBuf>,
}

/// Runs `bolt grants lint`.
pub(super) fn run(command: &LintCommand, json: bool) -> Result<Exit, Failure> {
    let grants = read_grants(&command.grants)?;
    let mut around = Surroundings::default();
    if let Some(path) = &command.agent_config {
        let config = Config::parse(&read(path)?);
        let config = config.map_err(|e| Failure::new(Exit::Usage, format!("{}: {e}", show::path(path))))?;
        if config.tls.client_ca.is_none() {
            let authorities = config.tls.client_authorities.into_iter();
            around.principals = Some(authorities.flat_map(|authority| authority.principals).collect());
        }
    }
    if !command.pack.is_empty() {
        let packs = read_packs(&command.pack)?;
        around.actions = Some(packs.iter().flat_map(|pack| &pack.actions).map(|action| action.reference()).collect());
    }
    let findings = grants.lint(&around);
    if json {
        outln!("{}", show::json(&findings));
    } else {
        findings.iter().for_each(|finding| outln!("{}", visible(&finding.to_string())));
        errln!("{}", counted(findings.len(), "finding"));
    }
    Ok(if findings.is_empty() { Exit::Success } else { Exit::Failed })
}
