//! `bolt instances`: lists the inventory, with `--check` also the health of its agents.

mod count;

use std::collections::BTreeMap;

use clap::Args;
use packs_schema::agent::rest::Health;
use serde_json::{Value, json};

use super::context::{Context, error_json, exit_of_none, grouped, say_exit_code};
use super::failure::{Exit, Failure};
use super::select::SelectArgs;
use crate::error::Error;
use crate::fleet::{DEFAULT_PARALLEL, across};
use crate::inventory::Instance;
use crate::show::{self, visible};
use crate::{errln, outln};

const EXAMPLES: &str = "\
Examples:
  bolt instances                                  the inventory
  bolt instances --check                          with the health of each agent
  bolt instances --where \"app == 'cassandra'\"      which instances an expression chooses
  bolt instances --sample 3 --exclude 'i-0a*'     three at random, without some
  bolt instances --on - <ids.txt                  those of a file";

/// Maximum number of instances without an answer that have a row of their own; more are grouped by error.
const MAX_ROWS_OF_ERRORS: usize = 20;

/// List the instances of the inventory.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct InstancesCommand {
    /// Ask each agent for its health.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    select: SelectArgs,
}

/// Runs `bolt instances`.
pub(super) async fn run(command: InstancesCommand, context: Context) -> Result<Exit, Failure> {
    let instances = context.select(&command.select).await?;
    let health = if command.check { Some(check(&context, &instances).await?) } else { None };
    if context.json {
        let list: Vec<Value> =
            instances.iter().enumerate().map(|(n, i)| entry(i, health.as_ref().map(|all| &all[n]))).collect();
        outln!(
            "{}",
            show::json(
                &json!({ "instances": list, "counts": count::to_json(&instances), "missing": context.missing_json() })
            )
        );
    } else {
        print(&context, &instances, health.as_deref());
        errln!("{}", count::summary(&instances));
    }
    let health = health.unwrap_or_default();
    let Some(why) = problems(&health) else { return Ok(Exit::Success) };
    let failed: Vec<&Error> = health.iter().filter_map(|one| one.as_ref().err()).collect();
    let exit = if failed.len() == health.len() { exit_of_none(failed) } else { Exit::Failed };
    say_exit_code(exit, &why);
    Ok(exit)
}

/// Counts the instances that are not ready, or that did not answer; `None` when all are well.
fn problems(health: &[Result<Health, Error>]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in health.iter().map(|one| one.as_ref().map_or_else(|error| error.kind.outcome(), word)) {
        *counts.entry(word).or_default() += 1;
    }
    let ready = counts.remove(READY).unwrap_or_default();
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let all = show::counted(health.len(), "instance");
    (!counts.is_empty()).then(|| format!("{ready} of {all} ready ({})", counts.join(", ")))
}

async fn check(context: &Context, instances: &[Instance]) -> Result<Vec<Result<Health, Error>>, Failure> {
    let identity = context.identity()?;
    let answers = across(instances, &identity, DEFAULT_PARALLEL, async |agent| agent.health().await).await;
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

fn entry(instance: &Instance, health: Option<&Result<Health, Error>>) -> Value {
    let mut entry = json!({ "facts": instance.facts, "address": instance.address });
    match health {
        Some(Ok(health)) => entry["health"] = json!(health),
        Some(Err(error)) => entry["error"] = error_json(error),
        None => {}
    }
    entry
}

fn print(context: &Context, instances: &[Instance], health: Option<&[Result<Health, Error>]>) {
    let mut heads = vec!["ID", "ADDRESS", "REGION", "ZONE", "APP"];
    if health.is_some() {
        heads.push("HEALTH");
    }
    let failed: Vec<&Error> = health.unwrap_or_default().iter().filter_map(|answer| answer.as_ref().err()).collect();
    let is_grouped = failed.len() > MAX_ROWS_OF_ERRORS;
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { visible(text) };
    let rows: Vec<Vec<String>> = instances
        .iter()
        .enumerate()
        .filter(|(n, _)| !is_grouped || health.is_none_or(|all| all[*n].is_ok()))
        .map(|(n, instance)| {
            let facts = &instance.facts;
            let mut row = vec![facts.id.to_string(), instance.address.to_string()];
            row.extend([&facts.region, &facts.zone, &facts.app].map(|fact| dash(fact)));
            row.extend(health.map(|all| describe(&all[n])));
            row
        })
        .collect();
    if !rows.is_empty() {
        context.print_table(&heads, &rows);
    }
    if is_grouped {
        grouped(failed).iter().for_each(|line| errln!("bolt: {line}"));
    }
}

fn describe(health: &Result<Health, Error>) -> String {
    let health = match health {
        Ok(health) => health,
        Err(error) => return show::cell(&error.kind.to_string()),
    };
    let word = word(health);
    let reasons: Vec<String> =
        health.reasons.iter().map(|reason| show::cell(&format!("{}: {}", reason.code, reason.message))).collect();
    if reasons.is_empty() { word.to_owned() } else { format!("{word}: {}", reasons.join("; ")) }
}

/// Word for an agent that is well.
const READY: &str = "ready";

fn word(health: &Health) -> &'static str {
    match (health.ready, health.degraded) {
        (false, _) => "not ready",
        (true, true) => "degraded",
        (true, false) => READY,
    }
}
