//! Executions as a table that fits the terminal, or with everything in it.

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::{Map, Value};

use super::order;
use crate::cli::find::short;
use crate::cli::terminal;
use crate::out;
use crate::show::{self, cell, visible, when};

const HEADS: [&str; 8] = ["ID", "INSTANCE", "ACTION", "STATE", "STARTED", "TOOK", "BY", "PARAMETERS AND NOTE"];
/// Number of columns that a narrow terminal shows; the rest goes onto a line of its own.
const NARROW: usize = 6;
const WIDE_HEADS: [&str; 12] =
    ["ID", "INSTANCE", "ACTION", "VERSION", "STATE", "ACCEPTED", "STARTED", "TOOK", "BY", "RUN", "PARAMETERS", "NOTE"];

/// Prints the table.
pub(super) fn print(executions: &[Execution], now_ms: u64, wide: bool) {
    if wide {
        let rows: Vec<Vec<String>> = executions.iter().map(|e| wide_row(e, now_ms)).collect();
        out!("{}", show::table(&WIDE_HEADS, &rows, None));
    } else {
        let rows: Vec<Vec<String>> = executions.iter().map(|e| row(e, now_ms)).collect();
        out!("{}", fitted(rows, terminal::width()));
    }
}

/// Returns the table for a terminal of `width` columns: whole, with callers by their last part only, or with callers,
/// parameters and notes on lines of their own.
fn fitted(mut rows: Vec<Vec<String>>, width: Option<usize>) -> String {
    let fits = |text: &str| width.is_none_or(|width| text.lines().all(|line| line.chars().count() <= width));
    let whole = show::table(&HEADS, &rows, None);
    if fits(&whole) {
        return whole;
    }
    rows.iter_mut().for_each(|row| row[NARROW] = last_part(&row[NARROW]).to_owned());
    let shorter = show::table(&HEADS, &rows, None);
    if fits(&shorter) {
        return shorter;
    }
    let (columns, details): (Vec<Vec<String>>, Vec<String>) = rows
        .into_iter()
        .map(|mut row| {
            let rest: Vec<String> = row.split_off(NARROW).into_iter().filter(|text| !text.is_empty()).collect();
            (row, format!("  by {}", rest.join(": ")))
        })
        .unzip();
    let table = show::table(&HEADS[..NARROW], &columns, width);
    let mut text = String::new();
    let mut lines = table.lines();
    text.extend(lines.next().map(|heads| format!("{heads}\n")));
    for (line, detail) in lines.zip(&details) {
        text.push_str(&format!("{line}\n{}\n", cut(detail, width)));
    }
    text
}

/// Cuts a line to the terminal.
fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
            cut.push('…');
            cut
        }
        _ => line.to_owned(),
    }
}

/// Returns the last part of a principal.
fn last_part(principal: &str) -> &str {
    principal.rsplit_once('/').map_or(principal, |(_, name)| name)
}

fn row(execution: &Execution, now_ms: u64) -> Vec<String> {
    vec![
        short(&execution.id).to_owned(),
        execution.instance.to_string(),
        action(execution),
        listed_state(execution),
        execution.started_at_ms.map_or_else(|| "-".to_owned(), |at| when::ago(at, now_ms)),
        took(execution, now_ms),
        visible(execution.principal.as_str()),
        details(execution),
    ]
}

fn wide_row(execution: &Execution, now_ms: u64) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        execution.id.to_string(),
        execution.instance.to_string(),
        action(execution),
        execution.version.to_string(),
        listed_state(execution),
        when::at(execution.created_at_ms),
        execution.started_at_ms.map_or_else(dash, when::at),
        took(execution, now_ms),
        visible(execution.principal.as_str()),
        execution.run.as_ref().map_or_else(dash, ToString::to_string),
        if execution.parameters.is_empty() { dash() } else { describe_parameters(&execution.parameters) },
        Some(notes(execution).join("; ")).filter(|notes| !notes.is_empty()).unwrap_or_else(dash),
    ]
}

fn action(execution: &Execution) -> String {
    match execution.dev {
        Some(_) => format!("{} (dev)", execution.action),
        None => execution.action.to_string(),
    }
}

/// Returns how long it ran; for one that runs, how long so far, with a plus sign.
fn took(execution: &Execution, now_ms: u64) -> String {
    let running = if execution.duration_ms.is_none() { "+" } else { "" };
    order::duration(execution, now_ms).map_or_else(|| "-".to_owned(), |took| format!("{}{running}", when::lasted(took)))
}

