//! Filters of templates, as bash that changes a variable.

use super::{Filter, Literal, Outcome, Refused};

/// Returns bash that applies a filter to the variable `name`.
pub(super) fn filter(name: &str, filter: &Filter) -> Outcome<String> {
    let refuse = || Refused::new(format!("the filter {}", filter.name));
    let argument = |index: usize| match filter.arguments.get(index) {
        Some(Literal::Text(text) | Literal::Number(text)) => Ok(text.clone()),
        Some(Literal::Bool(flag)) => Ok(if *flag { "True" } else { "False" }.to_owned()),
        Some(Literal::None) | None => Ok(String::new()),
    };
    Ok(match filter.name.as_str() {
        "default" | "d" => format!("[ -n \"${name}\" ] || {name}={}\n", quoted(&argument(0)?)),
        "lower" => format!("{name}=\"${{{name},,}}\"\n"),
        "upper" => format!("{name}=\"${{{name}^^}}\"\n"),
        "trim" => {
            let inside = format!("{name}=\"${{{name}#\"${{{name}%%[![:space:]]*}}\"}}\"\n");
            format!("{inside}{name}=\"${{{name}%\"${{{name}##*[![:space:]]}}\"}}\"\n")
        }
        "replace" if filter.arguments.len() == 2 => {
            let (old, new) = (quoted(&argument(0)?), quoted(&argument(1)?));
            format!("old={old} new={new}\n{name}=\"${{{name}//\"$old\"/\"$new\"}}\"\n")
        }
        // Lists arrive joined by commas.
        "join" => format!("new={}\n{name}=\"${{{name}//,/\"$new\"}}\"\n", quoted(&argument(0)?)),
        "string" | "safe" => String::new(),
        _ => return Err(refuse()),
    })
}

/// Quotes the author's text for a shell.
pub(in crate::pack::import::stackstorm) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
