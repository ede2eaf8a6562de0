//! Python that runs the value of a parameter and nothing else: found by its text, in the forms that published packs have.

use std::collections::BTreeMap;

/// Calls whose first argument is run as code.
const CALLS: [&str; 6] = ["os.system(", "os.popen(", "getoutput(", "getstatusoutput(", "eval(", "exec("];
const SHELLS: [&str; 5] = ["sh", "bash", "dash", "ksh", "zsh"];
/// Longest list of arguments that is read, in bytes.
const MAX_ARGUMENTS: usize = 4096;

/// Returns the parameters that are the whole of what a program runs.
pub(in crate::pack::import) fn run_whole<'a>(text: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<&'a str> {
    let text: String =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    let assigned = assigned(&text);
    let of = |expression: &str| {
        let own = parameter(expression);
        let of_variable = || assigned.get(expression.trim()).and_then(|expression| parameter(expression));
        names.clone().find(|name| own.as_deref() == Some(*name) || of_variable().as_deref() == Some(*name))
    };
    let mut found: Vec<&str> = code(&text).iter().filter_map(|expression| of(expression)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Returns the expressions that are run as code of a shell, or of Python.
fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for call in CALLS {
        for (at, _) in text.match_indices(call) {
            let bare = !call.contains('.') && !call.starts_with("get");
            if !(bare && text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_.".contains(c))) {
                found.extend(items(&text[at + call.len()..]).first().copied());
            }
        }
    }
    for (at, _) in text.match_indices("shell") {
        let after = text[at + "shell".len()..].trim_start().strip_prefix('=').map(str::trim_start);
        if after.is_some_and(|after| after.starts_with("True"))
            && let Some(open) = opening(&text[..at])
        {
            found.extend(items(&text[open + 1..]).first().copied());
        }
    }
    for (at, _) in text.match_indices('[') {
        let items = items(&text[at + 1..]);
        let given = items.iter().position(|item| literal(item).is_some_and(gives_code));
        let is_shell =
            |item: &&str| literal(item).is_some_and(|name| SHELLS.contains(&name.rsplit('/').next().unwrap_or(name)));
        if let Some(given) = given.filter(|given| items[..*given].iter().any(is_shell)) {
            found.extend(items.get(given + 1).copied());
        }
    }
    found
}

/// True for an option of a shell whose operand is code: `-c`, `-lc`.
fn gives_code(option: &str) -> bool {
    option.starts_with('-') && !option.starts_with("--") && option.ends_with('c')
}

/// Returns where the brackets around the end of a text open.
fn opening(before: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in before.char_indices().rev().take(MAX_ARGUMENTS) {
        match c {
            ')' | ']' | '}' => depth += 1,
            '(' if depth == 0 => return Some(at),
            '(' | '[' | '{' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// Returns the items of a list up to its closing bracket.
fn items(text: &str) -> Vec<&str> {
    let (mut items, mut from, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, c) in text.char_indices().take(MAX_ARGUMENTS) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') if depth == 0 => {
                items.push(text[from..at].trim());
                return items;
            }
            (None, ')' | ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                items.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    Vec::new()
}

/// Returns the last simple expression that each variable is set to.
fn assigned(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim())).filter(|(name, _)| is_name(name)).collect()
}

/// Returns the name of the parameter that an expression is: `name`, `x["name"]`, `x.get("name")`, `os.environ["PT_name"]`.
fn parameter(expression: &str) -> Option<String> {
    let expression = expression.trim();
    let expression = expression.strip_prefix("cmd=").or_else(|| expression.strip_prefix("args=")).unwrap_or(expression);
    let key = |rest: &str| literal(rest.trim()).map(|key| key.strip_prefix("PT_").unwrap_or(key).to_owned());
    let is_path = |text: &str| text.split('.').all(is_name);
    if is_name(expression) {
        return Some(expression.to_owned());
    }
    if let Some((of, rest)) = expression.strip_suffix(']').and_then(|inside| inside.split_once('[')) {
        return key(rest).filter(|_| is_path(of));
    }
    for call in [".get(", "os.getenv("] {
        if let Some((of, rest)) = expression.split_once(call) {
            let first = items(rest).first().copied()?;
            return key(first).filter(|_| expression.ends_with(')') && (of.is_empty() || is_path(of)));
        }
    }
    None
}

/// Returns the text of a literal.
fn literal(expression: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|quote| {
        let inside = expression.strip_prefix(*quote)?.strip_suffix(*quote)?;
        (!inside.contains([*quote, '\\'])).then_some(inside)
    })
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_is_all_of_what_runs_is_found() {
        let found = |text: &str| run_whole(text, ["x", "y"].into_iter());
        for text in [
            "os.system(x)",
            "subprocess.check_output(['bash', '-c', x])",
            "subprocess.run(['sudo', '/bin/sh', '-ec', x], check=True)",
            "subprocess.call(d[\"x\"], shell=True)",
            "subprocess.Popen(\n    x,\n    stdout=subprocess.PIPE, shell = True)",
            "run_command(cmd=x, shell=True)",
            "cmd = params.get('x')\nsubprocess.call(cmd, shell=True)",
            "line = os.environ['PT_x']\nos.popen(line)",
            "eval(os.environ.get(\"PT_x\", ''))",
            "exec(os.getenv('PT_x'))",
        ] {
            assert_eq!(found(text), ["x"], "{text}");
        }
        for text in [
            "os.system('ls ' + x)",
            "subprocess.call(['ls', x])",
            "subprocess.call(x)",
            "subprocess.call(x, shell=False)",
            "subprocess.call(['python', '-c', x])",
            "model.eval(x)",
            "# os.system(x)",
            "os.system(z)",
            "subprocess.call('ls', shell=True); run(x)",
            "[[[[ '-c'",
            "shell=True",
            "é(shell=True",
        ] {
            assert!(found(text).is_empty(), "{text}");
        }
    }
}