/// Returns parameters and notes on one line: `path=/var keep=3 (ticket 17) (killed: wrong host)`.
fn details(execution: &Execution) -> String {
    let parameters = describe_parameters(&execution.parameters);
    let notes = notes(execution).into_iter().map(|note| format!("({note})"));
    Some(parameters).filter(|text| !text.is_empty()).into_iter().chain(notes).collect::<Vec<_>>().join(" ")
}

/// Returns the note of the run, and that of the kill.
fn notes(execution: &Execution) -> Vec<String> {
    let note = execution.note.as_deref().map(cell);
    let kill = execution.kill_note.as_deref().map(|note| format!("killed: {}", cell(note)));
    note.into_iter().chain(kill).collect()
}

/// Returns the state, and whether it is that of a dry run.
fn listed_state(execution: &Execution) -> String {
    format!("{}{}", state(execution), if execution.noop { " (dry run)" } else { "" })
}

/// Returns parameters as they are written for `bolt run`, on one line. Agents have masked the secret ones.
pub(in crate::cli) fn describe_parameters(parameters: &Map<String, Value>) -> String {
    let one = |(name, value): (&String, &Value)| match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => {
            format!("{}={}", visible(name), visible(text))
        }
        value => format!("{}={}", visible(name), show::json_line(value)),
    };
    parameters.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Returns the state, with the exit status or signal where there is one and the state does not say it.
pub(in crate::cli) fn state(execution: &Execution) -> String {
    match (execution.state, execution.exit_status, execution.signal) {
        (state @ State::Succeeded, Some(0), _) => state.to_string(),
        (state, Some(status), _) => format!("{state} (exit {status})"),
        (state, None, Some(signal)) => format!("{state} (signal {signal})"),
        (state, ..) => state.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn execution(parameters: Value, note: Option<&str>) -> Execution {
        crate::records::record(json!({
            "instance": "i-0abc1234567890def", "action": "linux.disk_usage", "state": "running", "parameters": parameters,
            "principal": "spiffe://example.org/team/oncall", "note": note, "started_at_ms": 60_000,
        }))
    }

    fn table(width: Option<usize>) -> String {
        let executions = [
            execution(json!({"path": "/var", "deep": true, "why": "a b", "token": "[secret]"}), Some("ticket\n17")),
            execution(json!({}), None),
        ];
        fitted(executions.iter().map(|e| row(e, 241_000)).collect(), width)
    }

    #[test]
    fn parameters_and_notes_are_shown_on_one_line_each() {
        let shown = table(None);
        let (heads, rest) = shown.split_once('\n').unwrap();
        assert!(heads.ends_with("TOOK   BY                                PARAMETERS AND NOTE"), "{shown}");
        let details = "deep=true path=/var token=[secret] why=\"a b\" (ticket 17)\n";
        assert!(rest.contains(details) && rest.contains("3m ago   3m1s+  spiffe://example.org/team/oncall"), "{shown}");
    }

    #[test]
    fn dry_runs_and_notes_of_kills_are_listed() {
        let mut one = execution(json!({"keep": 3}), Some("ticket 17"));
        (one.state, one.noop, one.kill_note) = (State::Killed, true, Some("wrong fleet".to_owned()));
        let narrow = row(&one, 241_000);
        assert_eq!(
            (narrow[3].as_str(), narrow[7].as_str()),
            ("killed (dry run)", "keep=3 (ticket 17) (killed: wrong fleet)")
        );
        let wide = wide_row(&one, 241_000);
        assert_eq!((wide[4].as_str(), wide[11].as_str()), ("killed (dry run)", "ticket 17; killed: wrong fleet"));
        one.note = None;
        assert_eq!(details(&one), "keep=3 (killed: wrong fleet)");
    }

    #[test]
    fn eighty_columns_show_details_on_a_line_of_their_own() {
        let shown = table(Some(80));
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 5, "{shown}");
        assert!(lines[1].ends_with("3m ago   3m1s+"), "{shown}");
        assert_eq!(lines[2], "  by oncall: deep=true path=/var token=[secret] why=\"a b\" (ticket 17)");
        assert_eq!(lines[4], "  by oncall");
    }
}
