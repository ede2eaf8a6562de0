//! The arguments of `bolt run`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use packs_schema::base::name::{ActionRef, PackVersion, RunId};
use packs_schema::base::quantity::parse_duration;

use super::output_dir::{self, OutputDir};
use super::params;
use super::path::ResultPath;
use crate::cli::failure::{Exit, Failure};
use crate::cli::numbers::whole;
use crate::cli::select::ExplicitSelectArgs;
use crate::compare::Normalize;
use crate::fleet::{Amount, AmountError, DEFAULT_PARALLEL, Grouping, Pause, Run, Strategy};
use crate::runner::{CheckOrder, Order, output_limit};

const EXAMPLES: &str = "\
Examples:
  bolt run linux.disk_usage --on i-0abc path=/var
  bolt run linux.memory_pressure --everywhere --at-once
  bolt run linux.top_processes --where 'app == \"cassandra\"' --batch 10 --select .by_cpu[0].name
  bolt run cassandra.clear_snapshots older_than_days=7 --on 'i-0a*' --noop
  bolt run cassandra.clear_snapshots older_than_days=7 --everywhere --by zone \\
    --canary 1 --max-failures 1
  bolt run linux.restart_service service=kafka --where 'app == \"kafka\"' --by zone --pause 2m \\
    --check kafka.broker_health --check-for 5m
  bolt run linux.disk_usage --everywhere --at-once --detach
  bolt run cassandra.clear_snapshots@1.2.0 --region us-east-1 --note 'disk alarm' --yes

A run starts one instance after the other and stops after the first failure, unless options say otherwise. \
Secret parameters come from files (token=@FILE) or are asked for; their values are masked in what is printed, \
except values shorter than 4 characters. Exit codes: `bolt --help`.";

/// Run an action on instances, one at a time unless told otherwise.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct RunCommand {
    /// Action to run, such as linux.disk_usage. With @VERSION (linux.disk_usage@1.2.0), only where this version of the pack
    /// is active: other instances do not start it and end as version_mismatch.
    #[arg(value_name = "ACTION[@VERSION]")]
    pub(super) action: Wanted,
    /// Parameters: NAME=VALUE, or NAME=@FILE to read the value from a file (@@ for a literal @).
    #[arg(value_name = "NAME=VALUE")]
    pub(super) parameters: Vec<params::Given>,
    /// Read parameters from a file with one JSON object; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) params_file: Option<PathBuf>,
    /// Dry run: report what would change, for actions that support it.
    #[arg(long)]
    pub(super) noop: bool,
    /// Reason for the run, kept in each instance's history.
    #[arg(long, value_name = "TEXT", value_parser = note)]
    pub(super) note: Option<String>,
    /// Time-out of each execution, if shorter than the action's own.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// Id of the run, to be chosen by a program that must know it before: 1 to 64 letters, digits, '.', '_', ':', '@', '+' and '-'.
    #[arg(long, value_name = "RUN-ID")]
    pub(super) run_id: Option<RunId>,
    /// Do not record the run: `bolt resume` and `bolt retry` cannot go on with it.
    #[arg(long)]
    pub(super) unrecorded: bool,
    /// Change instances without asking for confirmation.
    #[arg(short, long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) select: ExplicitSelectArgs,
    #[command(flatten)]
    pub(super) how: How,
    #[command(flatten)]
    pub(super) view: View,
}

/// An action, and the version of its pack if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) action: ActionRef,
    pub(super) version: Option<PackVersion>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        let (action, version) = match text.split_once('@') {
            Some((action, version)) => (action, Some(version)),
            None => (text, None),
        };
        let action = ActionRef::new(action).map_err(|e| e.to_string())?;
        let version = version.map(PackVersion::new).transpose().map_err(|e| e.to_string())?;
        Ok(Wanted { action, version })
    }
}

