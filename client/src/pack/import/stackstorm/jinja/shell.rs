//! A shell command with Jinja in it becomes a shell command with quoted variables in it.
//!
//! The text of the command is the author's; a value of a caller is only ever the value of a variable. Each place of a value
//! is understood by a scanner of shell syntax, and one that a shell or another program would read as code is refused:
//! operands of interpreters, arithmetic, here-documents, the name of a program.
//!
//! ```text
//!  pieces ──scan: context of each value──▶ text with "${BOLT_PARAM_X}"
//!    └─ conditions, filters, lists of words ──▶ a preamble that computes variables and arrays
//! ```

use super::names::{Kind, Names};
use super::readers::{in_expansion, reader};
use super::scan::{Context, PREFIXES, Scan, is_assignment};
use super::words::Words;
use super::{Base, Outcome, Piece, Refused, ValueOf};
use crate::pack::import::shell::programs::is_executed;

/// Programs that read an operand as code or as a command. No value may be an operand of them.
const INTERPRETERS: &[&str] = &[
    "eval",
    "exec",
    "source",
    ".",
    "trap",
    "alias",
    "let",
    "declare",
    "typeset",
    "local",
    "unset",
    "read",
    "mapfile",
    "readarray",
    "getopts",
    "export",
    "readonly",
    "compgen",
    "complete",
    "enable",
    "bind",
    "hash",
    "bash",
    "sh",
    "dash",
    "zsh",
    "ksh",
    "su",
    "ssh",
    "xargs",
    "perl",
    "python",
    "python2",
    "python3",
    "ruby",
    "node",
    "php",
    "lua",
    "watch",
    "parallel",
    "crontab",
    "at",
    "batch",
    "expect",
    "tclsh",
    "mysql",
    "psql",
    "mongo",
    "sqlite3",
    "cqlsh",
    "chroot",
    "nsenter",
    "systemd-run",
    "run-parts",
    "script",
    "gdb",
    "vim",
    "ed",
    "ex",
    "bc",
    "dc",
    "jq",
    "m4",
    "make",
];
/// Programs whose first operand is code; values may be further operands.
const FIRST_IS_CODE: &[&str] = &["sed", "awk", "gawk", "mawk"];
/// Programs that an option can make run another program, so that callers must not choose options.
const RUN_BY_OPTION: &[&str] = &[
    "find",
    "tar",
    "rsync",
    "scp",
    "sftp",
    "git",
    "curl",
    "wget",
    "nmap",
    "zip",
    "rpm",
    "man",
    "sort",
    "split",
    "tcpdump",
    "ip",
    "java",
    "docker",
    "podman",
    "kubectl",
    "apt",
    "apt-get",
    "yum",
    "dnf",
    "openssl",
    "logrotate",
];
/// Result of [`rewrite`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::pack::import::stackstorm) struct Rewritten {
    /// Text of a bash script.
    pub(in crate::pack::import::stackstorm) script: String,
    /// Parameters that choose a program, or options of a program that can run others: only their default is used.
    pub(in crate::pack::import::stackstorm) fixed: Vec<String>,
    /// Parameters whose value is split into words: callers choose options.
    pub(in crate::pack::import::stackstorm) split: Vec<String>,
    /// Lists of which each item is one word.
    pub(in crate::pack::import::stackstorm) items: Vec<String>,
    /// Computed parameters that the script replaces, so that callers no longer give them.
    pub(in crate::pack::import::stackstorm) replaced: Vec<String>,
}

