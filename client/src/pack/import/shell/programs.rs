//! Commands that treat an argument as more than data: declarations, builtins that read names, programs that start others.

use super::grammar::Role;
use super::limit::Limit;

mod building;
mod fetching;
mod options;
mod variables;

pub(super) use building::{is_told_where, runs_directory};
pub(super) use fetching::{fetches, fetches_from_aws, lists, sends};
pub(in crate::pack::import) use variables::is_executed;
pub(super) use variables::{EVALUATED, leads_to_programs};

/// Character for an expansion in a word, which no name has.
pub(super) const EXPANDED: char = '\u{1}';

/// Programs that start the program after them.
pub(in crate::pack::import) const PREFIXES: &[&str] =
    &["sudo", "nohup", "time", "command", "nice", "ionice", "env", "setsid", "builtin", "exec", "timeout"];

/// Commands that a shell runs itself, without another process whose arguments could be read.
const BUILTINS: &[&str] = &[
    "echo",
    "printf",
    "[",
    "[[",
    "test",
    "case",
    "esac",
    "for",
    "select",
    "in",
    "export",
    "local",
    "declare",
    "typeset",
    "readonly",
    "read",
    "return",
    "exit",
    "unset",
    "set",
    "shift",
    "let",
    ":",
    "cd",
    "function",
    "true",
    "false",
    "getopts",
    "mapfile",
    "readarray",
    "time",
    "command",
    "builtin",
    "exec",
];

/// True for a command that a shell runs itself.
pub(super) fn is_builtin(program: &str) -> bool {
    BUILTINS.contains(&program)
}

/// True for a program of [`PREFIXES`] that is no word of the shell.
pub(super) fn starts_process(prefix: &str) -> bool {
    !BUILTINS.contains(&prefix)
}

/// Words after which a command begins.
pub(super) const KEYWORDS: &[&str] =
    &["if", "then", "else", "elif", "do", "while", "until", "!", "{", "}", "done", "fi", "coproc"];

/// Commands whose operands are assignments.
pub(super) const DECLARATIONS: &[&str] = &["local", "export", "declare", "typeset", "readonly"];

/// Programs whose output repeats their arguments or input.
const REPEATING: &[&str] = &[
    "echo", "printf", "cat", "tr", "sed", "cut", "awk", "gawk", "mawk", "head", "tail", "sort", "uniq", "basename",
    "dirname", "grep", "egrep", "tee", "expr", "jq", "xargs", "realpath", "readlink", "rev", "paste", "fold", "base64",
    "date", "mktemp", "tac", "nl", "column", "fmt", "shuf", "iconv", "comm", "printenv", "perl", "python", "python3",
    "ruby", "node", "php", "bash", "sh", "xxd", "seq", "which", "type", "command",
];

/// Programs to which a value that begins with `-` is no option.
const WITHOUT_OPTIONS: &[&str] = &["echo", "printf", "[", "test", "[[", "case", "for", "select", "return", "exit"];

/// True if the option `option` of the prefix `program` takes the next word.
pub(super) fn prefix_takes_word(program: &str, option: &str) -> bool {
    let letters = match program {
        "sudo" => "CDghpRrTtUu",
        "env" => "CSu",
        "nice" => "n",
        "ionice" => "cnp",
        "timeout" => "ks",
        "time" => "fo",
        "exec" => "a",
        _ => "",
    };
    let short = option.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    // The rest of the word after the letter is its operand.
    let taken = short.and_then(|rest| rest.find(|c| letters.contains(c)).map(|at| at + 1 == rest.len()));
    taken.unwrap_or(false) || LONG.contains(&option)
}

/// Long options of prefixes whose operand is the next word.
const LONG: &[&str] = &[
    "--user",
    "--group",
    "--unset",
    "--adjustment",
    "--class",
    "--classdata",
    "--signal",
    "--kill-after",
    "--chdir",
    "--prompt",
    "--host",
    "--role",
    "--type",
    "--chroot",
    "--output",
    "--format",
    "--argv0",
    "--close-from",
    "--other-user",
];

