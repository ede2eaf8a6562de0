//! `bolt grants check`: which grant of a file allows something, and why the others do not.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use packs_schema::agent::grants::{Object, Question, Verb, Verdict};
use packs_schema::agent::rest::AccessTarget;
use packs_schema::base::name::{InstanceId, PackName, Principal};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use packs_schema::pack::param::Parameters;
use packs_schema::pack::param::bind::bind;
use serde_json::{Map, Value, json};

use super::{read_grants, read_packs};
use crate::cli::failure::{Exit, Failure};
use crate::parameters::{Given, add, errors};
use crate::show::{self, visible};
use crate::{errln, outln};

/// Explain what a file of grants allows.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints each grant, in the order of the file, and every reason why it does not match. The first grant that matches allows \
the request; without one, it is refused. Agents decide with the same code.

The verb push applies to packs: name the pack. The verb sync applies to all packs: name nothing. The verb approve is \
reserved: grants may give it, but no action needs approval yet.

--pack reads class and parameters of the action from its pack, checks the given values, and adds defaults, as an agent \
does. Without it, give the class with --class; values that are JSON are read as JSON.

Exit code 0 when the request is allowed, 4 when it is refused.

Examples:
  bolt grants check --as spiffe://example/oncall/ann run cassandra.clear_snapshots \\
    keyspace=users --pack packs/cassandra
  bolt grants check --as spiffe://example/robot run linux.disk_usage --class diagnostic \\
    --facts region=eu-west-1 --facts tags.team=storage --at 2027-01-02T23:00:00Z
  bolt grants check --as spiffe://example/dev/ann push cassandra
  bolt grants check --grants grants.toml --as spiffe://example/prometheus metrics")]
pub(in crate::cli) struct CheckCommand {
    /// Principal of the caller.
    #[arg(long = "as", value_name = "URI")]
    principal: Principal,
    /// Verb: read, run, kill, sync, push, metrics or approve (reserved).
    verb: Verb,
    /// An action (cassandra.clear_snapshots), or a pack (cassandra) for all of its actions [default: anything].
    #[arg(value_name = "ACTION|PACK", value_parser = target)]
    target: Option<AccessTarget>,
    /// Parameters of the action: NAME=VALUE or NAME=@FILE.
    #[arg(value_name = "NAME=VALUE")]
    parameters: Vec<Given>,
    /// The file of grants.
    #[arg(long, value_name = "FILE", default_value = "/etc/bolt/grants.toml")]
    grants: PathBuf,
    /// Directory of a pack, to look the action up; repeatable.
    #[arg(long, value_name = "DIR")]
    pack: Vec<PathBuf>,
    /// Class of the action: diagnostic, remediation or maintenance.
    #[arg(long, conflicts_with = "pack")]
    class: Option<Class>,
    /// A fact of the instance: id, region, zone, app, cluster, group or tags.NAME; repeatable. Others are empty.
    #[arg(long, value_name = "NAME=VALUE", value_parser = fact)]
    facts: Vec<(String, String)>,
    /// Time of the request, RFC 3339 [default: now].
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

/// Reads an action, or a pack: `cassandra` means the same as `cassandra.*`.
fn target(text: &str) -> Result<AccessTarget, String> {
    let target = if text.contains('.') { text.parse() } else { PackName::new(text).map(AccessTarget::Pack) };
    target.map_err(|e| e.to_string())
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "use a time of RFC 3339, such as 2027-01-02T23:00:00Z".to_owned())
}

