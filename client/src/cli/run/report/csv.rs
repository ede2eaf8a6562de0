//! Results as comma-separated values (RFC 4180), one row for each instance.
//!
//! Lines end with LF, as other programs here expect it. A cell whose text begins with `=`, `+`, `-`, `@` or a tab is a formula to a
//! spreadsheet: an apostrophe is put before it. Numbers of a result are no text and stay as they are. Control characters are
//! escaped as everywhere; line breaks and tabs within a cell stay.

use std::collections::BTreeSet;

use packs_schema::base::name::InstanceId;
use serde_json::{Map, Value};

use crate::cli::run::path::ResultPath;
use crate::fleet::{Ending, Report, Run};
use crate::show;

/// Maximum number of columns that are made of the fields of results.
const MAX_COLUMNS: usize = 256;

/// Returns the lines of the table: its head, and a row for each instance, also for those without a result. The columns are `paths`,
/// or all fields that results have. Returns the number of fields that had no place as well.
pub(super) fn lines(run: &Run, report: &Report, paths: &[ResultPath]) -> (Vec<String>, usize) {
    let fields: BTreeSet<&String> = match paths {
        [] => report.endings.iter().filter_map(result).flat_map(Map::keys).collect(),
        _ => BTreeSet::new(),
    };
    let omitted = fields.len().saturating_sub(MAX_COLUMNS);
    let fields: Vec<&String> = fields.into_iter().take(MAX_COLUMNS).collect();
    let heads = fields.iter().map(|field| text(field)).chain(paths.iter().map(|path| text(&path.to_string())));
    let mut lines =
        vec![["instance", "state"].map(str::to_owned).into_iter().chain(heads).collect::<Vec<_>>().join(",")];
    for (target, ending) in run.targets.iter().zip(&report.endings) {
        lines.push(row(target.id(), ending, &fields, paths));
    }
    (lines, omitted)
}

fn row(instance: &InstanceId, ending: &Ending, fields: &[&String], paths: &[ResultPath]) -> String {
    let result = result(ending);
    let whole = result.filter(|_| !paths.is_empty()).map(|result| Value::Object(result.clone()));
    let of_fields = fields.iter().map(|field| result.and_then(|result| result.get(*field)).map_or(String::new(), cell));
    let of_paths =
        paths.iter().map(|path| whole.as_ref().and_then(|whole| path.find(whole)).map_or(String::new(), cell));
    let begin = [text(instance.as_str()), text(ending.state())];
    begin.into_iter().chain(of_fields).chain(of_paths).collect::<Vec<_>>().join(",")
}

fn result(ending: &Ending) -> Option<&Map<String, Value>> {
    match ending {
        Ending::Ended(execution, _) => execution.result.as_ref(),
        _ => None,
    }
}

/// Returns a value as a cell: texts as they are, everything else as JSON. A cell that is null is empty.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(value) => text(value),
        Value::Number(number) => number.to_string(),
        other => quoted(&show::json_line(other)),
    }
}

/// Returns a text as a cell that no spreadsheet takes for a formula.
fn text(text: &str) -> String {
    let shown = show::visible_lines(text);
    // A line break before it does not help: spreadsheets remove it.
    match shown.trim_start_matches(['\n', ' ']).starts_with(['=', '+', '-', '@', '\t']) {
        true => quoted(&format!("'{shown}")),
        false => quoted(&shown),
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        for (value, wanted) in [
            (json!("plain"), "plain"),
            (json!("a,b \"c\"\nd"), "\"a,b \"\"c\"\"\nd\""),
            (json!("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\""),
            (json!("-2+3"), "'-2+3"),
            (json!("@sum"), "'@sum"),
            (json!("\t=1"), "'\t=1"),
            (json!("\n=1"), "\"'\n=1\""),
            (json!(-5), "-5"),
            (json!(true), "true"),
            (json!(null), ""),
            (json!(["a", 1]), "\"[\"\"a\"\",1]\""),
            (json!("\u{1b}[2J"), "\\x1b[2J"),
        ] {
            assert_eq!(cell(&value), wanted, "{value}");
        }
    }
}
