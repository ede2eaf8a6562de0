//! Secrets among the arguments of programs that Python and Ruby start: found by the text of the calls, by their own
//! names and those of lists and texts that are made of them.

use std::collections::BTreeMap;

use super::expressions::{assigned, items, line, places, without_comments};

/// Calls that start a program.
const CALLS: [&str; 23] = [
    "subprocess.run(",
    "subprocess.call(",
    "check_call(",
    "check_output(",
    "Popen(",
    "run_command(cmd=",
    "create_subprocess_exec(",
    "create_subprocess_shell(",
    "pexpect.spawn(",
    "pexpect.run(",
    "os.system(",
    "os.popen(",
    "getoutput(",
    "getstatusoutput(",
    "IO.popen(",
    "capture2(",
    "capture2e(",
    "capture3(",
    "popen2e(",
    "popen3(",
    "Execution.execute(",
    "system(",
    "spawn(",
];
/// Arguments of a call that the program does not get as arguments of its own.
const OTHERS: [&str; 6] = ["input=", "stdin=", "env=", "stdin_data:", "env:", "cwd="];
/// Maximum number of calls of one kind that are read.
const MAX_CALLS: usize = 200;
/// Maximum number of words of an expression, and of items that are added to a list.
const MAX_WORDS: usize = 100;
/// Maximum number of variables that are followed from a call.
const MAX_DEPTH: usize = 2;

/// Returns those of `names` whose values become arguments of a program.
pub(in crate::pack::import) fn given_to_programs<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let text = without_comments(text);
    let known = Known { assigned: assigned(&text), added: added(&text) };
    let calls = CALLS.into_iter().flat_map(|call| places(&text, call).take(MAX_CALLS));
    let all = calls.flat_map(|at| items(&text[at..]));
    let all: Vec<&str> = all.filter(|item| !OTHERS.iter().any(|other| item.starts_with(other))).collect();
    let lines = text.lines().filter(|line| line.contains("#{") && line.contains(['`', '%']));
    let quoted: Vec<&str> = lines.flat_map(interpolated).collect();
    let is_given = |name: &&str| {
        all.iter().any(|item| known.mentions(item, name, MAX_DEPTH))
            || quoted.iter().any(|inside| words(inside).any(|word| word == *name))
    };
    names.filter(is_given).collect()
}

/// Variables of a text.
struct Known<'a> {
    /// Last expressions that they are set to.
    assigned: BTreeMap<&'a str, &'a str>,
    /// Items that are added to them.
    added: BTreeMap<&'a str, Vec<&'a str>>,
}

impl Known<'_> {
    /// True if an expression has the value of `name` in it.
    fn mentions(&self, expression: &str, name: &str, depth: usize) -> bool {
        words(expression).any(|word| word == name || depth > 0 && self.holds(word, name, depth - 1))
    }

    /// True for a variable that is a list or text with the value of `name`.
    fn holds(&self, variable: &str, name: &str, depth: usize) -> bool {
        let builds = |expression: &&&str| expression.starts_with(['[', '"', '\'', 'f']);
        let is_set = self.assigned.get(variable).filter(builds).is_some_and(|set| self.mentions(set, name, depth));
        let items = self.added.get(variable).into_iter().flatten();
        is_set || items.take(MAX_WORDS).any(|item| self.mentions(item, name, depth))
    }
}

/// Returns what is added to lists, by their names.
fn added(text: &str) -> BTreeMap<&str, Vec<&str>> {
    const METHODS: [&str; 4] = [".append(", ".extend(", ".push(", ".insert("];
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for method in METHODS {
        for at in places(text, method) {
            let before = &text[..at - method.len()];
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let variable = &before[before.trim_end_matches(is_part).len()..];
            found.entry(variable).or_default().extend(items(&text[at..]));
        }
    }
    found
}

/// Returns names in an expression, also those of keys.
fn words(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let words = words.filter(|word| !word.is_empty()).take(MAX_WORDS);
    words.map(|word| word.strip_prefix("PT_").unwrap_or(word))
}

/// Returns the expressions in the places of a text of Ruby.
fn interpolated(line: &str) -> impl Iterator<Item = &str> {
    places(line, "#{").filter_map(|at| self::line(&line[at..]).split('}').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_programs_are_told_from_other_uses() {
        let found = |text: &str| given_to_programs(text, ["secret", "other"].into_iter());
        for text in [
            "subprocess.run(['mysql', '-p' + secret])",
            "subprocess.run(['mysql', '-p%s' % config['secret'], other2], env=env)",
            "cmd = ['mysql']\ncmd.append(secret)\nsubprocess.Popen(cmd, stdout=PIPE)",
            "cmd = 'mysql -p%s' % secret\nos.system(cmd)",
            "cmd = f'mysql -p{secret}'\nlogger.info('x')\nsubprocess.check_output(cmd, shell=True)",
            "system('mysql', '-p', ENV['PT_secret'])",
            "out = `mysql -p#{params['secret']}`",
            "args = ['-p', secret]\nsubprocess.call(['mysql'] + args)",
        ] {
            assert_eq!(found(text), ["secret"], "{text}");
        }
        for text in [
            "subprocess.run(['mysql'], env=dict(os.environ, MYSQL_PWD=secret))",
            "subprocess.run(['mysql'], input=secret)",
            "Open3.capture2('mysql', stdin_data: secret)",
            "connection = connect(secret)\nsubprocess.run(['ls', connection.path])",
            "# os.system(secret)",
            "requests.get(url, auth=(user, secret))",
            "puts \"#{secret}\"",
        ] {
            assert_eq!(found(text), [] as [&str; 0], "{text}");
        }
    }
}
