//! Options that choose instances.

use std::io::Read as _;
use std::str::FromStr;

use clap::Args;
use packs_schema::base::name::{InstanceId, NameError, RunId};
use packs_schema::delivery::filter::Filter;

use super::failure::{Exit, Failure};
use super::numbers::whole;
use super::run_store;
use crate::config::Config;
use crate::inventory::{GatherOptions, IdPattern, Sample, Selection};
use crate::runner;
use crate::runs::Fate;

/// Maximum size of a list of ids on standard input, in bytes.
const MAX_STDIN: u64 = 16 << 20;

/// Options that choose instances. An instance must meet all of them; without any, all instances of the inventory are chosen.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which instances")]
pub(super) struct SelectArgs {
    /// Instances that meet an expression over id, region, zone, app, cluster, group and tags.<name> with ==, !=, =~ (regular
    /// expression), in, !, &&, || and parentheses, such as 'app == "cassandra" && region in ["us-east-1"]';
    /// see "Expressions" in client/README.md.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<Filter>,
    /// Instances with these ids; * stands for any characters and ? for one: 'i-0a*'. With -, the ids are read from standard
    /// input, separated by blanks or line breaks.
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    on: Vec<On>,
    /// Instances of a recorded run, which `bolt runs` lists: all of them, or those that --on chooses with @failed, @unreachable,
    /// @not_started and @succeeded.
    #[arg(long, value_name = "RUN-ID")]
    from: Option<RunId>,
    /// Instances in these regions.
    #[arg(long, value_name = "REGION,…", value_delimiter = ',')]
    region: Vec<String>,
    /// Instances in these zones.
    #[arg(long, value_name = "ZONE,…", value_delimiter = ',')]
    zone: Vec<String>,
    /// Leave out the instances with these ids or globs.
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    exclude: Vec<IdPattern>,
    /// At most this many of them, chosen at random.
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..=1_000_000))]
    sample: Option<usize>,
    /// Seed of --sample: the same one chooses the same instances again [default: random, and printed].
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    seed: Option<u64>,
    /// Go on when a source of the inventory fails; prints what is missing.
    #[arg(long)]
    partial: bool,
    /// Ask the sources of the inventory again, instead of using answers of the last seconds.
    #[arg(long)]
    refresh: bool,
}

/// Value of `--on`.
#[derive(Debug, Clone)]
enum On {
    Pattern(IdPattern),
    /// `-`.
    Stdin,
    /// `@failed` …: instances of the run of `--from`.
    OfRun(Fate),
}

impl FromStr for On {
    type Err = String;

    fn from_str(text: &str) -> Result<On, String> {
        match text {
            "-" => Ok(On::Stdin),
            "@failed" => Ok(On::OfRun(Fate::Failed)),
            "@unreachable" => Ok(On::OfRun(Fate::Unreachable)),
            "@not_started" => Ok(On::OfRun(Fate::NotStarted)),
            "@succeeded" => Ok(On::OfRun(Fate::Succeeded)),
            _ if text.starts_with('@') => {
                Err("use @failed, @unreachable, @not_started or @succeeded, with --from RUN-ID".to_owned())
            }
            _ => text.parse().map(On::Pattern).map_err(|error: NameError| error.to_string()),
        }
    }
}

/// [`SelectArgs`] for commands that act on instances: all of them are chosen only when the user says so.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ExplicitSelectArgs {
    #[command(flatten)]
    pub(super) select: SelectArgs,
    /// All instances of the inventory, but for --exclude and --sample. Not needed when the inventory has one instance.
    #[arg(long, help_heading = "Which instances", conflicts_with_all = ["filter", "on", "from", "region", "zone"])]
    pub(super) everywhere: bool,
}

impl SelectArgs {
    /// Chooses these instances.
    pub(super) fn these(on: Vec<InstanceId>) -> SelectArgs {
        SelectArgs { on: on.into_iter().map(|id| On::Pattern(id.into())).collect(), ..SelectArgs::default() }
    }

    /// True if no option was given that names instances; `--exclude` and `--sample` only reduce them.
    pub(super) fn is_empty(&self) -> bool {
        self.filter.is_none()
            && self.on.is_empty()
            && self.from.is_none()
            && self.region.is_empty()
            && self.zone.is_empty()
    }

