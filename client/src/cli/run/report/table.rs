//! Results as tables.

use packs_schema::base::name::InstanceId;
use serde_json::{Map, Value};

use super::Group;
use crate::cli::run::path::ResultPath;
use crate::fleet::{Ending, Report, Run};
use crate::show;

/// Maximum number of fields that a table of results shows.
const FIELDS: usize = 8;
/// Maximum number of characters of a cell of a table of results.
const CELL: usize = 40;
/// Maximum number of characters of a cell that was asked for.
const CELL_ASKED: usize = 200;
/// Width of results if standard output is not a terminal.
const WIDTH: usize = 100;
/// Maximum number of instances that are named in a row.
const NAMED: usize = 3;

/// Returns the heads and a row for each instance whose execution ended, with the values at `paths`.
pub(super) fn selected(run: &Run, report: &Report, paths: &[ResultPath]) -> (Vec<String>, Vec<Vec<String>>) {
    let with_state = !report.succeeded();
    let mut heads = vec!["INSTANCE".to_owned()];
    heads.extend(with_state.then(|| "STATE".to_owned()));
    heads.extend(paths.iter().map(|path| show::visible(&path.to_string())));
    let mut rows = Vec::new();
    for (target, ending) in run.targets.iter().zip(&report.endings) {
        let Ending::Ended(execution, _) = ending else { continue };
        let result = execution.result.clone().map(Value::Object);
        let mut row = vec![target.id().to_string()];
        row.extend(with_state.then(|| ending.state().to_owned()));
        row.extend(paths.iter().map(|path| match &result {
            None => "(no result)".to_owned(),
            // A long cell makes its column as wide in all rows.
            Some(result) => path.find(result).map_or_else(|| "(none)".to_owned(), |value| cut(cell(value), CELL_ASKED)),
        }));
        rows.push(row);
    }
    (heads, rows)
}

/// Returns the lines of a table of the results of a group, if it has any: a row for each different result, or a line for each
/// field when there is one result only.
pub(super) fn results(group: &Group<'_>, width: Option<usize>) -> Option<Vec<String>> {
    let empty = Map::new();
    let mut results: Vec<(&Map<String, Value>, Vec<&InstanceId>)> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for member in &group.members {
        let result = member.result().unwrap_or(&empty);
        let at = *known.entry(result).or_insert_with(|| {
            results.push((result, Vec::new()));
            results.len() - 1
        });
        results[at].1.push(member.id);
    }
    match &results[..] {
        [(result, _)] if result.is_empty() => None,
        [(result, _)] => Some(fields(result, width.unwrap_or(WIDTH))),
        _ => Some(rows(&results, width)),
    }
}

fn fields(result: &Map<String, Value>, width: usize) -> Vec<String> {
    let names: Vec<String> = result.keys().map(|name| show::cell(name)).collect();
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(CELL);
    let line = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => show::visible_lines(text),
            other => show::json_fitted(other, width.saturating_sub(widest + 2)),
        };
        let indented = text.replace('\n', &format!("\n{:widest$}  ", ""));
        format!("{name:<widest$}  {indented}")
    };
    let text: Vec<String> = names.iter().zip(result.values()).map(line).collect();
    text.join("\n").split('\n').map(str::to_owned).collect()
}

fn rows(results: &[(&Map<String, Value>, Vec<&InstanceId>)], width: Option<usize>) -> Vec<String> {
    let mut names: Vec<&String> = Vec::new();
    for name in results.iter().flat_map(|(result, _)| result.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(FIELDS);
    names.truncate(FIELDS);
    let mut heads = vec!["INSTANCE".to_owned()];
    heads.extend(names.iter().map(|name| cut(show::cell(name), CELL)));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let row = |(result, ids): &(&Map<String, Value>, Vec<&InstanceId>)| {
        let cells =
            names.iter().map(|name| result.get(*name).map_or_else(|| "-".to_owned(), |value| cut(cell(value), CELL)));
        std::iter::once(show::listed(ids, NAMED)).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = results.iter().map(row).collect();
    let mut lines: Vec<String> = show::table(&heads, &rows, width).lines().map(str::to_owned).collect();
    if more > 0 {
        lines.push(format!("[{} more of each result: use --result=json or --select]", show::counted(more, "field")));
    }
    lines
}

/// Returns a value on one line: strings as they are, everything else as JSON.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => show::cell(text),
        other => show::json_line(other),
    }
}

fn cut(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
