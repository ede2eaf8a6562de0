//! Python and Ruby that run the value of a parameter and nothing else: found by its text, in the forms that published
//! packs have.

use std::collections::BTreeMap;

use super::expressions::{
    MAX_ARGUMENTS, assigned, is_closed, is_name, items, line, literal, opening, places, without_comments,
};
use super::ruby;

/// Calls whose first argument is run as code.
const CALLS: [&str; 7] =
    ["os.system(", "os.popen(", "getoutput(", "getstatusoutput(", "eval(", "exec(", "create_subprocess_shell("];
/// Calls whose first argument, or its first item, is a program.
const PROGRAMS: [&str; 17] = [
    "subprocess.run(",
    "subprocess.call(",
    "check_call(",
    "check_output(",
    "Popen(",
    "run_command(cmd=",
    "create_subprocess_exec(",
    "pexpect.spawn(",
    "pexpect.run(",
    "os.execv(",
    "os.execve(",
    "os.execvp(",
    "os.execvpe(",
    "os.execl(",
    "os.execle(",
    "os.execlp(",
    "os.execlpe(",
];
const SHELLS: [&str; 5] = ["sh", "bash", "dash", "ksh", "zsh"];
/// Names of variables with words for a program, which are rarely all of its words.
const WORDS: [&str; 6] = ["args", "arguments", "argv", "options", "opts", "params"];
/// Maximum number of assignments and calls that are followed from an expression.
const MAX_STEPS: usize = 8;

/// Returns the parameters that are the whole of what a program runs, or name what it starts.
pub(in crate::pack::import) fn run_whole<'a>(text: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<&'a str> {
    let text = without_comments(text);
    let assigned = assigned(&text);
    let of = |expression: &str, by_name: bool| resolved(expression, &assigned, by_name, names.clone());
    let run = code(&text).into_iter().chain(ruby::code(&text)).filter_map(|expression| of(expression, true));
    let started = programs(&text).into_iter().filter_map(|expression| of(expression, false));
    let mut found: Vec<&str> = run.chain(started).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// True if a program starts another one that no text of its own names.
pub(in crate::pack::import) fn starts_any(text: &str) -> bool {
    let text = without_comments(text);
    programs(&text).into_iter().any(|expression| literal(bare(expression)).is_none())
}

/// Returns the numbers of the lines with text that a shell or Python runs.
pub(super) fn running(text: &str) -> Vec<usize> {
    let text = without_comments(text);
    let is_open = |expression: &&str| !expression.is_empty() && literal(expression).is_none();
    let at = |expression: &str| expression.as_ptr() as usize - text.as_ptr() as usize;
    code(&text).into_iter().filter(is_open).map(|expression| text[..at(expression)].matches('\n').count() + 1).collect()
}

/// Returns the parameter that an expression is, also by way of variables. With `by_name` a variable that is called like
/// a parameter is that one, whatever else it is set to.
fn resolved<'a>(
    expression: &str,
    assigned: &BTreeMap<&str, &str>,
    by_name: bool,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let mut expression = bare(expression);
    for _ in 0..MAX_STEPS {
        let own = parameter(expression).and_then(|own| names.clone().find(|name| own == *name));
        let next = assigned.get(expression).map(|next| bare(next)).filter(|next| *next != expression);
        let is_words = !by_name && next.is_none() && WORDS.contains(&expression);
        if own.is_some() && !is_words && (by_name || next.is_none()) {
            return own;
        }
        expression = next?;
    }
    None
}

/// Returns the expression of which one is a text or a list of words, and nothing is added.
fn bare(expression: &str) -> &str {
    let mut expression = expression.trim().trim_end_matches(',');
    for _ in 0..MAX_STEPS {
        let Some(inner) = inner(expression, MAX_STEPS).filter(|inner| inner.len() < expression.len()) else { break };
        expression = inner.trim();
    }
    expression
}

/// Returns the expression within one that adds nothing to it; of a list its first item. `steps` are the calls that it
/// may be made of.
fn inner(expression: &str, steps: usize) -> Option<&str> {
    const WRAPPERS: [&str; 8] = [
        "str(",
        "list(",
        "tuple(",
        "shlex.split(",
        "Shellwords.split(",
        "Shellwords.shellsplit(",
        "\"{}\".format(",
        "'{}'.format(",
    ];
    if expression.len() > MAX_ARGUMENTS {
        return None;
    }
    for prefix in ["cmd=", "args=", "command=", "*"] {
        if let Some(rest) = expression.strip_prefix(prefix).filter(|rest| !rest.starts_with('=')) {
            return Some(rest);
        }
    }
    for (open, close) in [("f\"{", "}\""), ("f'{", "}'"), ("\"#{", "}\"")] {
        if let Some(inside) = expression.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
            return Some(inside).filter(|inside| !inside.contains(['{', '}']));
        }
    }
    for form in ["\"%s\" %", "'%s' %"] {
        if let Some(rest) = expression.strip_prefix(form) {
            return Some(rest.trim().trim_start_matches('(').trim_end_matches(')'));
        }
    }
    for open in WRAPPERS.into_iter().chain(["["]) {
        if let Some(rest) = expression.strip_prefix(open).filter(|rest| is_closed(rest)) {
            return items(rest).first().copied();
        }
    }
    let of_method = [".split(", ".strip(", ".encode("].into_iter().find_map(|name| expression.rsplit_once(name));
    if let Some((of, _)) = of_method.filter(|(_, rest)| is_closed(rest)) {
        return Some(of).filter(|of| parameter(of).is_some() || steps > 0 && inner(of, steps - 1).is_some());
    }
    [".to_s", ".strip", ".chomp", ".split"].into_iter().find_map(|method| expression.strip_suffix(method))
}

