//! Programs that read an argument or their input as code, and programs that start others.

use super::limit::Limit;

/// Programs that start the program after them.
pub(in crate::pack::import) const PREFIXES: &[&str] =
    &["sudo", "nohup", "time", "command", "nice", "ionice", "env", "setsid", "builtin", "exec", "timeout"];

/// Words after which a command begins.
pub(super) const KEYWORDS: &[&str] =
    &["if", "then", "else", "elif", "do", "while", "until", "!", "{", "}", "done", "fi", "coproc"];

/// Commands whose operands are assignments.
pub(super) const DECLARATIONS: &[&str] = &["local", "export", "declare", "typeset", "readonly"];

const SHELLS: &[&str] = &["bash", "sh", "dash", "zsh", "ksh"];

/// Programs whose output repeats their arguments or input.
const REPEATING: &[&str] = &[
    "echo", "printf", "cat", "tr", "sed", "cut", "awk", "gawk", "mawk", "head", "tail", "sort", "uniq", "basename",
    "dirname", "grep", "egrep", "tee", "expr", "jq", "xargs", "realpath", "readlink", "rev", "paste", "fold", "base64",
    "xxd", "seq",
];

/// Programs to which a value that begins with `-` is no option.
const WITHOUT_OPTIONS: &[&str] = &["echo", "printf", "[", "test", "[[", "case", "for", "select", "return", "exit"];

/// True if the option `option` of the prefix `program` takes the next word.
pub(super) fn prefix_takes_word(program: &str, option: &str) -> bool {
    let letters = match program {
        "sudo" => "CDgHhpRrTtUu",
        "env" => "CSu",
        "nice" => "n",
        "ionice" => "cnp",
        "timeout" => "ks",
        "time" => "fo",
        "exec" => "a",
        _ => "",
    };
    let long = ["--user", "--group", "--unset", "--adjustment", "--class", "--classdata", "--signal", "--kill-after"];
    let short = option.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    short.and_then(|rest| rest.chars().last()).is_some_and(|last| letters.contains(last)) || long.contains(&option)
}

/// True if the output of `program` repeats what it is given.
pub(super) fn repeats(program: &str) -> bool {
    REPEATING.contains(&program)
}

/// True if `program` would take an operand that begins with `-` for an option.
pub(super) fn takes_options(program: &str) -> bool {
    !WITHOUT_OPTIONS.contains(&program)
}

/// Place of a word among the arguments of a program.
pub(super) struct Place<'a> {
    /// Operands before it.
    pub(super) operands: usize,
    /// Words before it, last first.
    pub(super) before: [&'a str; 2],
    /// The word so far.
    pub(super) word: &'a str,
}

/// Returns the limit that a value needs at this place of the arguments of `program`, which would read it as code.
pub(super) fn argument(program: &str, place: &Place<'_>) -> Option<Limit> {
    let [last, second] = place.before;
    let after = |options: &[&str]| {
        options.contains(&last)
            || options.iter().any(|option| place.word.starts_with(option) && place.word.len() > option.len())
    };
    let first = place.operands == 0;
    let code = match program {
        "eval" | "let" | "unset" => return Some(if program == "let" { Limit::Number } else { Limit::Path }),
        "alias" | "source" | "." | "trap" => first.then_some(Limit::Path),
        "su" | "runuser" => after(&["-c", "--command"]).then_some(Limit::Path),
        "ssh" => (place.operands > 0 || last == "-o").then_some(Limit::Word),
        "xargs" | "watch" | "parallel" | "nsenter" | "chroot" | "systemd-run" | "script" | "dc" | "ed" | "ex"
        | "vim" | "gdb" | "m4" | "make" | "expect" | "tclsh" => Some(Limit::Word),
        "mysql" | "mariadb" | "cqlsh" => after(&["-e", "--execute"]).then_some(Limit::Word),
        "psql" => after(&["-c", "--command"]).then_some(Limit::Word),
        "mongo" | "mongosh" => after(&["--eval"]).then_some(Limit::Word),
        "sqlite3" => (place.operands > 0).then_some(Limit::Word),
        "awk" | "gawk" | "mawk" => (first && !after(&["-v", "-F", "-f"])).then_some(Limit::Word),
        "sed" => (first || after(&["-e", "--expression"])).then_some(Limit::Word),
        "jq" => (first && !["--arg", "--argjson"].iter().any(|o| *o == last || *o == second)).then_some(Limit::Word),
        program if SHELLS.contains(&program) => first.then_some(Limit::Path),
        program if is_interpreter(program) => first.then_some(Limit::Word),
        _ => None,
    };
    // `docker exec web sh -c "…"`.
    code.or_else(|| (last == "-c" && SHELLS.contains(&second)).then_some(Limit::Path))
}

/// Returns the limit that a value needs in the standard input of `program`.
pub(super) fn input(program: &str, operands: usize) -> Option<Limit> {
    match program {
        "at" | "batch" | "crontab" | "xargs" | "ssh" => Some(Limit::Path),
        "mysql" | "mariadb" | "psql" | "sqlite3" | "mongo" | "mongosh" | "cqlsh" | "dc" | "ed" | "ex" | "gdb" => {
            Some(Limit::Word)
        }
        program if SHELLS.contains(&program) => (operands == 0).then_some(Limit::Path),
        program if is_interpreter(program) => (operands == 0).then_some(Limit::Word),
        _ => None,
    }
}

fn is_interpreter(program: &str) -> bool {
    let stem = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    ["python", "perl", "ruby", "node", "php", "lua", "powershell", "pwsh"].contains(&stem)
}
