//! Automation documents, described: their steps, and what follows each.

use packs_schema::base::strict::shorten;
use serde_json::Value;

/// Maximum length of a description, in characters.
const LONGEST: usize = 1000;

/// Describes the graph of an Automation document.
pub(super) fn description(document: &Value) -> String {
    let steps: Vec<&Value> = document.get("mainSteps").and_then(Value::as_array).into_iter().flatten().collect();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let described = steps.iter().enumerate().map(|(index, step)| {
        let mut notes = vec![text(step, "action")];
        let next = steps.get(index + 1).map(|next| text(next, "name"));
        let ends = step.get("isEnd").is_some_and(|end| end == true || end == "true");
        let given = step.get("nextStep").and_then(Value::as_str).map(str::to_owned);
        let jumps = given.filter(|given| Some(given) != next.as_ref());
        notes.extend(choices(step));
        notes.extend(jumps.map(|next| format!("then {next}")));
        notes.extend(ends.then(|| "the end".to_owned()));
        let failure = step.get("onFailure").and_then(Value::as_str).filter(|failure| *failure != "Abort");
        notes.extend(failure.map(|failure| format!("on failure {}", failure.trim_start_matches("step:"))));
        format!("{} ({})", text(step, "name"), notes.join("; "))
    });
    let steps = described.collect::<Vec<_>>().join(", ");
    let said = format!(
        "an Automation document, which Systems Manager runs and no instance; an orchestrator would call actions for its steps: {steps}"
    );
    shorten(&said, LONGEST)
}

/// Steps to which a step branches.
fn choices(step: &Value) -> Option<String> {
    let choices = step.get("inputs")?.get("Choices")?.as_array()?;
    let default = step["inputs"].get("Default").and_then(Value::as_str);
    let names: Vec<&str> =
        choices.iter().filter_map(|choice| choice.get("NextStep")?.as_str()).chain(default).collect();
    (!names.is_empty()).then(|| format!("branches to {}", names.join(" or ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_graph_is_described() {
        let document = json!({"mainSteps": [
            {"name": "stop", "action": "aws:changeInstanceState", "onFailure": "step:clean", "nextStep": "choose"},
            {"name": "choose", "action": "aws:branch", "inputs": {"Choices": [{"NextStep": "a"}], "Default": "clean"}},
            {"name": "a", "action": "aws:sleep", "nextStep": "clean", "isEnd": true},
            {"name": "clean", "action": "aws:sleep", "onFailure": "Abort"},
        ]});
        let wanted = "stop (aws:changeInstanceState; on failure clean), choose (aws:branch; branches to a or clean), \
                      a (aws:sleep; the end), clean (aws:sleep)";
        assert!(description(&document).ends_with(wanted), "{}", description(&document));
        assert!(description(&json!({"mainSteps": vec![json!({"name": "x"}); 1000]})).len() < 1200);
    }
}