    /// True if no option was given that chooses instances or reduces them.
    pub(super) fn is_default(&self) -> bool {
        self.is_empty() && self.exclude.is_empty() && self.sample.is_none()
    }

    /// True if ids are read from standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        self.on.iter().any(|on| matches!(on, On::Stdin))
    }

    /// Returns the ids that `--from` chooses; `None` without it.
    pub(super) async fn of_run(&self, config: &Config) -> Result<Option<Vec<InstanceId>>, Failure> {
        let wanted: Vec<Fate> =
            self.on.iter().filter_map(|on| if let On::OfRun(fate) = on { Some(*fate) } else { None }).collect();
        let Some(run) = &self.from else {
            return match wanted.is_empty() {
                true => Ok(None),
                false => Err(Failure::new(Exit::Usage, "--on @… chooses instances of a recorded run")
                    .hint("name the run with --from; `bolt runs` lists them")),
            };
        };
        // Other ids with --on alone: those, of all that the run was for.
        let fates = if wanted.is_empty() && self.on.is_empty() { Fate::ALL.to_vec() } else { wanted.clone() };
        let store = run_store::require(config)?;
        let ids = runner::of_run(&*store, run, &fates).await.map_err(|error| run_store::failure(&error))?;
        if ids.is_empty() && !wanted.is_empty() {
            return Err(Failure::new(Exit::Usage, format!("run {run} has no such instance"))
                .hint("`bolt runs` shows how many ended in which state"));
        }
        Ok(Some(ids))
    }

    /// Returns the conditions that these options set; `more` are the ids of standard input and of a recorded run, `seed` is used
    /// if none is given.
    pub(super) fn selection(&self, more: &[IdPattern], seed: u64) -> Selection {
        let given = self.on.iter().filter_map(|on| match on {
            On::Pattern(pattern) => Some(pattern.clone()),
            On::Stdin | On::OfRun(_) => None,
        });
        Selection {
            filter: self.filter.clone(),
            ids: given.chain(more.iter().cloned()).collect(),
            regions: self.region.clone(),
            zones: self.zone.clone(),
            exclude: self.exclude.clone(),
            sample: self.sample.map(|count| Sample { count, seed: self.seed.unwrap_or(seed) }),
        }
    }

    /// True if a random seed is used, which has to be printed.
    pub(super) fn has_random_seed(&self) -> bool {
        self.sample.is_some() && self.seed.is_none()
    }

    /// Returns how the sources of the inventory are asked.
    pub(super) fn gather_options(&self) -> GatherOptions {
        GatherOptions { partial: self.partial, refresh: self.refresh }
    }
}

impl ExplicitSelectArgs {
    /// True if no option was given that names instances.
    pub(super) fn is_empty(&self) -> bool {
        self.select.is_empty() && !self.everywhere
    }
}

/// Reads ids and globs from standard input: at least one.
pub(super) async fn read_stdin() -> Result<Vec<IdPattern>, Failure> {
    let read = tokio::task::spawn_blocking(|| {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(MAX_STDIN + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let failed = |why: String| Failure::new(Exit::Usage, format!("cannot read ids from standard input: {why}"));
    let bytes = read.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(failed(format!("more than {} MiB", MAX_STDIN >> 20)));
    }
    parse_ids(&String::from_utf8(bytes).map_err(|_| failed("not UTF-8 text".to_owned()))?)
}

fn parse_ids(text: &str) -> Result<Vec<IdPattern>, Failure> {
    let mut ids = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in line.split_whitespace() {
            let wrong = |error: NameError| Failure::new(Exit::Usage, format!("standard input, line {number}: {error}"));
            ids.push(word.parse().map_err(wrong)?);
        }
    }
    if ids.is_empty() {
        return Err(Failure::new(Exit::Usage, "standard input names no instance").hint("--on - reads ids from it"));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_standard_input_are_checked_with_their_line() {
        let ids: Vec<String> = parse_ids("i-1 i-2\r\n\n\ti-0a*\n").unwrap().iter().map(IdPattern::to_string).collect();
        assert_eq!(ids, ["i-1", "i-2", "i-0a*"]);
        let error = parse_ids("i-1\n-rf\n").unwrap_err().message;
        assert!(error.starts_with("standard input, line 2: "), "{error}");
        for nothing in ["", "\n \n"] {
            assert_eq!(parse_ids(nothing).unwrap_err().message, "standard input names no instance");
        }
    }
}
