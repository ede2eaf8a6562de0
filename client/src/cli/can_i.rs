//! `bolt can-i`: asks instances whether their grants allow something.

use std::collections::BTreeMap;

use clap::Args;
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::{AccessReview, AccessTarget, Code};
use packs_schema::base::name::{InstanceId, PackName};
use serde_json::{Value, json};

use super::context::{Answers, Context, say_unanswered};
use super::failure::{Exit, Failure};
use super::select::SelectArgs;
use crate::error::{Error, Kind};
use crate::outln;
use crate::show;

/// Maximum number of instance ids in a row of the table.
const MAX_IDS: usize = 10;

/// Ask instances whether you may do something.
#[derive(Debug, Args)]
#[command(after_help = "\
Each instance answers by its own grants, and names the grant that decides. The verb push applies to packs: name all \
actions of the pack. The verb approve is reserved: grants may give it, but no action needs approval yet.

Exit code 0 when every instance allows it; 4 when one of them refuses it, or does not have the action.

Examples:
  bolt can-i run cassandra.clear_snapshots --where 'app == \"cassandra\"'
  bolt can-i push 'cassandra.*' --on i-0abc
  bolt can-i sync")]
pub(super) struct CanICommand {
    /// Verb: read, run, kill, sync, push, metrics or approve (reserved).
    verb: Verb,
    /// An action (cassandra.clear_snapshots), or all actions of a pack (cassandra.*) [default: anything].
    #[arg(value_name = "ACTION|PACK.*", value_parser = target)]
    target: Option<AccessTarget>,
    #[command(flatten)]
    select: SelectArgs,
}

/// Reads an action or all actions of a pack. The name of a pack alone is neither.
fn target(text: &str) -> Result<AccessTarget, String> {
    text.parse().map_err(|e| match PackName::new(text) {
        Ok(pack) => format!("{e}; for all actions of the pack, write {pack}.*"),
        Err(_) => format!("{e}"),
    })
}

/// Answer of an instance.
enum Answer {
    Review(Box<AccessReview>),
    /// No grant names the caller at all.
    Unknown,
}

impl Answer {
    fn is_allowed(&self) -> bool {
        matches!(self, Answer::Review(review) if review.allowed && !lacks_action(review))
    }

    /// Returns the row of the table without the instances: the answer, the version, and the reason.
    fn describe(&self) -> [String; 3] {
        let Answer::Review(review) = self else {
            return ["no", "-", "no grant in grants.toml names you"].map(str::to_owned);
        };
        let version = review.active.as_ref().map_or_else(
            || "-".to_owned(),
            |active| format!("{}{}", active.version, if active.enabled { "" } else { " (disabled)" }),
        );
        if review.allowed && lacks_action(review) {
            let reason = "no active version has this action; a grant would allow it".to_owned();
            return ["no".to_owned(), version, reason];
        }
        let answer = if review.allowed { "yes" } else { "no" };
        [answer.to_owned(), version, show::cell(&review.reason)]
    }

    fn to_json(&self, instance: &InstanceId) -> Value {
        match self {
            Answer::Review(review) => json!(review),
            Answer::Unknown => json!({ "instance": instance, "allowed": false, "reason": self.describe()[2] }),
        }
    }
}

/// True if the question is about running an action that the instance does not have. A caller who may run an action sees
/// whether it is installed, so that an allowed review without one means that there is none.
fn lacks_action(review: &AccessReview) -> bool {
    review.verb == Verb::Run && matches!(review.action, Some(AccessTarget::Action(_))) && review.active.is_none()
}

/// Runs `bolt can-i`.
pub(super) async fn run(command: CanICommand, context: Context) -> Result<Exit, Failure> {
    let CanICommand { verb, target, select } = command;
    if let (Verb::Push, Some(AccessTarget::Action(action))) = (verb, &target) {
        let hint = format!("run `bolt can-i push '{}.*'`", action.pack());
        return Err(
            Failure::new(Exit::Usage, format!("push applies to packs, not to an action such as {action}")).hint(hint)
        );
    }
    let question = async |agent: &crate::connection::Agent| match agent.access(verb, target.as_ref()).await {
        Ok(review) => Ok(Answer::Review(Box::new(review))),
        Err(Error { kind: Kind::Problem(problem), .. }) if problem.code == Code::Forbidden => Ok(Answer::Unknown),
        Err(error) => Err(error),
    };
    let answers = context.ask(&select, question).await?;
    let exit = answers.report()?;
    let failed = answers.failed_json();
    let Answers { given, failed: unanswered } = answers;
    let asked = given.len() + unanswered.len();
    let all_allowed = given.iter().all(|(_, answer)| answer.is_allowed());
    if context.json {
        let list: Vec<Value> = given.iter().map(|(instance, answer)| answer.to_json(instance.id())).collect();
        let answer = json!({ "allowed": all_allowed, "instances": list, "failed": failed });
        outln!("{}", show::json(&context.with_missing(answer)));
    } else {
        let mut groups: BTreeMap<[String; 3], Vec<&str>> = BTreeMap::new();
        for (instance, answer) in &given {
            groups.entry(answer.describe()).or_default().push(instance.id().as_str());
        }
        let row = |(group, ids): (&[String; 3], &Vec<&str>)| {
            let [answer, version, reason] = group.clone();
            vec![answer, ids.len().to_string(), version, show::listed(ids, MAX_IDS), reason]
        };
        let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
        context.print_table(&["ALLOWED", "COUNT", "VERSION", "INSTANCES", "REASON"], &rows);
    }
    if !all_allowed {
        return Ok(Exit::Refused);
    }
    say_unanswered(&unanswered, asked);
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(target: Value, active: Value) -> Answer {
        let review = json!({
            "instance": "i-1", "principal": "spiffe://x/ann", "verb": "run", "action": target, "allowed": true,
            "active": active, "reason": "a grant gives run",
        });
        Answer::Review(Box::new(serde_json::from_value(review).unwrap()))
    }

    #[test]
    fn an_action_that_is_not_there_cannot_be_run() {
        let active = json!({ "version": "1.0.0", "class": "diagnostic", "enabled": true });
        assert!(review(json!("linux.disk"), active).is_allowed());
        assert!(review(json!("linux.*"), Value::Null).is_allowed());
        let absent = review(json!("nosuch.action"), Value::Null);
        assert!(!absent.is_allowed());
        let [answer, version, reason] = absent.describe();
        assert_eq!((answer.as_str(), version.as_str()), ("no", "-"));
        assert!(reason.starts_with("no active version has this action"), "{reason}");
    }
}
