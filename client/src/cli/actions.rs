//! `bolt actions`: what can be run, and how.

use std::collections::BTreeMap;

use clap::Args;
use packs_schema::action::Action;
use packs_schema::name::ActionRef;
use packs_schema::param::{Schema, Types};
use packs_schema::quantity::{show_bytes, show_duration};
use packs_schema::rest::ActionView;
use serde_json::json;

use super::context::{Answers, Context};
use super::failure::{Exit, Failure};
use super::select::SelectArgs;
use crate::show::{self, visible};

/// List what can be run, or show one action with its parameters.
#[derive(Debug, Args)]
pub(super) struct ActionsCommand {
    /// An action (linux.disk_usage) to show, or a pack (linux) whose actions to list.
    #[arg(value_name = "ACTION|PACK")]
    name: Option<String>,
    #[command(flatten)]
    select: SelectArgs,
}

/// Runs `bolt actions`.
pub(super) async fn run(command: ActionsCommand, context: Context) -> Result<Exit, Failure> {
    let answers = context.ask(&command.select, async |agent| agent.actions().await).await?;
    let exit = answers.report()?;
    let asked = answers.given.len();
    let Answers { given, .. } = answers;
    let mut known: BTreeMap<ActionRef, Vec<(String, ActionView)>> = BTreeMap::new();
    for (instance, views) in given {
        for view in views {
            known.entry(view.action.reference()).or_default().push((instance.id().to_string(), view));
        }
    }
    match command.name.as_deref() {
        Some(name) if name.contains('.') => {
            let wanted = ActionRef::new(name).map_err(|e| Failure::new(Exit::Usage, e.to_string()))?;
            let Some(views) = known.get(&wanted) else {
                return Err(unknown(&wanted, known.keys()));
            };
            one(&context, views, asked);
        }
        Some(pack) => {
            known.retain(|action, _| action.pack().as_str() == pack);
            if known.is_empty() {
                let message = format!("no instance has a pack {:?} with actions that you may see", visible(pack));
                return Err(Failure::new(Exit::Refused, message).hint("`bolt packs` lists the active packs"));
            }
            list(&context, &known);
        }
        None => list(&context, &known),
    }
    Ok(exit)
}

/// An action that no instance has, with the names near it.
pub(super) fn unknown<'a>(wanted: &ActionRef, known: impl Iterator<Item = &'a ActionRef>) -> Failure {
    let mut near: Vec<(usize, &ActionRef)> = known
        .map(|action| (distance(wanted.as_str(), action.as_str()), action))
        .filter(|(distance, action)| *distance <= 4 || action.action() == wanted.action())
        .collect();
    near.sort();
    let names: Vec<&str> = near.iter().take(3).map(|(_, action)| action.as_str()).collect();
    let failure = Failure::new(Exit::Refused, format!("there is no action {wanted} there, or no grant to see it"));
    if names.is_empty() {
        failure.hint("`bolt actions` lists what can be run")
    } else {
        failure.hint(format!("did you mean {}?", names.join(" or ")))
    }
}

/// How many letters must change to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn list(context: &Context, known: &BTreeMap<ActionRef, Vec<(String, ActionView)>>) {
    if context.json {
        let actions: Vec<_> =
            known.values().map(|views| json!({ "action": views[0].1, "instances": instances(views) })).collect();
        println!("{}", show::json(&json!({ "actions": actions })));
        return;
    }
    if known.is_empty() {
        eprintln!("no actions: the agents have no packs yet, or you have no grant to see them");
        return;
    }
    let rows: Vec<Vec<String>> = known
        .iter()
        .map(|(name, views)| {
            let (action, version) = (&views[0].1.action, &views[0].1.version);
            let mixed = views.iter().any(|(_, view)| view.version != *version);
            let version = if mixed { "mixed".to_owned() } else { version.to_string() };
            let first = first_sentence(&action.description);
            let off = if action.enabled { "" } else { "(disabled) " };
            let text = format!("{off}{}", visible(&first));
            vec![name.to_string(), action.class.to_string(), version, views.len().to_string(), text]
        })
        .collect();
    context.print_table(&["ACTION", "CLASS", "VERSION", "INSTANCES", "DESCRIPTION"], &rows);
}

/// The first sentence of a description, at most 90 characters of it.
fn first_sentence(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let sentence = line.split_once(". ").map_or(line, |(first, _)| first).trim_end_matches('.');
    if sentence.chars().count() <= 90 {
        return sentence.to_owned();
    }
    let mut cut: String = sentence.chars().take(89).collect();
    cut.push('…');
    cut
}