/// Rewrites a command.
pub(in crate::pack::import::stackstorm) fn rewrite(pieces: &[Piece], names: &Names) -> Outcome<Rewritten> {
    let mut writer =
        Writer { names, words: Words::new(names), out: String::new(), done: Rewritten::default(), assigned: false };
    let mut text_of_author = String::new();
    let mut scan = Scan::default();
    let here_document =
        pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if text.replace("<<<", "").contains("<<")));
    if here_document && pieces.iter().any(|piece| !matches!(piece, Piece::Text(_))) {
        return Err(Refused::new("a here-document beside values"));
    }
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(text) => {
                scan.text(text);
                writer.out.push_str(text);
                text_of_author.push_str(text);
            }
            piece => {
                if in_expansion(&text_of_author) {
                    return Err(Refused::new("a value inside ${…}, which the shell may compute"));
                }
                // The backslash or `$` would take the quote that belongs to the value.
                if scan.escaped || scan.dollar || scan.ansi {
                    let before = if scan.ansi {
                        "$'"
                    } else if scan.dollar {
                        "$"
                    } else {
                        "\\"
                    };
                    return Err(Refused::new(format!("a value after {before}, which changes how the shell reads it")));
                }
                text_of_author.push('\u{1}');
                let whole = scan.at_word_start() && ends_word(pieces.get(index + 1));
                writer.place(piece, &mut scan, whole)?;
            }
        }
    }
    scan.text("\n");
    let is_safe = pieces.iter().all(|piece| match piece {
        Piece::Text(_) => true,
        Piece::Value(value) => writer.words.is_number(value),
        Piece::If(_) => false,
    });
    if let Some(reader) = reader(&text_of_author, &scan, writer.assigned).filter(|_| !is_safe) {
        return Err(Refused::new(format!("a value in a command with {reader}, which may run it")));
    }
    let mut done = writer.done;
    let preamble = writer.words.preamble();
    done.script = format!("{preamble}{}\n", writer.out.trim_end());
    Ok(done)
}

/// Returns lines that compute what a template needs, and one word of bash that is its text.
pub(in crate::pack::import::stackstorm) fn text(pieces: &[Piece], names: &Names) -> Outcome<(String, String)> {
    let mut words = Words::new(names);
    let word = words.text(pieces)?;
    Ok((words.preamble(), word))
}

fn ends_word(next: Option<&Piece>) -> bool {
    match next {
        None => true,
        Some(Piece::Text(text)) => text.starts_with([' ', '\t', '\n', ';', '|', '&', ')']),
        Some(_) => false,
    }
}

/// Writes the command.
struct Writer<'a> {
    names: &'a Names,
    words: Words<'a>,
    out: String,
    done: Rewritten,
    /// A value became that of a variable of the command.
    assigned: bool,
}

