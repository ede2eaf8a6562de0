//! Interpreter of a script step: words before the script's file.
//!
//! ```text
//!  scriptInterpreter ──▶ sudo -u app │ env A=b nice -n 5 │ python3 -B        <file> <arguments>
//!                        account      kept                 program, kept
//! ```
//!
//! Values are variables of the environment, so that whatever clears it, or leads to another host, is refused by name;
//! `sudo` becomes the account of the action. Which program reads the file decides how its text may use values.

use packs_schema::base::name::UserName;

use crate::pack::import::scripted::is_shell;
use crate::pack::import::shell::is_name;

/// Programs that run their first operand, and whose options are kept with it.
const PREFIXES: [&str; 5] = ["nice", "ionice", "nohup", "setsid", "stdbuf"];
/// Programs that start another without the environment, as another account, or elsewhere.
const ELSEWHERE: [&str; 20] = [
    "su",
    "runuser",
    "doas",
    "pkexec",
    "setpriv",
    "chroot",
    "nsenter",
    "unshare",
    "ssh",
    "docker",
    "podman",
    "kubectl",
    "machinectl",
    "systemd-run",
    "at",
    "batch",
    "screen",
    "tmux",
    "sg",
    "newgrp",
];
/// Words of a shell that are no programs.
const SHELL_WORDS: [&str; 7] = [".", "source", "exec", "eval", "command", "time", "cd"];
/// Programs that give a script the arguments after its file.
const LANGUAGES: [&str; 9] = ["python", "perl", "ruby", "node", "nodejs", "php", "lua", "tclsh", "Rscript"];
/// Characters with a meaning in a shell, by which Rundeck's nodes read the words.
const SYNTAX: &str = "$`&|;<>()*?[]{}!\\\n";

/// Reader of the file of a script.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Reader {
    /// The program that its first line names.
    #[default]
    FirstLine,
    /// A shell to which the file is a command, and with `true` its arguments as well, all in one word.
    Command(bool),
    /// This program.
    Program {
        name: String,
        /// Arguments after the file are those of the script.
        passes_arguments: bool,
    },
}

/// Interpreter, as the supplied runner starts it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// Words before the file.
    pub(super) words: Vec<String>,
    /// Account that `sudo` names.
    pub(super) account: Option<String>,
    pub(super) reader: Reader,
}

impl Interpreter {
    /// Program that reads the file, unless its first line names it.
    pub(super) fn program(&self) -> Option<&str> {
        match &self.reader {
            Reader::Program { name, .. } => Some(name),
            Reader::FirstLine | Reader::Command(_) => None,
        }
    }

    /// True if the arguments after the file are those of the script.
    pub(super) fn passes_arguments(&self) -> bool {
        matches!(
            self.reader,
            Reader::FirstLine | Reader::Command(true) | Reader::Program { passes_arguments: true, .. }
        )
    }
}

