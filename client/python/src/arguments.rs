//! Calls of Python, as it writes them: JSON whose values are checked here, each with the name of its argument in the error.

use std::path::PathBuf;
use std::time::Duration;

use bolt_client::fleet::{Amount, Grouping, Pause, Strategy};
use bolt_client::runner::{CheckOrder, Order};
use packs_schema::base::name::{ActionRef, PackVersion};
use packs_schema::base::quantity::parse_duration;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::choose::{Choice, run_id};
use crate::fault::Fault;

/// Operation, and the fleet that it is for. Has no `Debug`: it holds parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// Configuration file; absent: the one of the command.
    pub(crate) config: Option<PathBuf>,
    /// False if runs are not recorded.
    pub(crate) record: bool,
    /// True if the progress is reported.
    pub(crate) progress: bool,
    pub(crate) operation: Kind,
}

/// Operation.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Kind {
    Instances { choice: Choice },
    Run(Box<RunArguments>),
    Resume { run: String, secrets: Map<String, Value>, confirmed: bool },
    Retry { run: String, secrets: Map<String, Value>, unreachable: bool, not_started: bool, confirmed: bool },
    Runs {},
    Kill { run: String, choice: Choice, note: Option<String> },
}

/// Arguments of `Fleet.run`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunArguments {
    action: String,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) choice: Choice,
    pub(crate) everywhere: bool,
    pub(crate) confirmed: bool,
    by: Value,
    batch: Value,
    canary: Value,
    max_failures: Value,
    max_unreachable: Value,
    max_batch_failures: Value,
    parallel: Value,
    /// True if the caller is asked before each batch.
    ask: bool,
    pause: Value,
    jitter: Value,
    within: Value,
    instance_timeout: Value,
    check: Option<String>,
    pub(crate) check_parameters: Map<String, Value>,
    check_for: Value,
    max_check_failures: Value,
    dry_run: bool,
    note: Option<String>,
    timeout: Value,
    run_id: Option<String>,
}

impl RunArguments {
    /// Returns the run that is asked for.
    pub(crate) fn order(&self) -> Result<Order, Fault> {
        let (action, version) = action("action", &self.action)?;
        let default = Strategy::default();
        let strategy = Strategy {
            grouping: grouping(&self.by)?,
            batch: amount("batch", &self.batch)?,
            canary: count("canary", &self.canary)?.unwrap_or(default.canary),
            max_failures: amount("max_failures", &self.max_failures)?.unwrap_or(default.max_failures),
            max_batch_failures: amount("max_batch_failures", &self.max_batch_failures)?,
            pause: match (time("pause", &self.pause)?, self.ask) {
                (Some(_), true) => {
                    return Err(Fault::argument("pause", "give either pause or confirm_batch"));
                }
                (None, true) => Pause::Confirm,
                (Some(time), false) => Pause::For(time),
                (None, false) => Pause::None,
            },
            jitter: time("jitter", &self.jitter)?.unwrap_or(default.jitter),
            deadline: time("within", &self.within)?,
            instance_timeout: time("instance_timeout", &self.instance_timeout)?,
            parallel: count("parallel", &self.parallel)?.unwrap_or(default.parallel),
            ..default
        };
        if strategy.parallel == 0 {
            return Err(Fault::argument("parallel", "it must be at least 1"));
        }
        if matches!(strategy.batch, Some(Amount::Count(0) | Amount::Percent(0))) {
            return Err(Fault::argument("batch", "a batch has at least one instance"));
        }
        if strategy.instance_timeout == Some(Duration::ZERO) {
            return Err(Fault::argument("instance_timeout", "it is more than 0 s"));
        }
        Ok(Order {
            action,
            version,
            noop: self.dry_run,
            note: note(self.note.as_deref())?,
            timeout: time("timeout", &self.timeout)?,
            run_id: self.run_id.as_deref().map(|id| run_id("run_id", id)).transpose()?,
            strategy,
            max_unreachable: amount("max_unreachable", &self.max_unreachable)?,
            check: self.check()?,
        })
    }

    fn check(&self) -> Result<Option<CheckOrder>, Fault> {
        let (within, most) =
            (time("check_for", &self.check_for)?, amount("max_check_failures", &self.max_check_failures)?);
        let Some(check) = &self.check else {
            if within.is_some() || most.is_some() || !self.check_parameters.is_empty() {
                return Err(Fault::argument("check", "name the action of the check"));
            }
            return Ok(None);
        };
        let (action, version) = action("check", check)?;
        let max_failures = most.unwrap_or(Amount::Count(0));
        Ok(Some(CheckOrder { action, version, within: within.unwrap_or_default(), max_failures }))
    }
}

/// Reads a note.
pub(crate) fn note(text: Option<&str>) -> Result<Option<String>, Fault> {
    const MOST: usize = packs_schema::agent::rest::MAX_NOTE;
    match text {
        Some(text) if text.chars().count() > MOST => {
            Err(Fault::argument("note", format!("it has at most {MOST} characters")))
        }
        _ => Ok(text.map(str::to_owned)),
    }
}

/// Reads `pack.action` or `pack.action@version`.
fn action(argument: &str, text: &str) -> Result<(ActionRef, Option<PackVersion>), Fault> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let name = ActionRef::new(name).map_err(|error| Fault::argument(argument, error))?;
    let version = version.map(PackVersion::new).transpose().map_err(|error| Fault::argument(argument, error))?;
    Ok((name, version))
}

fn grouping(value: &Value) -> Result<Grouping, Fault> {
    match value {
        Value::Null => Ok(Grouping::Serial),
        Value::String(text) if text == "zone" => Ok(Grouping::Zone),
        Value::String(text) if text == "region" => Ok(Grouping::Region),
        Value::String(text) if text == "all" => Ok(Grouping::All),
        _ => Err(Fault::argument(
            "by",
            "it is \"zone\", \"region\" or \"all\"; left out, one instance follows the other",
        )),
    }
}

/// Reads a count, or a percentage such as `"10%"`.
fn amount(argument: &str, value: &Value) -> Result<Option<Amount>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|error| Fault::argument(argument, error)),
        _ => count(argument, value).map(|count| count.map(Amount::Count)),
    }
}

fn count(argument: &str, value: &Value) -> Result<Option<usize>, Fault> {
    match value {
        Value::Null => Ok(None),
        _ => match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(Fault::argument(argument, "it is a whole number of at least 0")),
        },
    }
}

/// Reads a time: a number of seconds, or text such as `"2m"`.
fn time(argument: &str, value: &Value) -> Result<Option<Duration>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => parse_duration(text).map(Some).map_err(|error| Fault::argument(argument, error)),
        _ => match value.as_f64().map(Duration::try_from_secs_f64) {
            Some(Ok(time)) => Ok(Some(time)),
            _ => Err(Fault::argument(argument, "it is a number of seconds of at least 0, or text such as \"2m\"")),
        },
    }
}
