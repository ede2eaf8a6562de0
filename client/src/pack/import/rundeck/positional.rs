//! Arguments of a step, which its script reads as `$1`, `$2` …: which carry values of callers, and where one would be code.
//!
//! Until `shell` follows positional parameters, a script in which one that carries a value stands in a line that runs text
//! is refused, unless the option lists its values or takes numbers only.

use std::collections::{BTreeMap, BTreeSet};

use crate::pack::import::follow::{Line, carriers, commands, lines, program};
use crate::pack::import::scripted::{Blocked, Parameter, is_shell};
use crate::pack::import::shell::Limit;
use crate::pack::import::steps::Piece;

/// Commands that run text that they are given.
const EVALUATING: [&str; 8] = ["eval", "source", ".", "let", "ssh", "at", "batch", "xargs"];
/// Programs that run text after an option such as `-c`, or of their input.
const READERS: [&str; 16] = [
    "bash", "sh", "dash", "ksh", "zsh", "su", "runuser", "python", "python2", "python3", "perl", "ruby", "node", "php",
    "psql", "mysql",
];

/// Returns the positional parameters that may carry values of callers, each with the indices of its options.
///
/// An argument that is empty is none, so that those after it may have lower numbers.
pub(super) fn carried(arguments: &[Vec<Piece>], parameters: &[Parameter]) -> BTreeMap<String, BTreeSet<usize>> {
    let mut carried: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let mut missing = 0;
    for (index, argument) in arguments.iter().enumerate() {
        let value = |piece: &Piece| match piece {
            Piece::Variable(name) => parameters.iter().position(|parameter| parameter.value.variable == *name),
            Piece::Text(_) => None,
        };
        let values: BTreeSet<usize> = argument.iter().filter_map(value).collect();
        let numbers = (index + 1 - missing..=index + 1).map(|number| number.to_string());
        for name in numbers.chain(["@".to_owned(), "*".to_owned()]).filter(|_| !values.is_empty()) {
            carried.entry(name).or_default().extend(&values);
        }
        missing += usize::from(argument.iter().all(|piece| matches!(piece, Piece::Variable(_))));
    }
    carried
}

/// Refuses a shell script in which a value of `arguments` may be run as code.
pub(super) fn check(
    script: &str,
    step: &str,
    arguments: &[Vec<Piece>],
    parameters: &[Parameter],
) -> Result<(), Blocked> {
    let harmless = |index: &usize| {
        let value = &parameters[*index].value;
        value.listed || value.limit >= Limit::Number
    };
    let mut carried = carried(arguments, parameters);
    carried.retain(|_, values| {
        values.retain(|index| !harmless(index));
        !values.is_empty()
    });
    let Some(all) = carried.get("@").cloned() else { return Ok(()) };
    let lines = lines(script, false);
    let mut names: BTreeSet<String> = carried.into_keys().collect();
    let moves = |command: &String| {
        let words = program(command);
        ["shift", "set"].contains(words.first().unwrap_or(&""))
    };
    if lines.iter().flat_map(|line| commands(&line.text)).any(|command| moves(&command)) {
        names.extend((1..=arguments.len().max(9)).map(|number| number.to_string()));
    }
    let names = carriers(&lines, names);
    let runs = lines.iter().find(|line| runs_text(line) && line.reads().any(|name| names.contains(name)));
    match runs {
        Some(line) => {
            let options: Vec<&str> = all.iter().map(|index| parameters[*index].source.as_str()).collect();
            let message = format!(
                "{step} has arguments with the value of {}, which {:?} may run as code; list the option's values, or let the script \
                 use the argument as data only",
                options.join(", "),
                packs_schema::base::strict::shorten(line.text.trim(), 80)
            );
            Err(("argument_as_code", message))
        }
        None => Ok(()),
    }
}

/// True for a line with a command that runs text, or with arithmetic.
fn runs_text(line: &Line) -> bool {
    line.text.contains("((") || line.text.contains("$[") || commands(&line.text).iter().any(|command| runs(command))
}

