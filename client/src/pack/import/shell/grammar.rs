//! How a program reads its arguments: which of them are code, files of code or data.
//!
//! A value is data only at a place that is known to be one. Options that are not known, and words that the script makes
//! of other values, leave the rest of the arguments unknown: a value there is limited as code is.

use std::collections::VecDeque;

use super::limit::Limit;

/// How a program reads an argument, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Data,
    /// Code in its own language.
    Code,
    /// Name of a program, or of a file of code.
    Program,
    /// Perhaps code: limited as code is.
    Unknown,
}

/// Input that a program reads as code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Never,
    /// Where no argument has code or names a file of code.
    Without,
    Always,
}

/// Arguments of a program that runs code.
#[derive(Debug)]
pub(super) struct Grammar {
    pub(super) names: &'static [&'static str],
    /// Characters that a value in its code must be limited to.
    pub(super) limit: Limit,
    /// Its code is that of a shell, which begins with the name of a program.
    pub(super) shell: bool,
    /// Letters of options without an operand.
    pub(super) flags: &'static str,
    /// Letters of options with an operand, by its role.
    pub(super) data: &'static str,
    pub(super) code: &'static str,
    pub(super) file: &'static str,
    pub(super) unknown: &'static str,
    /// Letters of options whose operand, data, is in the same word if there is one.
    pub(super) attached: &'static str,
    /// Long options without an operand.
    pub(super) long_flags: &'static [&'static str],
    /// Long options with operands, which may follow `=`.
    pub(super) long: &'static [(&'static str, &'static [Role])],
    /// Role of the first operand, where no option had code.
    pub(super) first: Role,
    /// Role of operands after the first one.
    pub(super) rest: Role,
    /// Role of operands where an option had code.
    pub(super) after_code: Role,
    /// Options may follow operands.
    pub(super) permutes: bool,
    pub(super) input: Input,
}

/// Fields that most grammars leave as they are.
pub(super) const COMMON: Grammar = Grammar {
    names: &[],
    limit: Limit::Word,
    shell: false,
    flags: "",
    data: "",
    code: "",
    file: "",
    unknown: "",
    attached: "",
    long_flags: &[],
    long: &[],
    first: Role::Unknown,
    rest: Role::Unknown,
    after_code: Role::Unknown,
    permutes: false,
    input: Input::Always,
};

/// Arguments of one program, read word by word.
#[derive(Debug, Clone)]
pub(super) struct Arguments {
    pub(super) grammar: &'static Grammar,
    /// Roles of the next words, which belong to options.
    pending: VecDeque<Role>,
    /// Operands so far.
    operands: usize,
    /// An option had code, or is code's announcement in a shell.
    code: bool,
    /// A shell's option `c`: its first operand is code.
    announced: bool,
    /// A shell's option `s`, or an operand for standard input.
    stdin: bool,
    ended: bool,
    lost: bool,
}

/// Options of a word that begins with `-` or `+`.
struct Options {
    /// Role of text that follows in the same word; `None` if further letters do.
    attached: Option<Role>,
    /// Roles of the next words.
    next: Vec<Role>,
    code: bool,
    announced: bool,
    stdin: bool,
    lost: bool,
    ended: bool,
}

impl Arguments {
    pub(super) fn new(grammar: &'static Grammar) -> Arguments {
        Arguments {
            grammar,
            pending: VecDeque::new(),
            operands: 0,
            code: false,
            announced: false,
            stdin: false,
            ended: false,
            lost: false,
        }
    }

    /// Returns the role of a value that follows `word`, which is what was read of its word so far.
    pub(super) fn role(&self, word: &str) -> Role {
        if let Some(role) = self.pending.front() {
            return *role;
        }
        if self.lost {
            return Role::Unknown;
        }
        if self.is_option(word) {
            return self.options(word).attached.unwrap_or(Role::Unknown);
        }
        self.operand()
    }

