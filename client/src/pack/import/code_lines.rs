//! Lines of scripts that give a variable to a shell as code. Scripts of a source are run as they are, so that a person must
//! read such lines; they are found by their text, without knowledge of where a value comes from.

mod expressions;
mod given;
pub(super) mod python;
mod ruby;
pub(super) mod shell;

use std::collections::BTreeSet;

pub(super) use self::given::given_to_programs;

use super::any_command::{self, Given};
use super::report::Effect;
use super::schema::Sink;
use super::scripted::Parameter;

/// Maximum number of lines that are named.
const MAX_LINES: usize = 3;
/// Calls of Python, and of languages with the same names, that run text.
const CALLS: [&str; 12] = [
    "os.system(",
    "os.popen(",
    "popen2(",
    "getoutput(",
    "getstatusoutput(",
    "eval(",
    "exec(",
    "create_subprocess_shell(",
    "execSync(",
    "shell_exec(",
    "passthru(",
    "proc_open(",
];

/// Options of Python's calls that give text to a shell.
const SHELL: [&str; 4] = ["shell=True", "shell=1", "'shell':True", "\"shell\":True"];

/// Notes where the scripts, by their paths, make code of values; true if they do.
pub(super) fn note<'a>(scripts: impl Iterator<Item = (&'a str, &'a str)>, place: &[&str], sink: &mut Sink<'_>) -> bool {
    let lines: Vec<String> = scripts
        .flat_map(|(path, text)| running(text).into_iter().map(move |number| format!("{path}:{number}")))
        .take(MAX_LINES)
        .collect();
    if lines.is_empty() {
        return false;
    }
    let message = format!(
        "a value of a caller may become code of a shell at {}: read it, and restrict the parameters with a pattern",
        lines.join(", ")
    );
    sink.add("shell_code", Effect::Note, place, message);
    true
}

/// Notes the parameters that are the whole of what the program `text` runs; `name` is the name of a parameter in it.
pub(super) fn note_commands(
    text: &str,
    parameters: &[Parameter],
    name: impl Fn(&Parameter) -> &str,
    key: &str,
    sink: &mut Sink<'_>,
) {
    let open = || parameters.iter().filter(|parameter| any_command::is_open(&parameter.schema));
    let found = python::run_whole(text, open().map(&name));
    for parameter in open().filter(|parameter| found.contains(&name(parameter))) {
        any_command::note_once(sink, &[key, &parameter.source], &parameter.source, Given::Command);
    }
}

/// Numbers of the lines that run text.
pub(super) fn running(text: &str) -> BTreeSet<usize> {
    let is_perl = text.lines().next().is_some_and(|first| first.starts_with("#!") && first.contains("perl"));
    let is_ruby = ruby::is_ruby(text);
    let runs = |line: &str| runs_text(line) || is_perl && runs_text_of_perl(line) || ruby::runs_text(line, is_ruby);
    let lines = code(text).filter(|(_, line)| runs(line)).map(|(number, _)| number);
    lines.chain(python::running(text)).collect()
}

/// Lines with their numbers, without comments.
pub(super) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let all = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    all.filter(|(_, line)| !line.starts_with('#'))
}

/// True for a line that gives a variable to a shell as code.
fn runs_text(line: &str) -> bool {
    let separates = |c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c));
    let words: Vec<&str> = line.split(separates).filter(|word| !word.is_empty()).collect();
    let evaluates = words.contains(&"eval") && line.contains('$');
    let shell =
        |word: &&str| ["sh", "bash", "dash", "ksh", "zsh", "su"].contains(&word.rsplit('/').next().unwrap_or(word));
    let dash_c = words.iter().position(shell).is_some_and(|at| words[at..].contains(&"-c")) && line.contains('$');
    let compact = line.replace(' ', "");
    let of_shell = SHELL.iter().any(|option| compact.contains(option));
    evaluates || dash_c || of_shell || CALLS.iter().any(|call| calls(line, call))
}

/// True for a call with more than one text as its argument.
fn calls(line: &str, call: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    line.match_indices(call).any(|(at, _)| {
        let argument = line[at + call.len()..].trim_start();
        let literal = |quote: char| {
            let rest = argument.strip_prefix(quote).and_then(|rest| rest.split_once(quote));
            rest.is_some_and(|(_, after)| after.trim_start().starts_with([')', ',']))
        };
        let named = !["eval(", "exec("].contains(&call) || !line[..at].ends_with(word);
        named && !(argument.starts_with(')') || literal('"') || literal('\''))
    })
}

fn runs_text_of_perl(line: &str) -> bool {
    let runs = ["system", "exec", "qx"].iter().any(|name| {
        line.match_indices(name).any(|(at, _)| {
            let after = &line[at + name.len()..];
            after.starts_with(['(', ' ', '{', '/'])
                && !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        })
    });
    line.contains('$') && (runs || line.contains('`'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_made_of_values_is_found() {
        for line in [
            "output=$(eval ${command} 2>&1)",
            "eval array=($array_string)",
            "nohup bash -c \"wall \\\"$message\\\"\" </dev/null &",
            "subprocess.run(line, shell=True)",
            "/bin/sh -c \"$x\"",
            "os.system(line)",
            "return os.popen('ls ' + name).read()",
            "commands.getoutput(\"ls %s\" % name)",
            "value = eval(text)",
            "subprocess.run('ls ' + x, shell = True)",
            "subprocess.run('ls ' + x, **{'shell': True})",
            "subprocess.check_output(['bash', '-c', 'ls %s' % x])",
            "os.execlp('sh', *['sh', '-ec', f'ls {x}'])",
            "await asyncio.create_subprocess_shell('ls ' + x)",
            "system(\"ls #{x}\")",
            "out = `ls #{params['x']}`",
            "%x{ls #{x}}",
            "out, _ = Open3.capture2e(\"ls #{x}\", stdin_data: y)",
            "Puppet::Util::Execution.execute('ls ' + x)",
            "require('child_process').execSync('ls ' + x)",
            "echo shell_exec($x);",
        ] {
            assert_eq!(Vec::from_iter(running(line)), [1], "{line}");
        }
        for line in [
            "evaluate $x",
            "bash script.sh $x",
            "sh -c 'true'",
            "eval \"static\"",
            "grep -c $x sh.txt",
            "os.system('sync')",
            "os.popen(\"ls\", 'r')",
            "retrieval(x)",
            "model.eval(x)",
            "# os.system(line)",
            "subprocess.run(['bash', '-c', 'sync'])",
            "system('sync')",
            "system(\"ls\", x)",
            "out = `ls`",
            "Open3.capture2e('ls', x)",
            "exec \"$@\"",
        ] {
            assert_eq!(running(line).len(), 0, "{line}");
        }
        let list = "subprocess.run([\n    'sh',\n    '-c',\n    x,\n])\n";
        assert_eq!(Vec::from_iter(running(list)), [4]);
        let ruby = "#!/usr/bin/env ruby\nsystem \"ls #{x}\"\nexec x if y\nsystem 'ls', x\nfile.exec x\n";
        assert_eq!(Vec::from_iter(running(ruby)), [2, 3]);
        let perl = "#!/usr/bin/perl\nsystem(\"ls $x\");\nmy $a = `id $x`;\nsystem('sync');\n";
        assert_eq!(Vec::from_iter(running(perl)), [2, 3]);
    }
}