impl Writer<'_> {
    /// Writes the value or condition at this place.
    fn place(&mut self, piece: &Piece, scan: &mut Scan, whole: bool) -> Outcome<()> {
        let program = scan.command.program.clone();
        let context = scan.context();
        self.refuse_code(piece, scan, program.as_deref(), whole)?;
        let starts_word = context == Context::Plain && !scan.command.in_word;
        let text = match (piece, context) {
            (_, Context::Backtick) => return Err(Refused::new("a value inside backquotes")),
            (Piece::If(branches), Context::Plain) if whole => self.words.condition(branches)?,
            (Piece::If(_), _) => return Err(Refused::new("a condition inside a word")),
            (Piece::Value(value), Context::Plain) if value.makes_words().is_some() => {
                self.items(value, whole && program.is_some() && !scan.command.redirected)?
            }
            (Piece::Value(value), Context::Plain) if whole && program.is_some() => {
                self.whole_word(value, program.as_deref())?
            }
            (Piece::Value(value), Context::Plain) => {
                if starts_word && program.is_some() && !scan.command.redirected {
                    self.words.no_option(value)?;
                }
                format!("\"{}\"", self.words.expansion(value)?)
            }
            (Piece::Value(value), Context::DoubleQuoted | Context::Arithmetic) => self.words.expansion(value)?,
            (Piece::Value(value), Context::SingleQuoted) => format!("'\"{}\"'", self.words.expansion(value)?),
            (Piece::Text(_), _) => return Ok(()),
        };
        self.out.push_str(&text);
        scan.command.in_word = true;
        scan.command.word.push('\u{1}');
        Ok(())
    }

    fn refuse_code(&mut self, piece: &Piece, scan: &Scan, program: Option<&str>, whole: bool) -> Outcome<()> {
        let of_number = matches!(piece, Piece::Value(value) if self.words.is_number(value));
        if scan.context() == Context::Arithmetic && !of_number {
            return Err(Refused::new("a value that is no number in arithmetic"));
        }
        // In quotes inside a substitution the outer commands read the result, not the value.
        let Some(program) = program else {
            return match piece {
                Piece::Value(value) if whole && !scan.command.redirected => self.fixed_program(value),
                _ if scan.command.redirected || scan.context() == Context::Arithmetic => Ok(()),
                _ if executed(&scan.command.word).is_some() => {
                    let name = executed(&scan.command.word).unwrap_or_default();
                    Err(Refused::new(format!("a value of the variable {name}, which names programs or is run")))
                }
                _ if is_assignment(&format!("{}x", scan.command.word)) => {
                    self.assigned = true;
                    Ok(())
                }
                _ => Err(Refused::new("a value as a part of a program's name")),
            };
        };
        if of_number || scan.command.redirected {
            return Ok(());
        }
        if PREFIXES.contains(&program) || INTERPRETERS.contains(&program) {
            return Err(Refused::new(format!("a value as an operand of {program}, which may run it")));
        }
        self.assigned |= program == "for";
        if scan.command.names_variable && matches!(program, "printf" | "test" | "[") {
            return Err(Refused::new("a value as the name of a variable"));
        }
        if program == "[[" {
            return Err(Refused::new("a value that is no number in [["));
        }
        if FIRST_IS_CODE.contains(&program) && (scan.command.operands <= scan.command.taken || !whole) {
            return Err(Refused::new(format!("a value in the code of {program}")));
        }
        Ok(())
    }

    /// A parameter that names the program: only its default is used.
    fn fixed_program(&mut self, value: &ValueOf) -> Outcome<()> {
        let Base::Name(name) = &value.base else { return Err(Refused::new("a program from the configuration")) };
        if !value.filters.is_empty() || self.names.computed.contains_key(name) {
            return Err(Refused::new(format!("{name}, which names the program")));
        }
        self.done.fixed.push(name.clone());
        Ok(())
    }

    /// Writes the items of a list, each as one word; `whole` is true at a place of words of their own.
    fn items(&mut self, value: &ValueOf, whole: bool) -> Outcome<String> {
        if let (true, Some(name)) = (whole, self.words.joined_list(value)) {
            self.done.items.push(name);
            return self.words.items(value);
        }
        let name = value.makes_words().map(|filter| filter.name.clone()).unwrap_or_default();
        Err(Refused::new(format!("the filter {name} with blanks, which makes several words outside quotes")))
    }

    /// Writes a value that is a word of its own: absent if it is empty, and several words if its name says so.
    fn whole_word(&mut self, value: &ValueOf, program: Option<&str>) -> Outcome<String> {
        let Base::Name(name) = &value.base else { return Ok(format!("\"{}\"", self.words.expansion(value)?)) };
        if let Some(pieces) =
            self.names.computed.get(name).filter(|_| value.filters.is_empty() && is_list_of_words(name))
        {
            self.done.replaced.push(name.clone());
            return self.words.list(pieces);
        }
        let kind = self.words.kind(name)?;
        let list = kind == Kind::List || program == Some("for");
        if value.filters.is_empty() && (list || kind != Kind::Number && is_list_of_words(name)) {
            let options = !list;
            if options && program.is_some_and(|program| RUN_BY_OPTION.contains(&program)) {
                self.done.fixed.push(name.clone());
            } else if options {
                self.done.split.push(name.clone());
            }
            return self.words.split(name, kind == Kind::List, !options);
        }
        self.words.no_option(value)?;
        let expansion = self.words.expansion(value)?;
        match self.words.is_given(value) {
            true => Ok(format!("\"{expansion}\"")),
            false => Ok(format!("{}\"{expansion}\"}}", expansion.replace('}', ":+"))),
        }
    }
}

/// Returns the variable to which this beginning of a word assigns, if its value is run or names what is.
fn executed(word: &str) -> Option<&str> {
    let name = word.split_once('=')?.0.trim_end_matches('+');
    is_executed(name).then_some(name)
}

/// True for names of parameters that hold several words, such as options.
fn is_list_of_words(name: &str) -> bool {
    const NAMES: [&str; 7] = ["args", "arguments", "options", "opts", "flags", "params", "command"];
    NAMES.iter().any(|known| name == *known || name.ends_with(&format!("_{known}")))
}