/// Returns the programs that calls start, or the lists of which they are the first item.
fn programs(text: &str) -> Vec<&str> {
    let first = PROGRAMS.into_iter().flat_map(|call| places(text, call));
    let first = first.filter_map(|at| items(&text[at..]).first().copied());
    first.filter(|expression| !expression.is_empty()).collect()
}

/// Returns the expressions that are run as code of a shell, or of Python.
fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for call in CALLS {
        for at in places(text, call) {
            let is_function = ["eval(", "exec("].contains(&call);
            let before = &text[..at - call.len()];
            if !(is_function && before.ends_with(|c: char| c.is_ascii_alphanumeric() || "_.".contains(c))) {
                found.extend(items(&text[at..]).first().copied());
            }
        }
    }
    for at in places(text, "shell") {
        let after = line(&text[at..]).trim_start().strip_prefix('=').map(str::trim_start);
        if after.is_some_and(|after| after.starts_with("True") || after.starts_with('1'))
            && let Some(open) = opening(&text[..at - "shell".len()])
        {
            found.extend(items(&text[open + 1..]).first().copied());
        }
    }
    let lists = places(text, "[");
    let arguments = places(text, "os.exec").filter_map(|at| Some(at + line(&text[at..]).find('(')? + 1));
    for at in lists.chain(arguments) {
        let items = items(&text[at..]);
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

/// Returns the name of the parameter that an expression is: `name`, `x["name"]`, `x.get("name")`,
/// `os.environ["PT_name"]`. An argument of the program is called as it is written: `sys.argv[1]`.
fn parameter(expression: &str) -> Option<String> {
    let key = |rest: &str| literal(rest.trim()).map(|key| key.strip_prefix("PT_").unwrap_or(key).to_owned());
    let is_path = |text: &str| text.split('.').all(is_name);
    // Also of parsed arguments, and of what a constructor has kept.
    let member = ["args.", "options.", "opts.", "self."].into_iter().find_map(|of| expression.strip_prefix(of));
    if let Some(name) = [Some(expression), member].into_iter().flatten().find(|name| is_name(name)) {
        return Some(name.to_owned());
    }
    if let Some((of, rest)) = expression.strip_suffix(']').and_then(|inside| inside.split_once('[')) {
        if ["sys.argv", "ARGV"].contains(&of) && rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(expression.to_owned());
        }
        if let Some(symbol) = rest.strip_prefix(':').filter(|symbol| is_name(symbol)) {
            return Some(symbol.to_owned()).filter(|_| is_path(of));
        }
        return key(rest).filter(|_| is_path(of));
    }
    for call in [".get(", ".fetch(", "os.getenv("] {
        if let Some((of, rest)) = expression.split_once(call) {
            let first = items(rest).first().copied()?;
            return key(first).filter(|_| expression.ends_with(')') && (of.is_empty() || is_path(of)));
        }
    }
    None
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
            "subprocess.call(args.x, shell=True)",
            "os.execl('/bin/sh', 'sh', '-c', x)",
            "subprocess.call(x)",
            "subprocess.call(x, shell=False)",
            "subprocess.run([x, '-v'])",
            "subprocess.Popen(shlex.split(x))",
            "subprocess.check_output(str(x).split(' '))",
            "args = shlex.split(params['x'])\nPopen(args)",
            "line = x.strip()\nwords = line.split()\nsubprocess.run(words)",
            "os.execvp(x, [x])",
            "asyncio.create_subprocess_shell(f'{x}')",
            "subprocess.run('%s' % x, shell=1)",
            "system(params['x'])",
            "Open3.capture2e(params[:x])",
            "Open3.capture3(env, ENV.fetch('PT_x'))",
            "out = `#{x}`",
            "out = %x{#{params['x']}}",
            "line = ENV['PT_x'].to_s\nKernel.exec(line)",
            "#!/usr/bin/env ruby\nsystem params['x']",
            "#!/usr/bin/ruby\nok = system \"#{x}\"",
        ] {
            assert_eq!(found(text), ["x"], "{text}");
        }
        for text in [
            "os.system('ls ' + x)",
            "subprocess.call(['ls', x])",
            "subprocess.call(['python', '-c', x])",
            "x = ['ls', y]\nsubprocess.call(x)",
            "system('ls', x)",
            "system(\"ls #{x}\")",
            "Open3.capture2e('ls', x)",
            "exec x",
            "self.system(x)",
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