fn fact(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write a fact as NAME=VALUE")?;
    if name != "id" && no_facts().with(name, value).is_none() {
        return Err("facts are id, region, zone, app, cluster, group and tags.NAME".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs `bolt grants check`.
pub(super) fn run(command: &CheckCommand, json: bool) -> Result<Exit, Failure> {
    let asked = object(command)?;
    if command.principal.is_local() {
        let message = format!("{} is a name of local access: agents refuse it in certificates", command.principal);
        let hint = "a grant to it gives nothing; root of the instance reads and kills without one (`bolt local`)";
        return Err(Failure::new(Exit::Refused, message).hint(hint));
    }
    let grants = read_grants(&command.grants)?;
    let (class, values) = action(command)?;
    let facts = facts(&command.facts)?;
    let at = command.at.unwrap_or_else(Timestamp::now);
    let question =
        Question { who: &command.principal, verb: command.verb, object: asked, class, parameters: values.as_ref() };
    let verdicts = grants.explain(&question, Some(&facts), at.as_second());
    let deciding = verdicts.iter().find(|verdict| verdict.allows()).map(|verdict| verdict.place);
    let exit = if deciding.is_some() { Exit::Success } else { Exit::Refused };
    if command.verb == Verb::Approve {
        errln!("the verb approve is reserved: no action needs approval yet, so that it has no effect");
    }
    if json {
        let lines: Vec<Value> = verdicts
            .iter()
            .map(|verdict| json!({ "grant": verdict.place, "matches": verdict.allows(), "reasons": reasons(verdict) }))
            .collect();
        outln!("{}", show::json(&json!({ "allowed": deciding.is_some(), "grant": deciding, "grants": lines })));
        return Ok(exit);
    }
    for verdict in &verdicts {
        let answer = match verdict.allows() {
            true if Some(verdict.place) == deciding => "matches".to_owned(),
            true => "matches as well".to_owned(),
            false => format!("no: {}", reasons(verdict).join("; ")),
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

/// Returns all reasons why a grant does not match.
fn reasons(verdict: &Verdict<'_>) -> Vec<String> {
    verdict.mismatches.iter().map(ToString::to_string).collect()
}

/// Returns the object of the question, which has to be one that the verb applies to.
fn object(command: &CheckCommand) -> Result<Object<'_>, Failure> {
    match (command.verb, &command.target) {
        (_, None) => Ok(Object::Any),
        (Verb::Sync, Some(_)) => {
            let hint = format!("run `bolt grants check --as {} sync`", command.principal);
            Err(Failure::new(Exit::Usage, "sync applies to all packs, not to one pack or action").hint(hint))
        }
        (Verb::Push, Some(AccessTarget::Action(action))) => {
            let hint = format!("run `bolt grants check --as {} push {}`", command.principal, action.pack());
            Err(Failure::new(Exit::Usage, format!("push applies to packs, not to an action such as {action}"))
                .hint(hint))
        }
        (_, Some(AccessTarget::Action(action))) => Ok(Object::Action(action)),
        (_, Some(AccessTarget::Pack(pack))) => Ok(Object::Pack(pack)),
    }
}

/// Class of an action and values of its parameters, as far as they are known.
type KnownAction = (Option<Class>, Option<Map<String, Value>>);

fn action(command: &CheckCommand) -> Result<KnownAction, Failure> {
    let packs = read_packs(&command.pack)?;
    let mut found = None;
    let named = match &command.target {
        Some(AccessTarget::Action(action)) => Some(action),
        Some(AccessTarget::Pack(_)) | None => None,
    };
    if let (Some(name), false) = (named, packs.is_empty()) {
        let all = packs.iter().flat_map(|pack| &pack.actions);
        let missing = || Failure::new(Exit::Usage, format!("no given pack has the action {name}"));
        found = Some(all.into_iter().find(|action| action.reference() == *name).ok_or_else(missing)?);
    }
    // Only these two are about values; of others some are allowed whenever the grant is.
    if named.is_none() || !matches!(command.verb, Verb::Run | Verb::Approve) {
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

/// Returns the facts of an instance of which nothing is known.
fn no_facts() -> Facts {
    Facts::of(InstanceId::new("i-0").expect("an id"))
}

fn facts(given: &[(String, String)]) -> Result<Facts, Failure> {
    given.iter().try_fold(no_facts(), |facts, (name, value)| {
        facts
            .with(name, value)
            .ok_or_else(|| Failure::new(Exit::Usage, format!("--facts {name}: {} is no instance id", visible(value))))
    })
}
