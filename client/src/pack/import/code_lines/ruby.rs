//! Calls of Ruby that give text to a shell.

use super::expressions::{items, line, literal, places};

/// Calls whose first argument is a command, wherever they stand.
const CALLS: [&str; 5] = ["IO.popen(", "Execution.execute(", "Execution.exec(", "Resolution.exec(", "Process.spawn("];
/// Functions whose first argument is a command.
const FUNCTIONS: [&str; 3] = ["system", "exec", "spawn"];

/// Returns the expressions that are run.
pub(super) fn code(text: &str) -> Vec<&str> {
    let calls = CALLS.into_iter().flat_map(|call| places(text, call));
    let mut found: Vec<&str> = calls.filter_map(|at| command(&text[at..])).collect();
    let of_library = places(text, "Open3.").filter_map(|at| {
        let name = line(&text[at..]).split_once('(')?.0;
        if is_word(name) { command(&text[at + name.len() + 1..]) } else { None }
    });
    found.extend(of_library);
    let is_ruby = is_ruby(text);
    for name in FUNCTIONS {
        for at in places(text, name).filter(|at| begins(&text[..at - name.len()])) {
            let rest = &text[at..];
            found.extend(rest.strip_prefix('(').and_then(command));
            found.extend(rest.strip_prefix(' ').filter(|_| is_ruby).and_then(of_line));
        }
    }
    found.extend(quoted(text));
    found
}

/// True for a program whose first line names Ruby.
pub(super) fn is_ruby(text: &str) -> bool {
    text.lines().next().is_some_and(|first| first.starts_with("#!") && first.contains("ruby"))
}

/// True for a line that gives a shell text which is not all its own.
pub(super) fn runs_text(line: &str, is_ruby: bool) -> bool {
    let line = if is_ruby { format!("#!ruby\n{line}\n") } else { format!("{line}\n") };
    let is_open = |expression: &&str| match literal(expression) {
        Some(text) => text.contains("#{"),
        None => !expression.starts_with(['*', '[']) && !expression.is_empty(),
    };
    code(&line).iter().any(is_open) || commands(&line).any(|text| text.contains("#{"))
}

fn is_word(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// True if a name after this text is that of a function of the language itself.
fn begins(before: &str) -> bool {
    before.ends_with("Kernel.") || !before.ends_with(|c: char| c.is_ascii_alphanumeric() || "_.:@$-/'\"".contains(c))
}

/// Returns the command among the arguments of a call; before it may be variables of the environment.
fn command(arguments: &str) -> Option<&str> {
    let items = items(arguments);
    let first = *items.first()?;
    let is_environment = first.starts_with('{') || ["env", "environment"].contains(&first);
    items.get(1).copied().filter(|_| is_environment).or(Some(first))
}

/// Returns the command after a name without brackets.
fn of_line(rest: &str) -> Option<&str> {
    let line = line(rest).trim();
    let end = [" if ", " unless ", " or ", " and ", " || ", " && "].iter().filter_map(|word| line.find(word)).min();
    let line = line[..end.unwrap_or(line.len())].trim();
    let first = first(line);
    (!first.is_empty() && !first.starts_with(['=', ')', '|', '&'])).then_some(first)
}

/// Returns the text up to the first comma outside quotes and brackets.
fn first(line: &str) -> &str {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => return line[..at].trim(),
            _ => {}
        }
    }
    line
}

/// Returns the expressions that are all of a command in back quotes or `%x{…}`.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    commands(text).filter_map(|inside| {
        let expression = inside.trim().strip_prefix("#{")?.strip_suffix('}')?;
        (!expression.contains(['{', '}'])).then_some(expression)
    })
}

/// Returns the commands in back quotes and `%x{…}` that end on their line.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let ticks = places(text, "`").map(|at| (at, '`'));
    let words = places(text, "%x").filter_map(|at| {
        let open = text[at..].chars().next()?;
        let close = match open {
            '{' => '}',
            '(' => ')',
            '[' => ']',
            '<' => '>',
            other if other.is_ascii_punctuation() => other,
            _ => return None,
        };
        Some((at + open.len_utf8(), close))
    });
    ticks.chain(words).filter_map(|(at, close)| {
        let line = line(&text[at..]);
        let end = if close == '}' { line.rfind(close) } else { line.find(close) };
        Some(&line[..end?])
    })
}
