//! Shell scripts of a source with places for values: the values become quoted expansions of environment variables.
//!
//! ```text
//!  text with places ──scan──▶ script with "${SSM_Name}"   and   uses, flows: where each value and variable is read
//!                                                                    └─flow──▶ what each value must be limited to
//! ```
//!
//! The text of a script is its author's; a value of a caller is only ever the value of a variable. Where the script itself
//! would treat a value as code (`eval`, arithmetic, text that is piped to a shell), directly or through variables, the
//! value must be limited to characters that cannot be code: [`Rewritten::needs`] says to which. A value that is the name of a
//! program and nothing else is in [`Rewritten::programs`]. One that names a file of code, a program in code, or what is
//! downloaded and run, and one that is a part of a variable's name, is refused, unless the author listed all values.
//!
//! Flows are followed through assignments, loops and other lists of commands, functions and their arguments,
//! here-documents, pipelines, substitutions of programs that repeat their input, and files by their names, also between
//! scripts that run one after the other ([`follow_between`]). A value that chooses text which becomes code, by what is
//! downloaded, copied or listed, counts as the name of a program. Not followed are texts that name a variable.

mod between;
mod contents;
mod files;
mod flow;
mod grammar;
mod limit;
mod names;
pub(super) mod programs;
mod readers;
mod scan;
mod simple;
mod starters;

use std::collections::BTreeSet;
use std::fmt;

pub(super) use self::between::follow_between;
pub(super) use self::files::Files;
pub(super) use self::flow::Need;
pub(super) use self::limit::{Limit, allows_any_text, is_plain_pattern, limit_of_pattern};
pub(super) use self::starters::manages_services;

/// Part of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// Place for the value of this index.
    Value(usize),
}

/// Value that a script has places for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScriptValue {
    /// Name in the source, for messages.
    pub(super) name: String,
    /// Environment variable that holds it.
    pub(super) variable: String,
    /// Characters that its schema allows.
    pub(super) limit: Limit,
    /// Its schema lists all values.
    pub(super) listed: bool,
    /// Its schema allows blanks and characters that no shell gives a meaning to.
    pub(super) plain: bool,
    /// Where it is a word of its own it is several, split at blanks.
    pub(super) words: bool,
    /// Where it is a word of its own and empty it is no word.
    pub(super) omitted: bool,
}

/// Result of [`rewrite`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) script: String,
    /// Limits that values must have, by their index. Only those that go beyond their schemas.
    pub(super) needs: Vec<(usize, Need)>,
    /// Values that a program would take for options if they began with `-`.
    pub(super) operands: Vec<usize>,
    /// Of these, values that may be cut into several words first.
    pub(super) cut: Vec<usize>,
    /// Values that are split into words.
    pub(super) split: Vec<usize>,
    /// Values that are words of a program whose options may start others, and where there may be more or less than one.
    pub(super) by_options: Vec<usize>,
    /// Values that name a program, and of which no shell text is made.
    pub(super) programs: Vec<usize>,
    /// Files that it writes, and those that it runs, for [`follow_between`].
    pub(super) files: Files,
}

/// Script that is not rewritten, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused(String);

impl Refused {
    fn new(why: impl Into<String>) -> Refused {
        Refused(packs_schema::base::strict::shorten(&why.into(), 160))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Rewrites a script for `sh` or `bash`, whose positional parameters have the values with the indices `arguments`.
pub(super) fn rewrite(parts: &[Part], values: &[ScriptValue], arguments: &[usize]) -> Result<Rewritten, Refused> {
    let mut scanned = scan::scan(parts, values)?;
    scanned.facts.arguments = arguments.to_vec();
    let mut operands = scanned.operands;
    let flow::Needs { limits: mut needs, programs, started, cut, by_options, by_shell, files } =
        flow::needs(&scanned.facts, values, &mut operands)?;
    let construct = evaluates(parts, &scanned.facts);
    if let Some(index) = programs.first()
        && let Some(construct) = construct
    {
        return Err(Refused::new(format!("{} names a program, beside {construct}", values[*index].name)));
    }
    if let Some(construct) = construct {
        limit_all(parts, values, arguments, construct, &mut needs);
    }
    // Constructs that are not followed may evaluate any value that the script reads.
    let unfollowed = construct.map_or_else(Vec::new, |_| read_values(parts, values, arguments));
    names::limit_others(parts, values, by_shell.into_iter().chain(unfollowed), &mut needs);
    let decodes =
        |part: &Part| matches!(part, Part::Text(text) if DECODERS.iter().any(|decoder| text.contains(decoder)));
    let is_limited = |need: &Need| need.limit < Limit::Number && (need.followed || construct.is_some());
    if needs.iter().any(|(_, need)| is_limited(need)) && parts.iter().any(decodes) {
        return Err(Refused::new("it decodes text, so that no limit keeps a value from being code"));
    }
    operands.sort_unstable();
    operands.dedup();
    let mut split = scanned.split;
    split.sort_unstable();
    split.dedup();
    let by_options =
        by_options.into_iter().chain(scanned.by_options).collect::<BTreeSet<usize>>().into_iter().collect();
    let named =
        if scanned.facts.starts_in_code == Some(true) { read_values(parts, values, arguments) } else { Vec::new() };
    let named = named.into_iter().filter(|index| !values[*index].listed && values[*index].limit < Limit::Number);
    let programs = programs.union(&started).copied().chain(named).collect::<BTreeSet<usize>>().into_iter().collect();
    let cuts = |part: &Part| matches!(part, Part::Text(text) if CUTTING.iter().any(|way| text.contains(way)));
    let cut = if parts.iter().any(cuts) { cut.into_iter().collect() } else { Vec::new() };
    Ok(Rewritten { script: scanned.out, needs, operands, cut, split, by_options, programs, files })
}

/// Text of scripts that cut a value into words.
const CUTTING: &[&str] = &["tr ", "IFS", "//", "cut ", "sed ", "awk ", "jq ", "mapfile", "readarray", "read ", "fold "];

/// Returns which values of its environment a script gives to programs as arguments, with the program. Nothing is returned
/// of a script that cannot be read.
pub(super) fn given_to_programs(script: &str, values: &[ScriptValue]) -> Vec<(usize, String)> {
    given_to_programs_at(script, values, 0)
}

fn given_to_programs_at(script: &str, values: &[ScriptValue], depth: usize) -> Vec<(usize, String)> {
    /// Deepest nesting of code in code.
    const MAX_DEPTH: usize = 3;
    let Ok(scanned) = scan::scan(&[Part::Text(script.to_owned())], values) else { return Vec::new() };
    let mut found = flow::given(&scanned.facts, values);
    if depth < MAX_DEPTH {
        found.extend(scanned.facts.quoted.iter().flat_map(|code| given_to_programs_at(code, values, depth + 1)));
    }
    found
}

/// Returns what makes text code in ways that are not followed: all values of a script with it are limited.
fn evaluates<'a>(parts: &[Part], facts: &'a flow::Facts) -> Option<&'a str> {
    let found =
        |construct: &&&str| {
            parts.iter().any(|part| matches!(part, Part::Text(text) if text.match_indices(**construct).any(|(at, _)| {
            let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let begins = construct.starts_with(letter);
            let ends = construct.ends_with(letter);
            !(begins && text[..at].ends_with(letter) || ends && text[at + construct.len()..].starts_with(letter))
        })))
        };
    let written = || facts.runs_written().then_some("a file that the script writes and runs");
    let started = || facts.starts_in_code.map(|_| "code of another language that starts programs");
    EVALUATING.iter().find(found).copied().or_else(written).or_else(started)
}

