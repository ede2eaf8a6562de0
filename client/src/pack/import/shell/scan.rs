//! Scanner of shell scripts: writes the expansions for values, and notes where values and variables are read.
//!
//! The scanner knows quotes, substitutions, arithmetic, comments, redirections, here-documents, arrays, `case` and simple
//! commands. Where it errs about a command, a value is a quoted expansion all the same.

use std::collections::BTreeSet;

use super::contents::{Contents, Kind};
use super::flow::{CommandFacts, Facts, Source};
use super::limit::Limit;
use super::simple::{EXPANDED, Simple};
use super::{Part, Refused, ScriptValue, programs};

mod arithmetic;
mod commands;
mod expansion;
mod files;
mod here;
mod lists;
mod literal;
mod parameter;
mod places;
mod python;
mod reading;
mod starting;
mod words;

use here::HereDocument;

type Outcome<T> = Result<T, Refused>;

/// Character of a script, or the place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    Value(usize),
}

/// Context of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Commands, up to this character.
    Commands(Option<char>),
    Double,
    Single,
    /// `$'…'`
    Ansi,
    /// `${…}`, by its number.
    Parameter(usize),
    /// `((…))`, `$[…]`, an index or an offset: open parentheses, and the closing character.
    Arithmetic(usize, char),
    /// Key of an associative array.
    Key,
    Array,
    Comment,
    /// Here-document of a command, up to a token; `true` if it begins like a script.
    Here(usize, usize, bool),
}

/// Deepest nesting of contexts.
const MAX_DEPTH: usize = 100;
/// Most places at which values and variables are read.
const MAX_USES: usize = 5_000;
/// Longest name of a function.
const MAX_NAME: usize = 200;
/// Longest word, in bytes.
const MAX_WORD: usize = 64 << 10;
/// Most lists of commands whose output is piped.
const MAX_LISTS: usize = 500;
/// Most files that are written, and most that are run.
const MAX_FILES: usize = 500;
/// Most here-documents of one line.
const MAX_HERE: usize = 100;

/// Result of [`scan`].
pub(super) struct Scanned {
    pub(super) out: String,
    pub(super) facts: Facts,
    pub(super) operands: Vec<usize>,
    pub(super) split: Vec<usize>,
    pub(super) by_options: Vec<usize>,
    pub(super) contents: Contents,
}

/// Scans a script: once for what variables hold, and again for where they are read.
pub(super) fn scan(parts: &[Part], values: &[ScriptValue]) -> Outcome<Scanned> {
    let tokens: Vec<Token> = parts
        .iter()
        .flat_map(|part| match part {
            Part::Text(text) => text.chars().map(Token::Char).collect(),
            Part::Value(index) => vec![Token::Value(*index)],
        })
        .collect();
    let contents = scan_once(&tokens, values, Contents::default())?.contents;
    scan_once(&tokens, values, contents.again())
}

fn scan_once(tokens: &[Token], values: &[ScriptValue], contents: Contents) -> Outcome<Scanned> {
    let mut scanner = Scanner {
        tokens,
        values,
        at: 0,
        modes: vec![Mode::Commands(None)],
        frames: vec![Frame::default()],
        here: Vec::new(),
        pipeline: 0,
        tests: Vec::new(),
        operators: Vec::new(),
        parameters: Vec::new(),
        ifs: words::ifs(tokens),
        associative: BTreeSet::new(),
        lists: BTreeSet::new(),
        integers: BTreeSet::new(),
        expansion_at: 0,
        is_later_element: false,
        python: python::PythonValues::default(),
        forwards: false,
        is_unclear: false,
        ending: BTreeSet::new(),
        is_overfull: false,
        done: Scanned {
            out: String::new(),
            facts: Facts::default(),
            operands: Vec::new(),
            split: Vec::new(),
            by_options: Vec::new(),
            contents,
        },
    };
    scanner.frames[0].command.id = scanner.new_command();
    scanner.done.facts.functions = functions(tokens);
    let hands_on = |after: &[Token]| {
        matches!(after, [Token::Char('$'), Token::Char('@' | '*'), ..])
            || matches!(after, [Token::Char('$'), Token::Char('{'), Token::Char('@' | '*'), ..])
    };
    scanner.forwards = (0..tokens.len()).any(|at| hands_on(&tokens[at..]));
    while scanner.at < tokens.len() {
        scanner.leave_here_document();
        if scanner.modes.len() > MAX_DEPTH {
            return Err(Refused::new("it nests deeply"));
        }
        scanner.check_size()?;
        let Some(token) = tokens.get(scanner.at).copied() else { break };
        scanner.at += 1;
        match token {
            Token::Char(c) => scanner.char(c)?,
            Token::Value(index) => scanner.value(index)?,
        }
    }
    while !scanner.frames.is_empty() {
        scanner.end_command(true);
        scanner.frames.pop();
    }
    for name in programs::EVALUATED {
        scanner.code(name, Limit::Number, "arithmetic of the shell");
    }
    if scanner.is_overfull {
        return Err(Refused::new("a command with many variables that may be words or none; write quotes around them"));
    }
    if scanner.is_unclear {
        return Err(Refused::new("`((` that does not end with `))`; write a blank between the parentheses"));
    }
    Ok(scanner.done)
}