/// Reads the words; `one_word` is Rundeck's `interpreterArgsQuoted`. The error says what is wrong with them.
pub(super) fn read(given: &[String], one_word: bool) -> Result<Interpreter, String> {
    let mut found = Interpreter::default();
    if let Some(word) = given.iter().find(|word| word.contains(|c| SYNTAX.contains(c)) || word.starts_with('~')) {
        return Err(format!("{word} has syntax of a shell; name a program and its options"));
    }
    let mut rest = given;
    while let Some((first, after)) = rest.split_first() {
        let name = first.rsplit('/').next().unwrap_or(first);
        rest = match name {
            "sudo" => sudo(after, &mut found)?,
            "env" => environment(first, after, &mut found)?,
            _ if is_assignment(first) => environment("env", rest, &mut found)?,
            _ if PREFIXES.contains(&name) => prefix(name, rest, &mut found),
            _ if ELSEWHERE.contains(&name) => {
                return Err(format!(
                    "the values of callers, which are in the environment, do not reach it behind {name}"
                ));
            }
            _ if SHELL_WORDS.contains(&name) => return Err(format!("{name} is a word of a shell and no program")),
            _ => {
                found.words.extend(rest.iter().cloned());
                found.reader = if is_shell(name) { shell(name, after, one_word)? } else { other(name, after) };
                &[]
            }
        };
    }
    if one_word && !matches!(found.reader, Reader::Command(_)) {
        return Err("only a shell with -c takes the script and its arguments as one word".to_owned());
    }
    Ok(found)
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// Reads what follows `sudo`; returns the words of the program.
fn sudo<'a>(mut rest: &'a [String], found: &mut Interpreter) -> Result<&'a [String], String> {
    let mut account = "root".to_owned();
    while let Some((option, after)) = rest.split_first().filter(|(word, _)| word.starts_with('-')) {
        rest = after;
        let operand = || after.first().cloned().unwrap_or_default();
        match option.as_str() {
            "--" => break,
            "--non-interactive" | "--set-home" | "--stdin" => {}
            "--user" => (account, rest) = (operand(), after.get(1..).unwrap_or_default()),
            long if long.starts_with("--preserve-env") => {}
            long if long.starts_with("--user=") => account = long["--user=".len()..].to_owned(),
            short => {
                // Letters of one option, the last of which may have its operand in the same word.
                let letters = short[1..].trim_start_matches(['n', 'H', 'E', 'S', 'k']);
                match letters.strip_prefix('u') {
                    Some("") => (account, rest) = (operand(), after.get(1..).unwrap_or_default()),
                    Some(named) => account = named.to_owned(),
                    None if letters.is_empty() => {}
                    None => return Err(format!("sudo {option} is not known; name no more than the account, with -u")),
                }
            }
        }
    }
    if UserName::new(account.clone()).is_err() {
        return Err(format!("sudo names the account {account:?}, which bolt.run_as cannot"));
    }
    if found.account.replace(account).is_some() {
        return Err("it names two accounts".to_owned());
    }
    Ok(rest)
}

/// Reads the options and assignments of `env`; returns the words of the program.
fn environment<'a>(env: &str, rest: &'a [String], found: &mut Interpreter) -> Result<&'a [String], String> {
    found.words.push(env.to_owned());
    for (index, word) in rest.iter().enumerate() {
        if word.starts_with('-') && word != "--" {
            return Err(format!("env {word} clears or changes the environment, in which the values of callers are"));
        }
        if word != "--" && !is_assignment(word) {
            return Ok(&rest[index..]);
        }
        found.words.push(word.clone());
    }
    Ok(&[])
}

/// Keeps a program that starts another, with its options.
fn prefix<'a>(name: &str, words: &'a [String], found: &mut Interpreter) -> &'a [String] {
    let takes_word = match name {
        "nice" => ["-n", "--adjustment"].as_slice(),
        "ionice" => &["-c", "-n", "--class", "--classdata"],
        "stdbuf" => &["-i", "-o", "-e"],
        _ => &[],
    };
    let mut end = 1;
    while let Some(option) = words.get(end).filter(|word| word.starts_with('-')) {
        end += if takes_word.contains(&option.as_str()) { 2 } else { 1 };
    }
    let (kept, rest) = words.split_at(end.min(words.len()));
    found.words.extend(kept.iter().cloned());
    rest
}

/// Reads the options of a shell.
fn shell(program: &str, options: &[String], one_word: bool) -> Result<Reader, String> {
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let letters = option.strip_prefix(['-', '+']).filter(|letters| !letters.starts_with('-'));
        let has = |letter| letters.is_some_and(|letters| letters.contains(letter));
        if has('s') {
            return Err(format!("{program} {option} reads no file"));
        }
        if has('c') {
            // The file is a command, which its first line runs.
            if options.next().is_some() {
                return Err(format!("{program} {option} runs the word after it, not the script"));
            }
            return Ok(Reader::Command(one_word));
        }
        if has('o') || has('O') || ["--rcfile", "--init-file"].contains(&option.as_str()) {
            options.next();
        } else if !option.starts_with(['-', '+']) {
            return Err(format!("{program} would run {option}, with the script as its argument"));
        }
    }
    Ok(Reader::Program { name: program.to_owned(), passes_arguments: true })
}