/// True if the operand of this option of `env` is a command: `-S`.
pub(super) fn splits_command(program: &str, option: &str) -> bool {
    let short = option.strip_prefix('-').filter(|rest| !rest.starts_with('-')).is_some_and(|rest| rest.contains('S'));
    program == "env" && (short || option.starts_with("--split-string"))
}

/// True for a reader of code by which no other program is started, and which names no variable: a query, or the name of a
/// service.
pub(super) fn only_reads(reader: &str) -> bool {
    ["jq", "yq"].contains(&reader) || super::starters::manages_services(reader)
}

/// True if a command takes words of a value for what they are, whatever they are: it has no options by which they do harm.
pub(super) fn takes_any_words(program: &str) -> bool {
    const PROGRAMS: &[&str] = &[
        "echo", "printf", "[", "test", "[[", "case", "for", "select", "in", "return", "exit", ":", "true", "false",
        "shift", "break", "continue", "cd", "sleep", "set",
    ];
    PROGRAMS.contains(&program)
}

/// True if the output of `program` repeats what it is given.
pub(super) fn repeats(program: &str) -> bool {
    REPEATING.contains(&program)
}

/// True if `program` may write a part of a line that it reads or is given. Others write whole lines.
pub(super) fn cuts(program: &str) -> bool {
    const WHOLE: &[&str] = &[
        "", "cat", "tee", "sort", "uniq", "tac", "for", "case", "select", "exec", "echo", "printf", "esac", "read",
        "mapfile",
    ];
    !WHOLE.contains(&program)
}

/// True for a program that may make any text of letters and digits.
pub(super) fn decodes(program: &str) -> bool {
    ["base64", "base32", "basenc", "xxd", "openssl", "uudecode", "gpg"].contains(&program)
}

/// True for a program that makes files of files.
pub(super) fn copies(program: &str) -> bool {
    const COPYING: &[&str] = &[
        "cp", "mv", "ln", "install", "rsync", "dd", "cpio", "pax", "ar", "bunzip2", "unxz", "patch", "sed", "awk",
        "perl", "sort", "chmod", "chown", "rpm2cpio", "busybox", "split", "csplit",
    ];
    COPYING.contains(&program)
}

/// True if options of `program` may start programs or write files.
pub(super) fn starts_by_options(program: &str) -> bool {
    const PROGRAMS: &[&str] = &[
        "find",
        "tar",
        "ssh",
        "scp",
        "sftp",
        "rsync",
        "sed",
        "git",
        "curl",
        "wget",
        "zip",
        "apt-get",
        "yum",
        "sort",
        "docker",
        "man",
        "tcpdump",
        "split",
        "apt",
        "dnf",
        "zypper",
        "rpm",
        "dpkg",
        "cpio",
        "mail",
        "mailx",
        "sendmail",
        "nmap",
        "unzip",
        "7z",
        "less",
        "ip",
        "nc",
        "ncat",
        "socat",
        "openssl",
        "pip",
        "pip3",
        "npm",
        "gem",
        "kubectl",
        "podman",
        "helm",
        "terraform",
        "ansible",
        "java",
        "make",
        "mvn",
        "gradle",
        "busybox",
    ];
    PROGRAMS.contains(&program)
}

/// True if `program` would take an operand that begins with `-` for an option.
pub(super) fn takes_options(program: &str) -> bool {
    !WITHOUT_OPTIONS.contains(&program)
}

/// Place of a word among the arguments of a program.
pub(super) struct Place<'a> {
    /// Operands before it.
    pub(super) operands: usize,
    /// The word before it.
    pub(super) last: &'a str,
    /// The word so far.
    pub(super) word: &'a str,
}

impl Place<'_> {
    /// True for the operand of one of these options, which may be in the same word.
    fn after(&self, options: &[&str]) -> bool {
        let is_attached = |option: &str| match self.word.strip_prefix(option) {
            Some(rest) => !rest.is_empty() || option.len() == 2,
            None => false,
        };
        options.contains(&self.last) || options.iter().any(|option| is_attached(option))
    }
}

