//! Programs that run code, and how each reads its arguments, from their manual pages.

use super::grammar::{COMMON, Grammar, Input, Role};
use super::limit::Limit;
use super::starters;

const DATA: &[Role] = &[Role::Data];
const CODE: &[Role] = &[Role::Code];
const FILE: &[Role] = &[Role::Program];
const UNKNOWN: &[Role] = &[Role::Unknown];
const NAME_AND_DATA: &[Role] = &[Role::Data, Role::Data];

/// Programs whose arguments are all limited, as is their input.
const OPAQUE: &[&str] = &[
    "make",
    "gmake",
    "expect",
    "tclsh",
    "wish",
    "gdb",
    "m4",
    "dc",
    "ed",
    "ex",
    "vi",
    "vim",
    "nvim",
    "emacs",
    "powershell",
    "pwsh",
    "sqlplus",
    "sqlcmd",
    "isql",
    "sftp",
    "lftp",
    "ftp",
    "telnet",
    "groovy",
    "jshell",
    "Rscript",
    "redis-cli",
    "cypher-shell",
    "impala-shell",
    "beeline",
    "hive",
    "mongo",
    "mongosh",
    "influx",
    "ansible-playbook",
];

pub(super) const SHELLS: &[&str] = &["bash", "sh", "dash", "zsh", "ksh", "ash", "rbash", "fish", "csh", "tcsh"];