    /// Reads a whole word.
    pub(super) fn word(&mut self, word: &str) {
        if let Some(role) = self.pending.pop_front() {
            self.stdin |= role == Role::Program && STDIN.contains(&word);
            return;
        }
        if !self.is_option(word) {
            self.stdin |= self.operands == 0 && STDIN.contains(&word);
            if word != "-" || !self.grammar.flags.contains('-') {
                self.operands += 1;
            }
            self.ended |= !self.grammar.permutes;
            return;
        }
        let options = self.options(word);
        self.code |= options.code;
        self.announced |= options.announced;
        self.stdin |= options.stdin;
        self.lost |= options.lost;
        self.ended |= options.ended;
        self.pending.extend(options.next);
    }

    /// True if it reads words after these as `other` does.
    pub(super) fn reads_like(&self, other: &Arguments) -> bool {
        let of =
            |read: &Arguments| (read.operands.min(3), read.code, read.announced, read.stdin, read.ended, read.lost);
        std::ptr::eq(self.grammar, other.grammar) && self.pending == other.pending && of(self) == of(other)
    }

    /// True for the arguments of an interpreter, and not of a program that starts another one.
    pub(super) fn is_interpreter(&self) -> bool {
        !self.grammar.names.is_empty()
    }

    /// Number of operands so far.
    pub(super) fn operands(&self) -> usize {
        self.operands
    }

    /// True for a shell whose code is one of the arguments.
    pub(super) fn has_code(&self) -> bool {
        self.announced
    }

    /// True if the program reads its standard input as code.
    pub(super) fn reads_input(&self) -> bool {
        match self.grammar.input {
            Input::Never => self.stdin,
            Input::Always => true,
            Input::Without => self.stdin || self.lost || (self.operands == 0 && !self.code),
        }
    }

    fn is_shell(&self) -> bool {
        self.grammar.shell && self.grammar.input == Input::Without
    }

    fn is_option(&self, word: &str) -> bool {
        !self.ended && word.len() > 1 && (word.starts_with('-') || (self.is_shell() && word.starts_with('+')))
    }

    fn operand(&self) -> Role {
        match self.operands {
            0 if self.announced => Role::Code,
            // Nothing is known of what code that it reads does with them.
            _ if self.stdin && !self.announced && self.is_shell() => Role::Unknown,
            _ if self.announced || self.stdin => Role::Data,
            _ if self.code => self.grammar.after_code,
            0 => self.grammar.first,
            _ => self.grammar.rest,
        }
    }

    fn options(&self, word: &str) -> Options {
        let grammar = self.grammar;
        let mut read = Options {
            attached: None,
            next: Vec::new(),
            code: false,
            announced: false,
            stdin: false,
            lost: false,
            ended: word == "--",
        };
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            match grammar.long.iter().find(|(known, _)| *known == name) {
                Some((_, roles)) => {
                    read.code = roles.iter().any(|role| matches!(role, Role::Code | Role::Program));
                    match value {
                        Some(_) => read.attached = roles.first().copied(),
                        None => read.next = roles.to_vec(),
                    }
                }
                None => read.lost = !(read.ended || grammar.long_flags.contains(&name)),
            }
            return read;
        }
        for (at, letter) in word.char_indices().skip(1) {
            let is_last = at + letter.len_utf8() == word.len();
            let role = match letter {
                'c' if self.is_shell() => {
                    (read.code, read.announced) = (true, true);
                    continue;
                }
                's' if self.is_shell() => {
                    read.stdin = true;
                    continue;
                }
                // Options of a shell have operands in the next words, one for each letter.
                letter if self.is_shell() && grammar.data.contains(letter) => {
                    read.next.push(Role::Data);
                    continue;
                }
                letter if grammar.flags.contains(letter) => continue,
                letter if grammar.attached.contains(letter) => {
                    read.attached = Some(Role::Data);
                    return read;
                }
                letter if grammar.data.contains(letter) => Role::Data,
                letter if grammar.code.contains(letter) => Role::Code,
                letter if grammar.file.contains(letter) => Role::Program,
                letter if grammar.unknown.contains(letter) => Role::Unknown,
                _ => {
                    read.lost = true;
                    read.attached = Some(Role::Unknown);
                    return read;
                }
            };
            read.code |= matches!(role, Role::Code | Role::Program);
            if is_last {
                read.next.push(role);
            }
            read.attached = Some(role);
            return read;
        }
        read
    }
}

/// Operands by which a program reads its code from standard input.
pub(super) const STDIN: &[&str] = &["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];