/// Constructs by which a script may evaluate text that reached it on any way.
const EVALUATING: &[&str] = &[
    "eval",
    "coproc",
    "system(",
    "popen(",
    ">(",
    "/dev/fd/",
    "${!",
    "$_",
    "hash -p",
    "| getline",
    "|getline",
    "|& getline",
    "|&getline",
    // Of other languages in here-documents, too.
    "shell=True",
    "shell = True",
    "create_subprocess_shell(",
    "getoutput(",
    "getstatusoutput(",
    "exec(",
    "execSync(",
    "shell_exec(",
    "passthru(",
    "proc_open(",
    "Open3",
    "qx(",
    "qx{",
    "%x(",
    "%x{",
    // A name for a command, and ways to read variables that have other names then.
    "alias",
    "printenv",
    "envsubst",
    "<(env",
    "compgen -v",
];

/// Text by which a script may read all variables.
const ALL_VARIABLES: &[&str] = &["${!", "env", "printenv", "compgen", "export -p", "declare -p", "set |"];

/// Limits each value of a script to characters that no shell gives a meaning to.
fn limit_all(
    parts: &[Part],
    values: &[ScriptValue],
    arguments: &[usize],
    construct: &str,
    needs: &mut Vec<(usize, Need)>,
) {
    for index in read_values(parts, values, arguments) {
        let is_limited = needs.iter().any(|(known, _)| *known == index);
        if values[index].limit < Limit::Path && !values[index].listed && !is_limited {
            needs.push((index, Need { limit: Limit::Path, reader: construct.to_owned(), followed: false }));
        }
    }
    needs.sort_by_key(|(index, _)| *index);
}

/// Returns the values that a script has places for, gets as arguments, or may read from its environment.
fn read_values(parts: &[Part], values: &[ScriptValue], arguments: &[usize]) -> Vec<usize> {
    let reads_all = parts.iter().any(|part| {
        matches!(part, Part::Text(text) if ALL_VARIABLES.iter().any(|way| text.match_indices(way).any(|(at, _)| {
            let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !text[..at].ends_with(letter) && !text[at + way.len()..].starts_with(letter)
        }) || *way == "${!" && text.contains(way)))
    });
    let is_read = |index: usize, value: &ScriptValue| {
        reads_all
            || arguments.contains(&index)
            || parts.iter().any(|part| match part {
                Part::Value(other) => *other == index,
                Part::Text(text) => text.contains(&value.variable),
            })
    };
    values.iter().enumerate().filter(|(index, value)| is_read(*index, value)).map(|(index, _)| index).collect()
}

/// True for a script that runs a file by a path that is relative to its working directory, or what lies there.
pub(super) fn runs_relative(script: &str) -> bool {
    match scan::scan(&[Part::Text(script.to_owned())], &[]) {
        Ok(scanned) => scanned.facts.runs_relative(),
        Err(_) => script.contains("./"),
    }
}

/// Commands that turn letters and digits into any text.
const DECODERS: &[&str] = &[
    "base64 -d",
    "base64 --decode",
    "base64 -D",
    "base64 -i -d",
    "base64 -w0 -d",
    "base64 -w 0 -d",
    "base32 -d",
    "basenc -d",
    "@base64d",
    "b64decode",
    "xxd -r",
    "xxd -p -r",
    "xxd -ps -r",
    "openssl enc -d",
    "openssl base64 -d",
    "urllib.parse.unquote",
    "uri_unescape",
    "printf '%b'",
    "printf %b",
    "printf \"%b\"",
];

/// True if `text` has this word, as it names programs and files.
pub(super) fn has_word(text: &str, wanted: &str) -> bool {
    let separates = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
    text.split(separates).any(|word| word == wanted)
}

/// True for a name of a shell's variable.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests;
