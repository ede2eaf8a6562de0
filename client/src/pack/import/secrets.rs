//! Secrets in the text of a script that become arguments of a program, which every account of the instance can read.
//!
//! A coarse rule: a variable with a secret is a word, or a part of one, of a command that is no builtin of the shell,
//! outside of assignments and here-documents.

use std::collections::BTreeSet;

use super::follow::{carriers, commands, lines, mentioned, program};
use super::scripted::Parameter;

/// Commands that a shell runs itself.
const BUILTINS: [&str; 24] = [
    "echo", "printf", "[", "[[", "test", "case", "for", "select", "in", "export", "local", "declare", "typeset",
    "readonly", "read", "return", "exit", "unset", "set", "shift", "let", ":", "cd", "function",
];

/// Code of the finding.
pub(super) const CODE: &str = "secret_argument";

/// Returns a message for each secret that a program of the shell script `script` of `step` gets as an argument.
pub(super) fn in_script(script: &str, step: &str, parameters: &[Parameter]) -> Vec<String> {
    if !parameters.iter().any(Parameter::is_secret) {
        return Vec::new();
    }
    let lines = lines(script, true);
    let of = |secret: &Parameter| {
        let names = carriers(&lines, BTreeSet::from([secret.value.variable.clone()]));
        let mut taking = lines.iter().flat_map(|line| commands(&line.text)).filter_map(|line| taker(&line, &names));
        taking.next().map(|taker| message(&secret.source, step, &taker))
    };
    parameters.iter().filter(|parameter| parameter.is_secret()).filter_map(of).collect()
}

/// Returns a message for each secret of `variables`, which are in the arguments of the script itself.
pub(super) fn in_arguments<'a>(
    variables: impl Iterator<Item = &'a str>,
    step: &str,
    parameters: &[Parameter],
) -> Vec<String> {
    let secret = |variable: &str| {
        parameters.iter().find(|parameter| parameter.is_secret() && parameter.value.variable == variable)
    };
    variables.filter_map(secret).map(|secret| message(&secret.source, step, "its script")).collect()
}

fn message(secret: &str, step: &str, taker: &str) -> String {
    format!(
        "{secret} is secret, and {step:?} gives it to {taker} as an argument, which every account of the instance can read \
         while that runs; let it read standard input, a file or a variable"
    )
}

/// Returns the program of a command that gets one of `names` as an argument.
fn taker(command: &str, names: &BTreeSet<String>) -> Option<String> {
    let words = program(command);
    let (first, rest) = words.split_first()?;
    let name = first.trim_matches(['"', '\'']);
    let inside_test = words.last() == Some(&"]]");
    if BUILTINS.contains(&name) || inside_test {
        return None;
    }
    let (mut given, mut redirected) = (false, false);
    for word in rest {
        // A word after `<<<` or `>` is no argument.
        let redirects = word.starts_with(['<', '>']) || word.starts_with("2>");
        given |= !redirected && !redirects && mentioned(word).iter().any(|name| names.contains(*name));
        redirected = redirects && word.trim_start_matches('2').trim_start_matches(['<', '>']).is_empty();
    }
    given.then(|| packs_schema::base::strict::shorten(name, 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_programs_are_told_from_other_uses() {
        let takers = |script: &str| {
            let lines = lines(script, true);
            let names = carriers(&lines, BTreeSet::from(["S".to_owned()]));
            let of = |line: &String| taker(line, &names);
            lines
                .iter()
                .flat_map(|line| commands(&line.text))
                .filter_map(|line| of(&line))
                .collect::<Vec<_>>()
                .join(",")
        };
        for (script, taking) in [
            ("mysql -p\"${S}\" -e 'select 1'", "mysql"),
            ("if ! sudo -u app curl -u \"a:$S\" x; then exit; fi", "sudo"),
            ("P=$S\nQ=\"x $P\"\ncurl -d \"a=1&b=$Q\" x", "curl"),
            ("x=$(openssl passwd $S)", "openssl"),
            ("su -c 'mysql -p$S'", "su"),
            ("mysql -p$(echo $S)", "mysql"),
            ("/opt/x/tool $S", "/opt/x/tool"),
            ("echo \"$S\" | passwd --stdin x; printf '%s' $S >$S", ""),
            ("curl -K - x <<E\nuser=$S\nE", ""),
            ("curl -K - x <<< \"user=$S\"", ""),
            ("[ -z \"$S\" ] && [[ a == b && $S == c ]] && test $S", ""),
            ("P=$S\nexport P\nMYSQL_PWD=$S mysql x", ""),
            ("curl ${#S} x # $S", ""),
        ] {
            assert_eq!(takers(script), taking, "{script}");
        }
    }
}