fn instances(views: &[(String, ActionView)]) -> Vec<&str> {
    views.iter().map(|(instance, _)| instance.as_str()).collect()
}

fn one(context: &Context, views: &[(String, ActionView)], asked: usize) {
    let (first, view) = &views[0];
    if context.json {
        println!("{}", show::json(&json!({ "action": view, "instances": instances(views) })));
        return;
    }
    let action = &view.action;
    println!("{} {} ({}), {}", action.reference(), view.version, view.digest.short(), action.class);
    if !action.description.trim().is_empty() {
        println!("\n{}", show::visible_lines(action.description.trim()));
    }
    if !action.enabled {
        println!("\nIt is disabled and cannot be run.");
    }
    println!("\n{}", parameters(action));
    for (name, value) in limits(action) {
        println!("{name:<12} {value}");
    }
    println!("{:<12} {} of {asked}", "instances", views.len());
    if views.iter().any(|(_, other)| other.digest != view.digest) {
        eprintln!("this is the version on {first}; other instances have others");
    }
}

fn parameters(action: &Action) -> String {
    if action.parameters.is_empty() {
        return "It takes no parameters.\n".to_owned();
    }
    let rows: Vec<Vec<String>> = action
        .parameters
        .iter()
        .map(|(name, schema)| {
            let description = schema.description.as_deref().unwrap_or_default().trim().replace('\n', " ");
            vec![name.to_string(), kind(schema), default(schema), visible(&description)]
        })
        .collect();
    show::table(&["PARAMETER", "TYPE", "DEFAULT", "DESCRIPTION"], &rows, super::terminal::width())
}

fn kind(schema: &Schema) -> String {
    let types = schema.types.as_ref().map_or(&[][..], Types::as_slice);
    let names: Vec<String> = types.iter().map(|t| format!("{t:?}").to_lowercase()).collect();
    let mut kind = if names.is_empty() { "any".to_owned() } else { names.join(" or ") };
    if let Some(values) = &schema.enumeration {
        let values: Vec<String> = values.iter().map(|v| visible(&plain(v))).collect();
        kind = format!("one of {}", show::listed(&values, 8));
    }
    if let Some(minimum) = &schema.minimum {
        kind.push_str(&format!(" from {minimum}"));
    }
    if let Some(maximum) = &schema.maximum {
        kind.push_str(&format!(" to {maximum}"));
    }
    if schema.secret {
        kind.push_str(", secret");
    }
    kind
}

fn default(schema: &Schema) -> String {
    match &schema.default {
        Some(value) if schema.immutable => format!("always {}", visible(&plain(value))),
        Some(value) if !schema.secret => visible(&plain(value)),
        Some(_) => "[secret]".to_owned(),
        None if schema.is_required() => "must be given".to_owned(),
        None => "-".to_owned(),
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| show::json_line(value), str::to_owned)
}

fn limits(action: &Action) -> Vec<(&'static str, String)> {
    let limits = &action.limits;
    let mut lines = vec![
        (
            "run as",
            action.run_as.as_ref().map_or_else(|| "the agent's default account".to_owned(), ToString::to_string),
        ),
        ("time-out", show_duration(action.timeout())),
        ("limits", format!("{} memory, {} cpu, {} processes", show_bytes(limits.memory.0), limits.cpu, limits.pids)),
        ("output", format!("{} of each stream are kept", show_bytes(action.output_max.0))),
        ("noop", if action.noop { "understood" } else { "not understood" }.to_owned()),
    ];
    if let Some(concurrency) = &action.concurrency {
        lines.push(("at once", format!("{} in group {}", concurrency.max, action.group())));
    }
    if let Some(rate) = &action.rate {
        lines.push(("rate", format!("{} per {}", rate.max, show_duration(rate.per.0))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered() {
        let name = |text| ActionRef::new(text).unwrap();
        let known = [name("linux.disk_usage"), name("linux.memory"), name("cassandra.clear_snapshots")];
        let failure = unknown(&name("linux.disk_usge"), known.iter());
        assert_eq!(failure.hint.as_deref(), Some("did you mean linux.disk_usage?"));
        assert!(unknown(&name("x.nothing_like_it"), known.iter()).hint.unwrap().contains("bolt actions"));
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("a", "a")), (3, 3, 0));
    }
}