fn runs(command: &str) -> bool {
    let words: Vec<&str> = program(command).into_iter().map(|word| word.trim_matches(['"', '\''])).collect();
    let Some(first) = words.first() else { return false };
    // Conditions compare numbers by arithmetic.
    let compares = ["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v"];
    if *first == "[[" {
        return words.iter().any(|word| compares.contains(word));
    }
    let name = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    // Behind `sudo`, `env`, `nice` and the like, the program is a later word.
    let prefixed =
        ["sudo", "env", "nice", "nohup", "exec", "command", "builtin", "timeout", "time", "docker", "setsid"];
    let candidates = if prefixed.contains(&name(first).as_str()) { &words[..] } else { &words[..1] };
    let evaluates = candidates.iter().any(|word| EVALUATING.contains(&name(word).as_str()));
    let reads = candidates.iter().position(|word| READERS.contains(&name(word).as_str()));
    evaluates
        || reads.is_some_and(|at| {
            let rest = &words[at + 1..];
            let letters = if is_shell(&name(words[at])) { ['c', 's', 's'] } else { ['c', 'e', 'r'] };
            let code = |word: &&str| word.starts_with('-') && !word.starts_with("--") && word.contains(letters);
            let long = |word: &&str| ["--command", "--execute", "--eval"].iter().any(|option| word.starts_with(option));
            let file = rest.iter().any(|word| !word.starts_with(['-', '<', '>']));
            rest.iter().any(|word| code(word) || long(word)) || !file
        })
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::pack::import::shell::ScriptValue;

    fn parameter(name: &str, limit: Limit) -> Parameter {
        let value = ScriptValue {
            name: name.to_owned(),
            variable: format!("RD_OPTION_{}", name.to_uppercase()),
            limit,
            listed: false,
            words: false,
            omitted: false,
        };
        Parameter { source: name.to_owned(), bolt: name.to_owned(), schema: Map::new(), restricted: false, value }
    }

    fn arguments(given: &[&str]) -> Vec<Vec<Piece>> {
        let piece = |part: &str| match part.strip_prefix('$') {
            Some(name) => Piece::Variable(format!("RD_OPTION_{}", name.to_uppercase())),
            None => Piece::Text(part.to_owned()),
        };
        given.iter().map(|argument| argument.split('+').map(piece).collect()).collect()
    }

    #[test]
    fn positions_are_those_that_empty_arguments_leave() {
        let parameters = [parameter("a", Limit::Free), parameter("b", Limit::Free)];
        let carried = carried(&arguments(&["x", "$a", "--b=+$b"]), &parameters);
        let of = |indices: &[usize]| indices.iter().copied().collect::<BTreeSet<_>>();
        let wanted = [("2", of(&[0, 1])), ("3", of(&[1])), ("@", of(&[0, 1])), ("*", of(&[0, 1]))];
        assert_eq!(carried, wanted.into_iter().map(|(name, of)| (name.to_owned(), of)).collect());
    }

    #[test]
    fn a_value_in_an_argument_is_not_run_as_code() {
        let parameters = [parameter("a", Limit::Free), parameter("n", Limit::Number)];
        let given = arguments(&["x", "$a", "$n"]);
        for script in [
            "eval \"$2\"",
            "eval $@",
            "cd /; . $2",
            "source \"${2}\"",
            "bash -c \"$2\"",
            "sudo -u app bash -lc \"x $2\"",
            "bash -c \"\n echo $2\n\"",
            "bash <<E\necho $2\nE",
            "echo \"$2\" | bash",
            "ssh web \"$2\"",
            "python3 -c \"print('$2')\"",
            "su - app -c \"$2\"",
            "x=$2\ny=\"a $x\"\nif true; then eval \"$y\"; fi",
            "while [ $# -gt 0 ]; do shift; eval \"$1\"; done",
            "for a in \"$@\"; do eval $a; done",
            "while getopts x: o; do eval $OPTARG; done",
            "echo $(($2 + 1))",
            "((x = $2))",
            "[[ $2 -gt 3 ]]",
            "x=$(eval echo $2)",
        ] {
            let refused = check(script, "step 1", &given, &parameters).unwrap_err();
            assert_eq!(refused.0, "argument_as_code", "{script}");
            assert!(
                refused.1.starts_with("step 1 has arguments with the value of a, which"),
                "{script}: {}",
                refused.1
            );
        }
        for script in [
            "echo \"$2\"",
            "eval \"$1\"",
            "echo $(($3 + 1)); bash -c \"$3\"",
            "bash ./x.sh \"$2\"",
            "grep -c \"$2\" x",
            "awk '{print $2}' x | python3 -c 'x'",
            "# eval $2\ncat <<E\neval $2\nE",
            "if [ \"$2\" -gt 3 ]; then echo source; fi",
        ] {
            assert_eq!(check(script, "step 1", &given, &parameters), Ok(()), "{script}");
        }
    }
}
