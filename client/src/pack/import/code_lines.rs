//! Lines of scripts that give a variable to a shell as code. Scripts of a source are run as they are, so that a person must
//! read such lines; they are found by their text, without knowledge of where a value comes from.

pub(super) mod python;
pub(super) mod shell;

use super::report::Effect;
use super::schema::Sink;

/// Maximum number of lines that are named.
const MAX_LINES: usize = 3;
/// Calls of Python, and of languages with the same names, that run text.
const CALLS: [&str; 7] = ["os.system(", "os.popen(", "popen2(", "getoutput(", "getstatusoutput(", "eval(", "exec("];

/// Notes where the scripts, by their paths, make code of values; true if they do.
pub(super) fn note<'a>(scripts: impl Iterator<Item = (&'a str, &'a str)>, place: &[&str], sink: &mut Sink<'_>) -> bool {
    let lines: Vec<String> = scripts
        .flat_map(|(path, text)| running(text).map(move |number| format!("{path}:{number}")))
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

/// Numbers of the lines that run text.
pub(super) fn running(text: &str) -> impl Iterator<Item = usize> {
    let is_perl = text.lines().next().is_some_and(|first| first.starts_with("#!") && first.contains("perl"));
    let runs = move |line: &str| runs_text(line) || is_perl && runs_text_of_perl(line);
    code(text).filter(move |(_, line)| runs(line)).map(|(number, _)| number)
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
    evaluates || dash_c || line.contains("shell=True") || CALLS.iter().any(|call| calls(line, call))
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
        let named = call.contains('.') || !line[..at].ends_with(word) || call.starts_with("get");
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
        ] {
            assert_eq!(running(line).collect::<Vec<_>>(), [1], "{line}");
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
        ] {
            assert_eq!(running(line).count(), 0, "{line}");
        }
        let perl = "#!/usr/bin/perl\nsystem(\"ls $x\");\nmy $a = `id $x`;\nsystem('sync');\n";
        assert_eq!(running(perl).collect::<Vec<_>>(), [2, 3]);
    }
}