fn other(program: &str, options: &[String]) -> Reader {
    let stem = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    // Code among the options, or a file before the script, has the script for an argument.
    let plain = |option: &String| option.starts_with('-') && !["-c", "-e", "-m", "-r"].contains(&option.as_str());
    let passes_arguments = LANGUAGES.contains(&stem) && options.iter().all(plain);
    Reader::Program { name: program.to_owned(), passes_arguments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &str, one_word: bool) -> Result<Interpreter, String> {
        read(&given.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), one_word)
    }

    #[test]
    fn program_account_and_words_are_told_apart() {
        for (given, words, account, program, arguments) in [
            ("python3 -B", "python3 -B", None, Some("python3"), true),
            ("/usr/bin/env python3", "/usr/bin/env python3", None, Some("python3"), true),
            ("/opt/x/bin/perl5.30", "/opt/x/bin/perl5.30", None, Some("perl5.30"), true),
            ("bash -e -o pipefail", "bash -e -o pipefail", None, Some("bash"), true),
            ("bash -eo pipefail", "bash -eo pipefail", None, Some("bash"), true),
            ("sudo", "", Some("root"), None, true),
            ("sudo -n -E bash", "bash", Some("root"), Some("bash"), true),
            ("sudo -nu app -H python3", "python3", Some("app"), Some("python3"), true),
            ("sudo --user=app A=b ruby", "env A=b ruby", Some("app"), Some("ruby"), true),
            ("env A=b nice -n 5 node", "env A=b nice -n 5 node", None, Some("node"), true),
            ("nohup", "nohup", None, None, true),
            ("bash -c", "bash -c", None, None, false),
            ("psql -d x -f", "psql -d x -f", None, Some("psql"), false),
            ("python3 /opt/tool.py", "python3 /opt/tool.py", None, Some("python3"), false),
            ("python3 -m pdb", "python3 -m pdb", None, Some("python3"), false),
        ] {
            let found = of(given, false).unwrap();
            assert_eq!(found.words.join(" "), words, "{given}");
            assert_eq!(found.account.as_deref(), account, "{given}");
            assert_eq!(found.program(), program, "{given}");
            assert_eq!(found.passes_arguments(), arguments, "{given}");
        }
        let one = of("sudo -u app bash -lc", true).unwrap();
        assert_eq!((one.account.as_deref(), one.reader), (Some("app"), Reader::Command(true)));
    }

    #[test]
    fn words_that_lose_values_or_need_a_shell_are_refused() {
        for (given, one_word, words) in [
            ("env -i bash", false, "env -i clears or changes the environment"),
            ("/usr/bin/env - bash", false, "env - clears"),
            ("env -u RD_OPTION_X bash", false, "env -u clears"),
            ("sudo -u app env -i bash", false, "env -i clears"),
            ("sudo -i bash", false, "sudo -i is not known"),
            ("sudo -nb bash", false, "sudo -nb is not known"),
            ("sudo -u #0 bash", false, "the account \"#0\""),
            ("sudo -u", false, "the account \"\""),
            ("sudo -u a sudo -u b bash", false, "two accounts"),
            ("su - app -c", true, "do not reach it behind su"),
            ("ssh web bash", false, "do not reach it behind ssh"),
            ("docker exec web bash", false, "behind docker"),
            ("$HOME/bin/x", false, "has syntax of a shell"),
            ("cd /x; bash", false, "has syntax of a shell"),
            (". /etc/profile", false, "a word of a shell"),
            ("bash -s", false, "reads no file"),
            ("bash -c id", false, "runs the word after it"),
            ("bash /opt/x.sh", false, "would run /opt/x.sh"),
            ("bash", true, "only a shell with -c"),
            ("python3", true, "only a shell with -c"),
            ("sudo", true, "only a shell with -c"),
            ("nice", true, "only a shell with -c"),
        ] {
            let refused = of(given, one_word).unwrap_err();
            assert!(refused.contains(words), "{given}: {refused}");
        }
    }
}