const GRAMMARS: &[Grammar] = &[
    Grammar {
        names: SHELLS,
        limit: Limit::Path,
        shell: true,
        flags: "abefhiklmnprtuvxBCEHPTdq",
        data: "oO",
        long_flags: &["login", "norc", "noprofile", "posix", "verbose", "restricted", "noediting", "debugger"],
        long: &[("rcfile", FILE), ("init-file", FILE)],
        first: Role::Program,
        rest: Role::Data,
        input: Input::Without,
        ..COMMON
    },
    Grammar {
        names: &["python", "pypy"],
        flags: "bBdEhiIOPqsSuvVx",
        data: "WX",
        code: "c",
        file: "m",
        first: Role::Program,
        rest: Role::Data,
        after_code: Role::Data,
        input: Input::Without,
        ..COMMON
    },
    // Names of input files may be commands (`|`), so operands after code are limited. Words and points are enough for code.
    Grammar {
        names: &["perl"],
        limit: Limit::Number,
        flags: "nplaswWtTUcSvu",
        code: "eE",
        data: "I",
        attached: "i0",
        unknown: "mMF",
        first: Role::Program,
        rest: Role::Data,
        input: Input::Without,
        ..COMMON
    },
    Grammar {
        names: &["ruby"],
        limit: Limit::Number,
        flags: "nplaswWcSvydhU",
        code: "e",
        data: "IC",
        attached: "i0",
        unknown: "rKExF",
        first: Role::Program,
        rest: Role::Data,
        input: Input::Without,
        ..COMMON
    },
    Grammar {
        names: &["node", "nodejs"],
        flags: "ich",
        code: "ep",
        file: "r",
        long: &[("eval", CODE), ("print", CODE), ("require", FILE), ("import", FILE)],
        first: Role::Program,
        rest: Role::Data,
        after_code: Role::Data,
        input: Input::Without,
        ..COMMON
    },
    Grammar {
        names: &["php"],
        flags: "qnahlvisw",
        code: "rBRE",
        file: "fF",
        unknown: "dcz",
        first: Role::Program,
        rest: Role::Data,
        after_code: Role::Data,
        input: Input::Without,
        ..COMMON
    },
    Grammar {
        names: &["lua", "luajit"],
        flags: "ivEW",
        code: "e",
        unknown: "l",
        first: Role::Program,
        rest: Role::Data,
        input: Input::Without,
        ..COMMON
    },
    Grammar {
        names: &["awk", "gawk", "mawk", "nawk"],
        data: "vF",
        code: "e",
        file: "fEi",
        flags: "bcCghkMnNOPrsStV",
        long: &[("assign", DATA), ("field-separator", DATA), ("file", FILE), ("source", CODE), ("include", FILE)],
        long_flags: &["posix", "re-interval", "traditional", "characters-as-bytes", "csv"],
        first: Role::Code,
        rest: Role::Data,
        after_code: Role::Data,
        input: Input::Never,
        ..COMMON
    },
    Grammar {
        names: &["sed", "gsed"],
        flags: "nrEsuz",
        data: "l",
        attached: "i",
        code: "e",
        file: "f",
        long: &[("expression", CODE), ("file", FILE), ("line-length", DATA)],
        long_flags: &[
            "in-place",
            "quiet",
            "silent",
            "regexp-extended",
            "separate",
            "unbuffered",
            "null-data",
            "follow-symlinks",
            "posix",
        ],
        first: Role::Code,
        rest: Role::Data,
        after_code: Role::Data,
        permutes: true,
        input: Input::Never,
        ..COMMON
    },
    // Its code starts nothing and writes no files.
    Grammar {
        names: &["jq", "yq"],
        limit: Limit::Path,
        flags: "rcnesRSMCaj",
        data: "L",
        file: "f",
        long: &[
            ("arg", NAME_AND_DATA),
            ("argjson", NAME_AND_DATA),
            ("slurpfile", NAME_AND_DATA),
            ("rawfile", NAME_AND_DATA),
            ("indent", DATA),
            ("from-file", FILE),
        ],
        long_flags: &[
            "raw-output",
            "compact-output",
            "null-input",
            "exit-status",
            "slurp",
            "raw-input",
            "sort-keys",
            "tab",
            "args",
            "jsonargs",
            "join-output",
            "monochrome-output",
            "color-output",
            "ascii-output",
        ],
        first: Role::Code,
        rest: Role::Data,
        after_code: Role::Data,
        permutes: true,
        input: Input::Never,
        ..COMMON
    },
    Grammar {
        names: &["mysql", "mariadb"],
        flags: "ABCEGHLNQTXbfilnqrstvwVj?",
        data: "hPuSD",
        attached: "p",
        code: "e",
        long: &[
            ("execute", CODE),
            ("host", DATA),
            ("port", DATA),
            ("user", DATA),
            ("password", DATA),
            ("socket", DATA),
            ("database", DATA),
            ("defaults-file", UNKNOWN),
            ("defaults-extra-file", UNKNOWN),
        ],
        long_flags: &["batch", "silent", "raw", "force", "table", "xml", "html", "skip-column-names", "verbose"],
        first: Role::Data,
        after_code: Role::Data,
        permutes: true,
        ..COMMON
    },
    Grammar {
        names: &["psql"],
        flags: "aAbeEHnqsStxXwWlz01",
        data: "dhpUFPRT",
        code: "c",
        file: "f",
        unknown: "voL",
        long: &[
            ("command", CODE),
            ("dbname", DATA),
            ("host", DATA),
            ("port", DATA),
            ("username", DATA),
            ("file", FILE),
            ("set", UNKNOWN),
            ("variable", UNKNOWN),
            ("output", UNKNOWN),
        ],
        long_flags: &["tuples-only", "no-align", "quiet", "csv", "no-psqlrc", "no-password", "expanded", "html"],
        first: Role::Data,
        rest: Role::Data,
        after_code: Role::Data,
        permutes: true,
        ..COMMON
    },
    Grammar {
        names: &["cqlsh"],
        data: "upk",
        code: "e",
        file: "f",
        long: &[("execute", CODE), ("file", FILE), ("username", DATA), ("password", DATA), ("keyspace", DATA)],
        long_flags: &["ssl", "no-color", "debug"],
        first: Role::Data,
        rest: Role::Data,
        after_code: Role::Data,
        permutes: true,
        ..COMMON
    },
    Grammar { names: &["sqlite3", "sqlite"], first: Role::Data, ..COMMON },
    Grammar {
        names: &["clickhouse-client", "clickhouse"],
        flags: "nmtEs",
        data: "hudf",
        code: "q",
        long: &[
            ("query", CODE),
            ("queries-file", FILE),
            ("host", DATA),
            ("port", DATA),
            ("user", DATA),
            ("password", DATA),
            ("database", DATA),
            ("format", DATA),
        ],
        long_flags: &["multiquery", "multiline", "secure"],
        first: Role::Data,
        after_code: Role::Data,
        permutes: true,
        ..COMMON
    },
    Grammar {
        names: &["ssh"],
        limit: Limit::Path,
        shell: true,
        flags: "46AaCfGgKkMNnqsTtVvXxYy",
        data: "bcDEeiIlLmpQRSwW",
        file: "oF",
        unknown: "JO",
        first: Role::Data,
        rest: Role::Code,
        after_code: Role::Code,
        ..COMMON
    },
    Grammar {
        names: &["su"],
        limit: Limit::Path,
        shell: true,
        flags: "-lmpP",
        data: "gGwu",
        code: "c",
        file: "s",
        long: &[("command", CODE), ("shell", FILE), ("group", DATA), ("user", DATA)],
        long_flags: &["login", "preserve-environment", "pty"],
        first: Role::Data,
        after_code: Role::Data,
        permutes: true,
        ..COMMON
    },
    // Its code is that of a shell, as an argument or as input.
    Grammar {
        names: &["newgrp", "sg"],
        limit: Limit::Path,
        shell: true,
        flags: "-l",
        code: "c",
        first: Role::Data,
        rest: Role::Code,
        after_code: Role::Data,
        permutes: true,
        ..COMMON
    },
    Grammar { names: OPAQUE, ..COMMON },
    Grammar {
        names: &["at", "batch"],
        limit: Limit::Path,
        shell: true,
        flags: "mvMlrdb",
        data: "qt",
        file: "f",
        first: Role::Data,
        rest: Role::Data,
        ..COMMON
    },
    Grammar {
        names: &["crontab"],
        limit: Limit::Path,
        shell: true,
        flags: "erlin",
        data: "us",
        first: Role::Program,
        ..COMMON
    },
    // Starts every file of a directory.
    Grammar {
        names: &["run-parts"],
        flags: "vdh",
        data: "ua",
        long_flags: &[
            "verbose",
            "test",
            "list",
            "report",
            "exit-on-error",
            "reverse",
            "new-session",
            "lsbsysinit",
            "debug",
        ],
        long: &[("arg", DATA), ("umask", DATA), ("regex", DATA)],
        first: Role::Program,
        rest: Role::Data,
        input: Input::Never,
        ..COMMON
    },
];

/// Returns how a program reads its arguments, if it runs code or starts others.
pub(super) fn grammar(program: &str) -> Option<&'static Grammar> {
    let stem = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let known = GRAMMARS.iter().find(|grammar| grammar.names.contains(&program) || grammar.names.contains(&stem));
    known.or_else(|| starters::grammar(program))
}

/// Returns the grammar of shells.
pub(super) fn shell() -> &'static Grammar {
    &GRAMMARS[0]
}
