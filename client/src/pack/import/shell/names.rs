//! Values that are names: where a shell reads a value as a part of code, letters are the name of a variable, and arithmetic and
//! references evaluate what that variable holds. It may hold another value, which is code then.

use super::flow::Need;
use super::limit::Limit;
use super::{Part, ScriptValue};

/// Constructs of arithmetic.
const ARITHMETIC: &[&str] = &["((", "$[", "let ", "declare -i", "typeset -i", "local -i", "[$", "[\u{1}"];
/// Operators by which `[[` calculates.
const COMPARING: &[&str] = &[" -eq ", " -ne ", " -lt ", " -le ", " -gt ", " -ge "];
/// References to variables by a name.
const REFERENCES: &[&str] = &["declare -n", "typeset -n", "local -n"];
/// Limits all other values of a script that evaluates variables by their names, if one of `read`, which a shell reads as code, may
/// be such a name.
pub(super) fn limit_others(
    parts: &[Part],
    values: &[ScriptValue],
    mut read: impl Iterator<Item = usize>,
    needs: &mut Vec<(usize, Need)>,
) {
    let limit = |index: usize| {
        let need = needs.iter().find(|(known, _)| *known == index);
        need.map_or(values[index].limit, |(_, need)| need.limit)
    };
    if !read.any(|index| !values[index].listed && limit(index) < Limit::Number) {
        return;
    }
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Value(_) => "\u{1}".to_owned(),
    };
    let text: String = parts.iter().map(part).collect();
    let has = |constructs: &[&str]| constructs.iter().any(|construct| text.contains(construct));
    let calculates = has(ARITHMETIC) || text.contains("[[") && has(COMPARING);
    if !(has(REFERENCES) || calculates) {
        return;
    }
    for index in (0..values.len()).filter(|index| values[*index].limit < Limit::Path && !values[*index].listed) {
        if !needs.iter().any(|(known, _)| *known == index) {
            let reader = "arithmetic, by the name of its variable,".to_owned();
            needs.push((index, Need { limit: Limit::Path, reader, followed: false }));
        }
    }
    needs.sort_by_key(|(index, _)| *index);
}