/// Returns the names of functions, which may be called before they are read: before `()`, and behind `function`.
fn functions(tokens: &[Token]) -> BTreeSet<String> {
    const KEYWORD: &str = "function";
    // A value is no part of a name.
    let text: Vec<char> = tokens.iter().map(|token| if let Token::Char(c) = token { *c } else { ';' }).collect();
    let is_name = |c: &char| c.is_ascii_alphanumeric() || "_-.:".contains(*c);
    let is_blank = |c: &char| matches!(c, ' ' | '\t');
    let mut functions = BTreeSet::new();
    for (at, c) in text.iter().enumerate() {
        if *c == '(' && text[at + 1..].iter().find(|c| !is_blank(c)) == Some(&')') {
            let before = text[..at].iter().rev().skip_while(|c| is_blank(c));
            let name: Vec<char> = before.take(MAX_NAME).take_while(|c| is_name(c)).copied().collect();
            functions.insert(name.into_iter().rev().collect());
        }
        let begins = at == 0 || !is_name(&text[at - 1]);
        if begins && text[at..].iter().take(KEYWORD.len()).copied().eq(KEYWORD.chars()) {
            let after = text[at + KEYWORD.len()..].iter().skip_while(|c| is_blank(c));
            functions.insert(after.take(MAX_NAME).take_while(|c| is_name(c)).collect());
        }
    }
    functions.remove("");
    functions
}

/// Part of a list of commands that a word or `)` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Subshell,
    Case,
}

/// List of commands being read: of the script, or of a substitution.
#[derive(Debug, Default)]
struct Frame {
    command: Simple,
    /// Open subshells and `case`.
    groups: Vec<Group>,
    /// Open braces around commands.
    braces: usize,
    /// A pattern of `case` begins, or is read.
    is_pattern: bool,
    /// First commands of the lists that are open, and the functions whose bodies they are.
    lists: Vec<(usize, Option<String>)>,
    /// Arrays whose keys are text before each of these lists.
    associative: Vec<BTreeSet<String>>,
    /// The command at hand depends on one before: `&&`.
    conditional: bool,
    /// Function whose body comes next.
    function: Option<String>,
    /// Where its substitution begins in the output.
    at: usize,
}

struct Scanner<'a> {
    tokens: &'a [Token],
    values: &'a [ScriptValue],
    at: usize,
    modes: Vec<Mode>,
    frames: Vec<Frame>,
    here: Vec<HereDocument>,
    pipeline: usize,
    /// Sources in words of the `[[ ]]` at hand, by the number of the word; `true` for one that chooses what is fetched there.
    tests: Vec<(usize, Source, bool)>,
    /// Words of it that are arithmetic operators.
    operators: Vec<usize>,
    parameters: Vec<parameter::Parameter>,
    /// Limit by which a value without quotes stays one word; none if there is no such limit.
    ifs: Option<Limit>,
    /// Functions that end the script.
    ending: BTreeSet<String>,
    /// A command has too many states.
    is_overfull: bool,
    /// Arrays whose keys are text.
    associative: BTreeSet<String>,
    /// Variables that are lists.
    lists: BTreeSet<String>,
    /// Variables whose values are arithmetic.
    integers: BTreeSet<String>,
    /// Where the expansion at hand begins in the output.
    expansion_at: usize,
    /// A function may run its arguments.
    forwards: bool,
    /// Arithmetic ended like a subshell.
    is_unclear: bool,
    /// Values of the here-document at hand.
    python: python::PythonValues,
    /// The array at hand has an element already.
    is_later_element: bool,
    done: Scanned,
}

