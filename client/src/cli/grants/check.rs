//! `bolt grants check`: which grant of a file allows something, and why the others do not.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use packs_schema::agent::grants::{Question, Verb};
use packs_schema::base::name::{ActionRef, InstanceId, Principal};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use packs_schema::pack::param::Parameters;
use packs_schema::pack::param::bind::bind;
use serde_json::{Map, Value, json};

use super::{read_grants, read_packs};
use crate::cli::failure::{Exit, Failure};
use crate::outln;
use crate::parameters::{Given, add, errors};
use crate::show::{self, visible};

/// Explain what a file of grants allows.
#[derive(Debug, Args)]
#[command(after_help = "\
Each grant is shown in the order of the file with the reason why it does not match. The first that matches decides; without
one, the request is refused. The agent decides by the same code. --pack tells class and parameters of the action, so that
values are read and defaults added as an agent does; without it, --class tells the class, and values that are JSON are
read as such.

Exit code 0 when it is allowed, 4 when it is refused.

Examples:
  bolt grants check --as spiffe://example/oncall/ann run cassandra.clear_snapshots keyspace=users --pack packs/cassandra
  bolt grants check --as spiffe://example/robot run linux.disk_usage --class diagnostic \\
    --facts region=eu-west-1 --facts tags.team=storage --at 2027-01-02T23:00:00Z
  bolt grants check --grants grants.toml --as spiffe://example/prometheus metrics")]
pub(in crate::cli) struct CheckCommand {
    /// Principal of the caller.
    #[arg(long = "as", value_name = "URI")]
    principal: Principal,
    /// Verb: read, run, kill, sync, push, metrics or approve.
    verb: Verb,
    /// The action (cassandra.clear_snapshots) [default: any].
    action: Option<ActionRef>,
    /// Parameters of the action: NAME=VALUE or NAME=@FILE.
    #[arg(value_name = "NAME=VALUE")]
    parameters: Vec<Given>,
    /// The file.
    #[arg(long, value_name = "FILE", default_value = "/etc/bolt/grants.toml")]
    grants: PathBuf,
    /// Directory of the action's pack; repeatable.
    #[arg(long, value_name = "DIR")]
    pack: Vec<PathBuf>,
    /// Class of the action: diagnostic, remediation or maintenance.
    #[arg(long, conflicts_with = "pack")]
    class: Option<Class>,
    /// A fact of the instance: id, region, zone, app, cluster, group or tags.NAME; repeatable. Others are empty.
    #[arg(long, value_name = "NAME=VALUE", value_parser = fact)]
    facts: Vec<(String, String)>,
    /// Time of the request, RFC 3339 [default: now].
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

fn fact(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write a fact as NAME=VALUE")?;
    let known = ["id", "region", "zone", "app", "cluster", "group"].contains(&name);
    let is_tag = name.strip_prefix("tags.").is_some_and(|tag| !tag.is_empty());
    if !known && !is_tag {
        return Err("facts are id, region, zone, app, cluster, group and tags.NAME".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs `bolt grants check`.
pub(super) fn run(command: &CheckCommand, json: bool) -> Result<Exit, Failure> {
    let grants = read_grants(&command.grants)?;
    let (class, values) = action(command)?;
    let facts = facts(&command.facts)?;
    let at = command.at.unwrap_or_else(Timestamp::now);
    let question = Question {
        who: &command.principal,
        verb: command.verb,
        action: command.action.as_ref(),
        class,
        parameters: values.as_ref(),
    };
    let verdicts = grants.explain(&question, Some(&facts), at.as_second());
    let deciding = verdicts.iter().find(|verdict| verdict.mismatch.is_none()).map(|verdict| verdict.place);
    let exit = if deciding.is_some() { Exit::Success } else { Exit::Refused };
    if json {
        let lines: Vec<Value> = verdicts
            .iter()
            .map(|verdict| {
                let reason = verdict.mismatch.as_ref().map(ToString::to_string);
                json!({ "grant": verdict.place, "matches": reason.is_none(), "reason": reason })
            })
            .collect();
        outln!("{}", show::json(&json!({ "allowed": deciding.is_some(), "grant": deciding, "grants": lines })));
        return Ok(exit);
    }
    for verdict in &verdicts {
        let answer = match &verdict.mismatch {
            None if Some(verdict.place) == deciding => "matches".to_owned(),
            None => "matches as well".to_owned(),
            Some(mismatch) => format!("no: {mismatch}"),
        };
        outln!("{}: {}", verdict.place, visible(&answer));
    }
    match deciding {
        Some(place) => outln!("allowed by {place}"),
        None if verdicts.is_empty() => outln!("refused: the file has no grant"),
        None => outln!("refused: no grant matches"),
    }
    Ok(exit)
}

/// Class of an action and values of its parameters, as far as they are known.
type KnownAction = (Option<Class>, Option<Map<String, Value>>);

fn action(command: &CheckCommand) -> Result<KnownAction, Failure> {
    let packs = read_packs(&command.pack)?;
    let mut found = None;
    if let (Some(name), false) = (&command.action, packs.is_empty()) {
        let all = packs.iter().flat_map(|pack| &pack.actions);
        let missing = || Failure::new(Exit::Usage, format!("no given pack has the action {name}"));
        found = Some(all.into_iter().find(|action| action.reference() == *name).ok_or_else(missing)?);
    }
    // Only these two are about values; of others some are allowed whenever the grant is.
    if command.action.is_none() || !matches!(command.verb, Verb::Run | Verb::Approve) {
        return Ok((found.map_or(command.class, |action| Some(action.class)), None));
    }
    let none = Parameters::new();
    let schema = found.map_or(&none, |action| &action.parameters);
    let mut values = Map::new();
    let unread = add(&mut values, &command.parameters, schema).map_err(|e| Failure::from_error(Exit::Usage, &e))?;
    let Some(action) = found else {
        for value in values.values_mut() {
            if let Some(read) = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok()) {
                *value = read;
            }
        }
        return Ok((command.class, Some(values)));
    };
    let wrong = errors(schema, &values, &unread);
    if let Some(error) = wrong.first() {
        return Err(Failure::new(Exit::Usage, error.to_string()));
    }
    let bound = bind(schema, &values).map(|bound| bound.values().clone()).unwrap_or(values);
    Ok((Some(action.class), Some(bound)))
}

fn facts(given: &[(String, String)]) -> Result<Facts, Failure> {
    let id = given.iter().find(|(name, _)| name == "id").map_or("i-0", |(_, id)| id.as_str());
    let id = InstanceId::new(id).map_err(|e| Failure::new(Exit::Usage, format!("--facts id: {e}")))?;
    let mut facts = Facts::of(id);
    for (name, value) in given {
        let slot = match name.as_str() {
            "region" => &mut facts.region,
            "zone" => &mut facts.zone,
            "app" => &mut facts.app,
            "cluster" => &mut facts.cluster,
            "group" => &mut facts.group,
            other => match other.strip_prefix("tags.") {
                Some(tag) => facts.tags.entry(tag.to_owned()).or_default(),
                None => continue,
            },
        };
        value.clone_into(slot);
    }
    Ok(facts)
}