/// Order of the instances, and when to stop.
#[derive(Debug, Args)]
#[command(next_help_heading = "Order and limits")]
pub(super) struct How {
    /// Run on all chosen instances at once, up to --parallel. Does not choose instances: see "Which instances".
    #[arg(long, alias = "all", conflicts_with = "by")]
    pub(super) at_once: bool,
    /// Start the run, print its id and return when all instances have accepted it; `bolt logs -f --run` and `bolt wait` follow
    /// it. Needs a run that starts all instances at once.
    #[arg(long, conflicts_with_all = ["by", "batch", "canary", "max_failures", "max_unreachable", "max_batch_failures", "pause",
        "jitter", "within", "instance_timeout", "check", "output_dir", "ndjson"])]
    pub(super) detach: bool,
    /// Run on one zone or region after the other, all of its instances at once.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Batch size: a count, or a percentage of all chosen instances.
    #[arg(long, value_name = "N|P%", value_parser = batch)]
    batch: Option<Amount>,
    /// Run on this number of instances first, as a batch of their own.
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, allow_negative_numbers = true,
        value_parser = whole::<usize>(0..=u64::MAX))]
    pub(super) canary: usize,
    /// Number or percentage of instances that may fail, over the whole run; when more have failed, no further instance starts.
    #[arg(long, value_name = "N|P%", default_value = "0")]
    max_failures: Amount,
    /// Number or percentage of instances that may be unreachable, counted apart from failures [default: 100% for diagnostics
    /// and dry runs, otherwise 0].
    #[arg(long, value_name = "N|P%")]
    max_unreachable: Option<Amount>,
    /// Number or percentage of instances of a batch that may fail; when more have failed, no further instance starts.
    #[arg(long, value_name = "N|P%")]
    max_batch_failures: Option<Amount>,
    /// Pause between two batches: a time such as 2m, or `ask` to be asked before each batch.
    #[arg(long, value_name = "TIME|ask", value_parser = pause)]
    pub(super) pause: Option<Pause>,
    /// Delay each start within a batch by a random time up to this, so that not all instances act in the same moment.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    jitter: Option<Duration>,
    /// Start no further instance when this time has passed since the beginning of the run. With --instance-timeout, the run ends
    /// at most that much later.
    #[arg(long, value_name = "TIME", value_parser = longer_than_zero)]
    within: Option<Duration>,
    /// Time for each instance, from its start: when it is over, the run goes on without its end, and counts it as failed or, if
    /// it was never reached, as unreachable. The execution goes on until its own time-out (--timeout).
    #[arg(long, value_name = "TIME", value_parser = longer_than_zero)]
    instance_timeout: Option<Duration>,
    /// After each batch, run this diagnostic on the batch's instances; the next batch begins when it has succeeded there.
    #[arg(long, value_name = "ACTION[@VERSION]")]
    pub(super) check: Option<Wanted>,
    /// Parameters of the check; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", requires = "check")]
    pub(super) check_param: Vec<params::Given>,
    /// Repeat the check where it fails, for up to this time: a service needs some to start.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "check")]
    pub(super) check_for: Option<Duration>,
    /// Number or percentage of instances of a batch on which the check may fail; when it fails on more, no further instance starts.
    #[arg(long, value_name = "N|P%", default_value = "0", requires = "check")]
    max_check_failures: Amount,
    /// Maximum number of instances in flight at once, whatever the batch size.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PARALLEL, allow_negative_numbers = true, value_parser = whole::<usize>(1..=10_000))]
    parallel: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Zone,
    Region,
}

/// Options for the output.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct View {
    /// Print the structured results instead of the output: as a table of each group, as `json`, or as `csv`, one row per instance.
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "table",
        hide_possible_values = true, conflicts_with = "json")]
    pub(super) result: Option<ResultFormat>,
    /// Print one value of each instance's result, one row per instance, such as .disks[0].used; may be repeated; with --result=csv
    /// as CSV. A path is made of .name, ["any name"], [0] and [-1]; . is the whole result.
    #[arg(long = "select", id = "select_path", value_name = "PATH", conflicts_with = "json")]
    pub(super) select: Vec<ResultPath>,
    /// Group instances whose outputs differ in these only, and show the output of one of them: numbers, times, ids, addresses,
    /// names (of the instance itself), or all of them.
    #[arg(long, value_name = "KIND,…", num_args = 0..=1, require_equals = true, default_missing_value = "all",
        value_delimiter = ',', conflicts_with = "json")]
    pub(super) normalize: Vec<Normalize>,
    /// Also write the complete output of each instance into files of this directory, with an index of outcomes: up to 64 MiB of
    /// each stream. A directory that is not empty must belong to the same run.
    #[arg(long, value_name = "DIR")]
    pub(super) output_dir: Option<PathBuf>,
    /// Write into a directory that is not empty; files of the same name are replaced.
    #[arg(long, requires = "output_dir")]
    pub(super) force: bool,
    /// Print a JSON object on a line of its own for each event of the run, the report last; see "Events" in client/README.md.
    #[arg(long, conflicts_with_all = ["json", "result", "select_path", "normalize", "lines"])]
    pub(super) ndjson: bool,
    /// Print no progress, and no output of instances that succeeded. Results that --result or --select ask for are printed.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Maximum number of lines of each instance, or of each group of instances with the same output; `all` for no limit
    /// [default: 60 for one group, otherwise 20; over more than ten instances, about a screen in all].
    #[arg(long, value_name = "N", value_parser = lines, conflicts_with = "json")]
    pub(super) lines: Option<usize>,
}

