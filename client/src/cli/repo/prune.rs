//! `bolt repo prune`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use packs_schema::base::name::{PackName, PackVersion};
use packs_schema::base::quantity::{format_bytes, parse_duration};

use super::args::{AccessArgs, ReasonArgs, duration};
use super::{failure, print, warn_about_reason};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::numbers::whole;
use crate::cli::select::SelectArgs;
use crate::outln;
use crate::repo::{self, Policy, Pruned, Reason};
use crate::show::{counted, when};

/// Minimum grace period: no poll and no publication takes longer.
const LEAST_GRACE: Duration = Duration::from_secs(3600);

/// Remove old versions, old metadata and orphaned files.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt repo prune --dry-run
  bolt repo prune --keep-versions 10 --older-than 180d --reached")]
pub(crate) struct PruneCommand {
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    reason: ReasonArgs,
    /// Versions to keep: the newest of each pack, and those that each channel can be rolled back to.
    #[arg(long, value_name = "N", default_value = "5", allow_negative_numbers = true, value_parser = whole::<usize>(0..=u64::MAX))]
    keep_versions: usize,
    /// Keep versions that were published, or held by a channel, within this time.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = duration)]
    older_than: Duration,
    /// Remove parts of the journal that are older than this [default: keep the whole journal].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    journal_older_than: Option<Duration>,
    /// Grace period: time to keep files that the newest metadata no longer name, for agents in the middle of a poll; at least 1h.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = grace)]
    grace: Duration,
    /// Dry run: report what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Ask the instances of the inventory for the versions that they run, and keep those. Removes nothing unless all answer.
    #[arg(long)]
    reached: bool,
    #[command(flatten)]
    select: SelectArgs,
}

fn grace(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(given) if given < LEAST_GRACE => Err("agents may be reading them: it must be 1h or longer".to_owned()),
        given => given.map_err(|e| e.to_string()),
    }
}

pub(super) fn run(command: PruneCommand, context: &Context) -> Result<Exit, Failure> {
    let PruneCommand { access, reason, keep_versions, older_than, journal_older_than, grace, dry_run, reached, select } =
        command;
    let running = if reached { crate::cli::block_on(running(context, &select))? } else { BTreeSet::new() };
    let policy = Policy { keep_versions, older_than, journal_older_than, grace, running, dry_run };
    let access = access.access(None, reason, context)?;
    let pruned = repo::prune(&access, &policy).map_err(|e| failure(&e))?;
    print(context.json, &pruned, print_pruned);
    if !dry_run && pruned.versions.is_empty() && pruned.journal.is_empty() {
        warn_about_reason(access.reason.as_ref());
    }
    Ok(Exit::Success)
}

/// Returns the versions that instances run.
async fn running(context: &Context, select: &SelectArgs) -> Result<BTreeSet<(PackName, PackVersion)>, Failure> {
    let answers = context.ask(select, async |agent| agent.packs().await).await?;
    if let Some(error) = answers.failed.first() {
        let message = format!(
            "{} of {} instances did not say what they run ({}: {}); nothing was removed",
            answers.failed.len(),
            answers.failed.len() + answers.given.len(),
            error.instance,
            error.kind
        );
        return Err(
            Failure::new(Exit::Failed, message).hint("select the instances that can answer, or leave out --reached")
        );
    }
    let packs = answers.given.into_iter().flat_map(|(_, packs)| packs.items);
    Ok(packs.filter_map(|pack| Some((pack.name, pack.version?))).collect())
}

fn print_pruned(pruned: &Pruned) {
    let verb = if pruned.dry_run { "would remove" } else { "removed" };
    for version in &pruned.versions {
        outln!("{verb} {} {}  {}", version.pack, version.version, format_bytes(version.size_bytes));
    }
    for part in &pruned.journal {
        outln!("{verb} {part} of the journal");
    }
    for kept in &pruned.kept {
        let why = match kept.reason {
            Reason::Held => "a channel holds it",
            Reason::Rollback => "a channel may be rolled back to it",
            Reason::Running => "an instance runs it",
        };
        outln!("kept {} {}: {why}", kept.pack, kept.version);
    }
    for role in &pruned.unsigned {
        outln!("kept all versions of {role}: its key is not here");
    }
    let waiting = pruned.prunable_at_ms.map_or_else(String::new, |at_ms| {
        let waiting = counted(pruned.waiting, "more file");
        format!(
            "; {waiting} can be removed from {} on, or later if the repository changes before then",
            when::at(at_ms)
        )
    });
    outln!("{verb} {}, {}{waiting}", counted(pruned.files.len(), "file"), format_bytes(pruned.bytes));
}