/// Returns how a command whose arguments have no grammar reads a value at this place, and what limit its code needs.
pub(super) fn argument(program: &str, place: &Place<'_>) -> (Role, Limit) {
    let first = place.operands == 0;
    let code = |is: bool, limit: Limit| (if is { Role::Code } else { Role::Data }, limit);
    match program {
        "eval" | "trap" | "alias" => code(program == "eval" || first, Limit::Path),
        "source" | "." => (if first { Role::Program } else { Role::Data }, Limit::Path),
        // Files of code, commands, and words that the shell expands.
        "hash" | "enable" | "bind" | "complete" | "compgen" => (Role::Program, Limit::Path),
        "let" => (Role::Unknown, Limit::Number),
        // Runs what follows as a command.
        "jobs" if place.last == "-x" => (Role::Program, Limit::Path),
        // The shell evaluates the index of an array in a name.
        "unset" | "read" | "mapfile" | "readarray" | "getopts" => (Role::Unknown, Limit::Path),
        "[" | "test" | "[[" if place.last == "-v" => (Role::Unknown, Limit::Word),
        // Callers choose the operator, which may be -v.
        "[" | "test" if place.last.trim_start_matches('-').chars().all(|c| c == EXPANDED) && place.last != "-" => {
            (if place.last.contains(EXPANDED) { Role::Unknown } else { Role::Data }, Limit::Path)
        }
        "printf" | "wait" => (if place.after(&["-v", "-p"]) { Role::Unknown } else { Role::Data }, Limit::Word),
        "nmap" if place.after(&["--script", "--datadir"]) => (Role::Unknown, Limit::Word),
        "git" if place.after(&["-c", "--upload-pack", "--receive-pack"]) => (Role::Unknown, Limit::Word),
        _ => options::role(program, place).map_or((Role::Data, Limit::Free), |role| (role, Limit::Path)),
    }
}

/// True if text after `before` in code of a shell is the name of a program, or a part of it.
pub(super) fn names_program(before: &str) -> bool {
    let tail = before.len().saturating_sub(4096);
    let from = (tail..before.len()).find(|at| before.is_char_boundary(*at)).unwrap_or(before.len());
    let before = &before[from..];
    let command = before.rsplit([';', '|', '&', '(', ')', '`', '\n', '{']).next().unwrap_or_default();
    let mut words: Vec<&str> = command.split_whitespace().collect();
    let unfinished = if command.ends_with(char::is_whitespace) { None } else { words.pop() };
    let has_prefix = words.iter().any(|word| PREFIXES.contains(word));
    let skipped = |word: &&str| {
        let belongs = word.starts_with('-') || word.starts_with(|c: char| c.is_ascii_digit());
        KEYWORDS.contains(word)
            || PREFIXES.contains(word)
            || is_assignment(word)
            || word.contains(['<', '>'])
            || has_prefix && belongs
    };
    let begins = words.iter().all(skipped) || words.last().is_some_and(|word| runs_next(word));
    begins && unfinished.is_none_or(|word| !is_assignment(word) && !word.starts_with('-'))
}

/// True for a word after which a program or a file of code is named.
pub(super) fn runs_next(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    ["source", ".", "eval", "-exec", "-execdir", "-ok", "sudo", "exec"].contains(&name)
        || super::starters::starts(name) && !super::starters::contains(name)
        || super::readers::grammar(name).is_some_and(|grammar| grammar.first == Role::Program)
}

/// Returns the limit of a value in code of sed after `before`: in `s`, its delimiter must be no character of a word.
pub(super) fn limit_in_sed(before: &str) -> Limit {
    let command = before.trim_start_matches(|c: char| c.is_ascii_digit() || "$,".contains(c));
    let delimiter = command
        .strip_prefix(['s', 'y'])
        .or(command.starts_with('/').then_some(command))
        .and_then(|rest| rest.chars().next());
    match delimiter {
        Some('|' | '#' | '!' | '~' | '^' | ';') => Limit::Path,
        Some(c) if !c.is_ascii_alphanumeric() && !"_.:@%+-".contains(c) => Limit::Word,
        _ => Limit::Number,
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| super::is_name(name))
}
