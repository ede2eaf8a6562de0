//! `bolt pack diff`: what changes between two versions, channels or directories.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use packs_schema::base::name::{ChannelName, PackName, PackVersion};
use packs_schema::base::quantity::format_bytes;
use packs_schema::delivery::channel::Rule;
use serde_json::json;

use super::failure;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::repo::args::ViewArgs;
use crate::cli::repo::failure as repo_failure;
use crate::pack::diff::{Change, FileChange, PackDiff, Side, diff};
use crate::pack::{self};
use crate::repo::{self, Wanted};
use crate::show::{self, visible, visible_lines};
use crate::{errln, outln};

/// Show what changes between two versions of a pack.
#[derive(Debug, Args)]
#[command(after_help = "\
A side is a version (2.4.1), a channel (prod), or the path of a directory or an archive; a path has a / or is \".\". \
Of a channel its newest version is compared; during a rollout other instances still have another one. \
Archives of the repository are verified against its trusted root.

Examples:
  bolt pack diff cassandra prod test              what a promotion from test to prod would change
  bolt pack diff cassandra 2.4.0 2.4.1 --stat
  bolt pack diff cassandra prod ./cassandra       what publishing the directory would change")]
pub struct DiffCommand {
    /// The pack.
    pack: PackName,
    /// The side to compare with.
    from: SideArg,
    /// The other side.
    to: SideArg,
    /// List actions and files only, without the changed lines.
    #[arg(long)]
    stat: bool,
    #[command(flatten)]
    view: ViewArgs,
}

/// A version, a channel or a path.
#[derive(Debug, Clone)]
enum SideArg {
    Published(Wanted),
    Path(PathBuf),
}

impl FromStr for SideArg {
    type Err = String;
    fn from_str(text: &str) -> Result<SideArg, String> {
        if text.contains('/') || text == "." || text == ".." {
            return Ok(SideArg::Path(text.into()));
        }
        if let Ok(version) = PackVersion::new(text) {
            return Ok(SideArg::Published(Wanted::Version(version)));
        }
        let channel = ChannelName::new(text).map(|channel| SideArg::Published(Wanted::Channel(channel)));
        channel.map_err(|_| "write a version such as 1.2.0, a channel, or a path such as ./cassandra".to_owned())
    }
}

/// Runs `bolt pack diff`.
pub(in crate::cli) fn run(command: &DiffCommand, context: &Context) -> Result<Exit, Failure> {
    let DiffCommand { pack, from, to, stat, view } = command;
    let published: Vec<Wanted> = [from, to]
        .into_iter()
        .filter_map(|side| if let SideArg::Published(wanted) = side { Some(wanted.clone()) } else { None })
        .collect();
    let fetched = match published.is_empty() {
        true => Vec::new(),
        false => repo::fetch(&view.verified_view(context)?, pack, &published).map_err(|e| repo_failure(&e))?,
    };
    let mut fetched = published.into_iter().zip(fetched);
    let mut rollouts = Vec::new();
    let mut side = |argument: &SideArg| match argument {
        SideArg::Path(path) => local(pack, path),
        SideArg::Published(_) => {
            let (wanted, fetched) = fetched.next().expect("one for each published side");
            let label = match wanted {
                Wanted::Version(version) => version.to_string(),
                Wanted::Channel(channel) => {
                    rollouts.extend(rollout(pack, &channel, &fetched.rules));
                    format!("{} (channel {channel})", fetched.version)
                }
            };
            Ok(Side { label, archive: fetched.archive })
        }
    };
    let (from, to) = (side(from)?, side(to)?);
    let found = diff(&from, &to).map_err(|e| failure(&e))?;
    if context.json {
        let mut value = json!({ "pack": pack, "labels": [from.label, to.label], "diff": found, "rollouts": rollouts });
        if *stat && let Some(files) = value["diff"]["files"].as_array_mut() {
            files.iter_mut().filter_map(|file| file.as_object_mut()).for_each(|file| drop(file.remove("diff")));
        }
        outln!("{}", show::json(&value));
    } else {
        outln!("{pack}  {} -> {}", visible(&from.label), visible(&to.label));
        print(&found, *stat);
        rollouts.iter().for_each(|rollout| errln!("{rollout}"));
    }
    Ok(Exit::Success)
}

/// Describes the rollout of a channel's newest version, which other instances do not have; `None` when all have it.
fn rollout(pack: &PackName, channel: &ChannelName, rules: &[Rule]) -> Option<String> {
    let (newest, others) = rules.split_first()?;
    let held = crate::cli::repo::rules(rules);
    let others = match others {
        [] if newest.percent == 100 => return None,
        [] => "the other instances have none".to_owned(),
        [previous, ..] => format!(
            "the other instances have {previous}; `bolt pack diff {pack} {previous} {newest}` compares the two",
            previous = previous.version,
            newest = newest.version
        ),
    };
    Some(format!("channel {channel} is in a rollout ({held}): {} was compared, and {others}", newest.version))
}

/// Builds a directory, or reads an archive, of the pack.
fn local(pack: &PackName, path: &std::path::Path) -> Result<Side, Failure> {
    let built = pack::load(path).map_err(|e| failure(&e))?;
    if built.pack.name != *pack {
        let problem = format!("{} holds the pack {}, not {pack}", show::path(path), built.pack.name);
        return Err(Failure::new(Exit::Usage, problem));
    }
    let label = format!("{} ({})", built.pack.version, path.display());
    Ok(Side { label, archive: built.archive })
}

fn print(found: &PackDiff, stat: bool) {
    if found.is_empty() {
        outln!("no differences");
        return;
    }
    for action in &found.actions {
        outln!("action {} {}", action.action, word(action.change));
        action.changes.iter().for_each(|change| outln!("    {}", visible(change)));
    }
    for change in &found.config {
        outln!("{}", visible(change));
    }
    for file in &found.files {
        outln!("{}", line(file));
    }
    if stat {
        return;
    }
    for text in found.files.iter().filter_map(|file| file.diff.as_ref()) {
        outln!("\n{}", visible_lines(text.trim_end_matches('\n')));
    }
    if found.omitted_diffs > 0 {
        let more = show::counted(found.omitted_diffs, "more file");
        outln!("\n[the diffs of {more} are left out: there are too many changes to show]");
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Changed => "changed",
    }
}

/// Describes a changed file: `file actions/clean.sh changed  120 B -> 130 B`.
fn line(file: &FileChange) -> String {
    let sizes = match (file.from_bytes, file.to_bytes) {
        (Some(from), Some(to)) if from != to => format!("  {} -> {}", format_bytes(from), format_bytes(to)),
        (_, Some(bytes)) | (Some(bytes), None) => format!("  {}", format_bytes(bytes)),
        (None, None) => String::new(),
    };
    let mode = match (file.change, file.executable) {
        (Change::Changed, Some(true)) => "  now executable",
        (Change::Changed, Some(false)) => "  no longer executable",
        _ => "",
    };
    format!("file {} {}{sizes}{mode}", visible(&file.path), word(file.change))
}
