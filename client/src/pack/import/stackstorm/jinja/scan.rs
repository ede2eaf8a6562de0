//! Scanner of shell syntax: tells in which context a value of a template lies, and where the words of a command are.
//!
//! It knows quotes, substitutions, arithmetic, comments, redirections and simple commands. Which program reads a value as
//! code is no concern of it: see `judge`, which also refuses a command of which the two scanners have another idea.

/// Programs that start the program after them.
pub(super) const PREFIXES: &[&str] =
    &["sudo", "nohup", "time", "command", "nice", "ionice", "env", "setsid", "builtin"];
/// Words after which a command begins.
const KEYWORDS: &[&str] = &["if", "then", "else", "elif", "do", "while", "until", "!", "{"];

/// Context of a place in a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    Plain,
    DoubleQuoted,
    SingleQuoted,
    Arithmetic,
    Backtick,
}

/// Scanner of shell syntax.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Outer contexts; each substitution has a command of its own.
    stack: Vec<(Context, Command)>,
    context: Option<Context>,
    pub(super) command: Command,
    /// The text ends with a backslash that escapes what follows it.
    pub(super) escaped: bool,
    /// The text ends with a `$` that belongs to what follows it.
    pub(super) dollar: bool,
    /// The single quotes are those of `$'…'`, in which a backslash escapes.
    pub(super) ansi: bool,
    /// Inside a comment.
    pub(super) comment: bool,
}

/// Simple command being read.
#[derive(Debug, Default, Clone)]
pub(super) struct Command {
    /// Its program, once read.
    pub(super) program: Option<String>,
    /// The word being read.
    pub(super) word: String,
    pub(super) in_word: bool,
    pub(super) redirected: bool,
}

impl Scan {
    pub(super) fn context(&self) -> Context {
        self.context.unwrap_or(Context::Plain)
    }

    pub(super) fn at_word_start(&self) -> bool {
        self.context() == Context::Plain && !self.command.in_word
    }

    fn enter(&mut self, context: Context) {
        let fresh = !matches!(context, Context::DoubleQuoted | Context::SingleQuoted);
        let outer = if fresh { std::mem::take(&mut self.command) } else { self.command.clone() };
        self.stack.push((self.context(), outer));
        self.context = Some(context);
    }

    fn leave(&mut self) {
        if let Some((context, command)) = self.stack.pop() {
            let quoted = matches!(self.context(), Context::DoubleQuoted | Context::SingleQuoted);
            if !quoted {
                self.command = command;
            }
            self.command.in_word = true;
            self.context = Some(context);
        }
    }

    fn end_word(&mut self) {
        if !std::mem::take(&mut self.command.in_word) {
            return;
        }
        let word = std::mem::take(&mut self.command.word);
        if std::mem::take(&mut self.command.redirected) {
            return;
        }
        match &self.command.program {
            None if KEYWORDS.contains(&word.as_str()) => {}
            None if is_assignment(&word) => {}
            None => self.command.program = Some(word.rsplit('/').next().unwrap_or_default().to_owned()),
            Some(program) if PREFIXES.contains(&program.as_str()) => {
                if !word.starts_with('-') && !is_assignment(&word) {
                    self.command.program = Some(word.rsplit('/').next().unwrap_or_default().to_owned());
                }
            }
            Some(program) if program == "for" && word == "do" => self.command = Command::default(),
            Some(_) => {}
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            self.dollar = false;
            if self.comment {
                self.comment = c != '\n';
                continue;
            }
            if std::mem::take(&mut self.escaped) {
                self.push(c);
                continue;
            }
            let next = chars.peek().copied();
            self.dollar = c == '$' && next.is_none() && self.context() != Context::SingleQuoted;
            match (self.context(), c) {
                (Context::SingleQuoted, '\\') if self.ansi => self.escaped = true,
                (Context::SingleQuoted, '\'') => {
                    self.ansi = false;
                    self.leave();
                }
                (Context::SingleQuoted, c) => self.push(c),
                (_, '\\') => {
                    self.escaped = true;
                    self.command.in_word = true;
                }
                (Context::DoubleQuoted, '"') => self.leave(),
                (Context::Backtick, '`') => self.leave_substitution(),
                (_, '`') => self.enter(Context::Backtick),
                (Context::Plain, '$') if next == Some('\'') => {
                    chars.next();
                    self.command.in_word = true;
                    self.enter(Context::SingleQuoted);
                    self.ansi = true;
                }
                (_, '$') if next == Some('(') => {
                    chars.next();
                    self.command.in_word = true;
                    if chars.peek() == Some(&'(') {
                        chars.next();
                        self.enter(Context::Arithmetic);
                    } else {
                        self.enter(Context::Plain);
                    }
                }
                (_, '$') if next == Some('[') => {
                    chars.next();
                    self.command.in_word = true;
                    self.enter(Context::Arithmetic);
                }
                (Context::Arithmetic, ')') if next == Some(')') => {
                    chars.next();
                    self.leave();
                }
                (Context::Arithmetic, ']') => self.leave(),
                (Context::Arithmetic | Context::DoubleQuoted, c) => self.push(c),
                (_, '"') => {
                    self.command.in_word = true;
                    self.enter(Context::DoubleQuoted);
                }
                (_, '\'') => {
                    self.command.in_word = true;
                    self.enter(Context::SingleQuoted);
                }
                (Context::Plain, ')') if !self.stack.is_empty() => self.leave_substitution(),
                (_, ' ' | '\t') => self.end_word(),
                (_, '#') if !self.command.in_word => self.comment = true,
                (_, '&') if matches!(self.command.word.chars().last(), Some('>' | '<')) => self.push(c),
                (_, ';' | '|' | '&' | '\n' | '(' | ')' | '}') => {
                    self.end_word();
                    self.command = Command::default();
                }
                (_, '>' | '<') => {
                    // A number before it is a descriptor.
                    self.end_word();
                    self.command.redirected = true;
                    self.command.in_word = next == Some('&') || next == Some('>');
                    if self.command.in_word {
                        chars.next();
                    }
                    self.command.in_word = false;
                }
                (_, c) => self.push(c),
            }
        }
    }

    fn leave_substitution(&mut self) {
        self.end_word();
        self.leave();
    }

    fn push(&mut self, c: char) {
        self.command.word.push(c);
        self.command.in_word = true;
    }
}

pub(super) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| super::is_name(name))
}