impl Scanner<'_> {
    fn check_size(&self) -> Outcome<()> {
        let facts = &self.done.facts;
        if facts.uses.len() + self.tests.len() > MAX_USES {
            return Err(Refused::new(format!("it reads variables and values at more than {MAX_USES} places")));
        }
        let word = self.frames.last().map_or(0, |frame| frame.command.word.len());
        if facts.commands.len() > MAX_USES
            || facts.outputs.len() > MAX_LISTS
            || word > MAX_WORD
            || self.here.len() > MAX_HERE
            || facts.writes.len().max(facts.runs.len()) > MAX_FILES
        {
            return Err(Refused::new("it has too many commands, here-documents or files, or too long a word"));
        }
        Ok(())
    }

    fn mode(&self) -> Mode {
        self.modes.last().copied().unwrap_or(Mode::Commands(None))
    }

    fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            self.frames.push(Frame::default());
        }
        self.frames.last_mut().expect("one was pushed")
    }

    fn command(&mut self) -> &mut Simple {
        &mut self.frame().command
    }

    fn new_command(&mut self) -> usize {
        // A command that is never read belongs to no pipeline.
        self.done.facts.commands.push(CommandFacts { pipeline: usize::MAX, ..CommandFacts::default() });
        self.done.facts.commands.len() - 1
    }

    fn peek(&self) -> Option<char> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        match self.tokens.get(self.at + ahead) {
            Some(Token::Char(c)) => Some(*c),
            _ => None,
        }
    }

    /// Takes the next character as it is.
    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        self.done.out.push(c);
        Some(c)
    }

    fn char(&mut self, c: char) -> Outcome<()> {
        self.done.out.push(c);
        match (self.mode(), c) {
            (Mode::Single, '\'') => {
                self.modes.pop();
                let code = self.command().code_of_shell().map(str::to_owned);
                self.done.facts.quoted.extend(code);
                Ok(())
            }
            (Mode::Comment, '\n') => {
                self.modes.pop();
                self.newline()
            }
            (Mode::Comment, '`') if self.is_in_backquotes() => {
                self.modes.pop();
                self.backquote();
                Ok(())
            }
            (Mode::Comment, _) => Ok(()),
            (Mode::Ansi, '\'') | (Mode::Double, '"') | (Mode::Parameter(_), '}') | (Mode::Key, ']') => {
                self.modes.pop();
                Ok(())
            }
            (Mode::Single, c) => {
                self.command().word.push(c);
                Ok(())
            }
            (_, '\\') => self.escaped(),
            (Mode::Ansi, _) => Ok(()),
            (_, '$') => self.dollar(),
            (_, '`') => {
                self.backquote();
                Ok(())
            }
            (Mode::Double, c) => {
                self.command().word.push(c);
                Ok(())
            }
            (Mode::Here(..), _) => Ok(()),
            (Mode::Parameter(_) | Mode::Key, '"') => {
                self.modes.push(Mode::Double);
                Ok(())
            }
            (Mode::Parameter(number), '\'') if self.quotes_in_parameter(number) => {
                self.modes.push(Mode::Single);
                Ok(())
            }
            (Mode::Parameter(number), c) => {
                self.operator(number, c);
                Ok(())
            }
            (Mode::Key, _) => Ok(()),
            (Mode::Arithmetic(open, close), c) => {
                self.arithmetic(open, close, c);
                Ok(())
            }
            (Mode::Array, c) => {
                self.array(c);
                Ok(())
            }
            (Mode::Commands(close), c) => self.in_commands(close, c),
        }
    }

    /// Begins a substitution that ends with `close`.
    fn enter(&mut self, close: char) {
        self.modes.push(Mode::Commands(Some(close)));
        let (id, at) = (self.new_command(), self.done.out.len());
        self.frames.push(Frame { command: Simple::new(id), at, ..Frame::default() });
        self.done.contents.open(Kind::Other);
    }

    /// Ends a substitution.
    fn leave(&mut self) {
        self.end_command(true);
        self.modes.pop();
        if self.frames.len() > 1 {
            let open = self.frames.pop().map_or(0, |frame| frame.lists.len());
            (0..=open).for_each(|_| self.done.contents.close());
        }
    }
}
