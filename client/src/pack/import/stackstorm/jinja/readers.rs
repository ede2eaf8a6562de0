//! Constructs of a shell command that read text as code or as a command, anywhere in it.
//!
//! The scanner tells which program reads a value at its place. What happens to it behind a pipe, in a variable, or behind the
//! options of a program that starts another one is not followed: beside any of these no value is taken at all.

use super::scan::Scan;

/// Programs that read their operands or their input as code, or start the program that an operand names. Versions are left out.
const READERS: &[&str] = &[
    "eval",
    "exec",
    "-exec",
    "-execdir",
    "-ok",
    "-okdir",
    "xargs",
    "bash",
    "sh",
    "dash",
    "zsh",
    "ksh",
    "fish",
    "su",
    "runuser",
    "ssh",
    "doas",
    "chroot",
    "nsenter",
    "unshare",
    "systemd-run",
    "timeout",
    "flock",
    "setpriv",
    "stdbuf",
    "strace",
    "ltrace",
    "gdb",
    "python",
    "pypy",
    "perl",
    "ruby",
    "nodejs",
    "php",
    "lua",
    "tclsh",
    "m4",
    "mysql",
    "mariadb",
    "psql",
    "mongo",
    "mongosh",
    "sqlite",
    "cqlsh",
    "sqlplus",
];
/// Constructs in which a variable's value is an expression, a command or a file of commands.
const EVALUATED: &[&str] = &["((", "$[", "[[", "@P", "${!", "<(", "let ", "printf -v", "test -v", "[ -v"];

/// Returns the construct that would read a value as code; `None` if there is none in the `text` of a command.
pub(super) fn reader(text: &str, scan: &Scan, assigned: bool) -> Option<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_./+-".contains(c)));
    let program = |word: &str| {
        let name = word.rsplit('/').next().unwrap_or_default();
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        READERS.iter().any(|reader| *reader == name || *reader == plain).then(|| name.to_owned())
    };
    words.into_iter().find_map(program).or_else(|| {
        if scan.by_variable {
            return Some("a variable that names the program".to_owned());
        }
        let found = EVALUATED.iter().find(|construct| text.contains(**construct) && (assigned || **construct == "<("));
        found.map(|construct| construct.trim().to_owned())
    })
}

/// True if a place after this text is inside `${…}`, where the shell may compute it, or if it may be: where quotes, backslashes
/// or substitutions inside decide which brace ends it.
pub(super) fn in_expansion(before: &str) -> bool {
    let (mut depth, mut unclear) = (0_usize, false);
    let mut rest = before;
    while let Some(c) = rest.chars().next() {
        let opens = rest.starts_with("${");
        match c {
            _ if opens => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '\'' | '"' | '\\' | '`' | '(' => unclear |= depth > 0,
            _ => {}
        }
        rest = &rest[if opens { 2 } else { c.len_utf8() }..];
    }
    depth > 0 || unclear
}