/// Format of structured results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ResultFormat {
    Table,
    Json,
    Csv,
}

impl View {
    /// Fails if the options contradict each other.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.result == Some(ResultFormat::Json) && !self.select.is_empty() {
            let message = "--select prints a table, or CSV with --result=csv";
            return Err(Failure::new(Exit::Usage, message).hint("for JSON use --json with jq"));
        }
        Ok(())
    }

    /// Opens the directory for the output of `run`, if one is given: all of the output is fetched then, otherwise what the report
    /// shows.
    pub(super) fn files(&self, run: &mut Run) -> Result<Option<OutputDir>, Failure> {
        run.request.output_limit =
            if self.output_dir.is_some() { output_dir::COMPLETE } else { output_limit(run.targets.len()) };
        self.output_dir.as_deref().map(|path| OutputDir::open(path, run, self.force)).transpose()
    }

    /// Returns what is ignored when outputs are grouped.
    pub(super) fn normalize(&self) -> Normalize {
        self.normalize.iter().fold(Normalize::default(), |all, one| all.or(*one))
    }
}

fn note(text: &str) -> Result<String, String> {
    if text.chars().count() <= 500 { Ok(text.to_owned()) } else { Err("a note has at most 500 characters".to_owned()) }
}

fn lines(text: &str) -> Result<usize, String> {
    match text {
        "all" => Ok(usize::MAX),
        _ => whole::<usize>(1..=1_000_000)(text).map_err(|problem| format!("{problem}, or all")),
    }
}

fn batch(text: &str) -> Result<Amount, String> {
    match text.parse().map_err(|e: AmountError| e.to_string())? {
        Amount::Count(0) | Amount::Percent(0) => Err("a batch has at least one instance".to_owned()),
        amount => Ok(amount),
    }
}

fn longer_than_zero(text: &str) -> Result<Duration, String> {
    match parse_duration(text).map_err(|problem| problem.to_string())? {
        Duration::ZERO => Err("give more than 0s".to_owned()),
        time => Ok(time),
    }
}

fn pause(text: &str) -> Result<Pause, String> {
    match text {
        "ask" => Ok(Pause::Confirm),
        _ => parse_duration(text).map(Pause::For).map_err(|problem| format!("{problem}, or ask")),
    }
}

impl RunCommand {
    /// Returns the run that was asked for.
    pub(super) fn order(&self) -> Order {
        let how = &self.how;
        Order {
            action: self.action.action.clone(),
            version: self.action.version.clone(),
            noop: self.noop,
            note: self.note.clone(),
            timeout: self.timeout,
            run_id: self.run_id.clone(),
            strategy: how.strategy(),
            max_unreachable: how.max_unreachable,
            check: how.check.as_ref().map(|check| CheckOrder {
                action: check.action.clone(),
                version: check.version.clone(),
                within: how.check_for.unwrap_or_default(),
                max_failures: how.max_check_failures,
            }),
        }
    }
}

impl How {
    fn strategy(&self) -> Strategy {
        let grouping = match (self.at_once, self.by) {
            (true, _) => Grouping::All,
            (false, Some(By::Zone)) => Grouping::Zone,
            (false, Some(By::Region)) => Grouping::Region,
            (false, None) => Grouping::Serial,
        };
        Strategy {
            grouping,
            batch: self.batch,
            canary: self.canary,
            max_failures: self.max_failures,
            max_batch_failures: self.max_batch_failures,
            pause: self.pause.unwrap_or_default(),
            jitter: self.jitter.unwrap_or_default(),
            deadline: self.within,
            instance_timeout: self.instance_timeout,
            parallel: self.parallel,
            ..Strategy::default()
        }
    }
}
