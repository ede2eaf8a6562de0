//! A shell command with Jinja in it becomes a shell command with quoted variables in it.
//!
//! The text of the command is the author's; a value of a caller is only ever the value of a variable. Each place of a value
//! is understood by a scanner of shell syntax, and one where no quoted expansion can be put is refused: backquotes,
//! here-documents, `${…}`, after a backslash. Whether what reads the value takes it for code is judged afterwards (`judge`).
//!
//! ```text
//!  pieces ──scan: context of each value──▶ text with "${BOLT_PARAM_X}"
//!    └─ conditions, filters, lists of words ──▶ a preamble that computes variables and arrays
//! ```

use super::judge::{Analysed, Place};
use super::names::{Kind, Names};
use super::scan::{Context, Scan};
use super::words::Words;
use super::{Base, Outcome, Piece, Refused, ValueOf};

/// Result of [`rewrite`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::pack::import::stackstorm) struct Rewritten {
    /// Text of a bash script.
    pub(in crate::pack::import::stackstorm) script: String,
    /// Its text and places, for a judgement.
    pub(in crate::pack::import::stackstorm) analysed: Analysed,
    /// Parameters whose value is split into words: callers choose options.
    pub(in crate::pack::import::stackstorm) split: Vec<String>,
    /// Lists of which each item is one word.
    pub(in crate::pack::import::stackstorm) items: Vec<String>,
    /// Computed parameters that the script replaces, so that callers no longer give them.
    pub(in crate::pack::import::stackstorm) replaced: Vec<String>,
}

/// Rewrites a command.
pub(in crate::pack::import::stackstorm) fn rewrite(pieces: &[Piece], names: &Names) -> Outcome<Rewritten> {
    let mut writer = Writer { names, words: Words::new(names), out: String::new(), done: Rewritten::default() };
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
                writer.done.analysed.text(text);
                text_of_author.push_str(text);
            }
            // The value would end the comment, or be nothing.
            _ if scan.comment => {}
            piece => {
                refuse_place(&text_of_author, &scan)?;
                text_of_author.push('\u{1}');
                let whole = scan.at_word_start() && ends_word(pieces.get(index + 1));
                writer.place(piece, &mut scan, whole)?;
            }
        }
    }
    let mut done = writer.done;
    for place in &mut done.analysed.places {
        place.guarded |= writer.words.is_guarded(&place.variable);
    }
    let preamble = writer.words.preamble();
    done.script = format!("{preamble}{}\n", writer.out.trim_end());
    Ok(done)
}

/// Refuses a place where the text before a value would change how a shell reads the quotes around it.
fn refuse_place(before: &str, scan: &Scan) -> Outcome<()> {
    if in_expansion(before) {
        return Err(Refused::new("a value inside ${…}, which the shell may compute"));
    }
    let taken = if scan.ansi {
        "$'"
    } else if scan.dollar {
        "$"
    } else if scan.escaped {
        "\\"
    } else {
        return Ok(());
    };
    Err(Refused::new(format!("a value after {taken}, which changes how the shell reads it")))
}

/// True if a place after this text is inside `${…}`, where the shell may compute it, or if it may be: where quotes, backslashes
/// or substitutions inside decide which brace ends it.
fn in_expansion(before: &str) -> bool {
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

/// Returns lines that compute what a template needs, and one word of bash that is its text.
pub(in crate::pack::import::stackstorm) fn text(pieces: &[Piece], names: &Names) -> Outcome<(String, String)> {
    let mut words = Words::new(names);
    let word = words.text(pieces)?;
    Ok((words.preamble(), word))
}

fn ends_word(next: Option<&Piece>) -> bool {
    match next {
        None => true,
        Some(Piece::Text(text)) => text.starts_with([' ', '\t', '\n', ';', '|', '&', ')', '<', '>']),
        Some(_) => false,
    }
}

/// Place being written.
struct Written {
    /// Text of the script.
    text: String,
    /// Text that `shell::rewrite` writes here.
    expected: String,
    place: Place,
}

/// Writes the command.
struct Writer<'a> {
    names: &'a Names,
    words: Words<'a>,
    out: String,
    done: Rewritten,
}

impl Writer<'_> {
    /// Writes the value or condition at this place.
    fn place(&mut self, piece: &Piece, scan: &mut Scan, whole: bool) -> Outcome<()> {
        let context = scan.context();
        // A word of its own among the arguments of a program.
        let is_argument = whole && scan.command.program.is_some() && !scan.command.redirected;
        let in_loop = matches!(scan.command.program.as_deref(), Some("for" | "select"));
        let written = match (piece, context) {
            (Piece::Text(_), _) => return Ok(()),
            (_, Context::Backtick) => return Err(Refused::new("a value inside backquotes")),
            (Piece::If(branches), Context::Plain) if is_argument => {
                let array = self.words.condition(branches)?;
                self.array(&array, std::slice::from_ref(piece), false)
            }
            (Piece::If(_), _) => return Err(Refused::new("a condition inside a word")),
            (Piece::Value(value), Context::Plain) if value.makes_words().is_some() => self.items(value, is_argument)?,
            (Piece::Value(value), Context::Plain) if is_argument => self.argument(value, in_loop)?,
            (Piece::Value(value), Context::Plain) => {
                if !scan.command.in_word && scan.command.program.is_some() && !scan.command.redirected {
                    self.words.no_option(value)?;
                }
                self.quoted(value, |expansion| format!("\"{expansion}\""))?
            }
            (Piece::Value(value), Context::DoubleQuoted | Context::Arithmetic) => self.quoted(value, str::to_owned)?,
            (Piece::Value(value), Context::SingleQuoted) => {
                self.quoted(value, |expansion| format!("'\"{expansion}\"'"))?
            }
        };
        self.out.push_str(&written.text);
        self.done.analysed.place(written.place, &written.expected);
        scan.command.in_word = true;
        scan.command.word.push('\u{1}');
        Ok(())
    }

    /// Writes one value as the text that `quote` makes of its expansion.
    fn quoted(&mut self, value: &ValueOf, quote: impl Fn(&str) -> String) -> Outcome<Written> {
        let expansion = self.words.expansion(value)?;
        let text = quote(&expansion);
        let place = self.place_of(&expansion, &[Piece::Value(value.clone())]);
        Ok(Written { expected: text.clone(), text, place })
    }

    /// Returns the place of a variable that is made of these pieces.
    fn place_of(&self, expansion: &str, pieces: &[Piece]) -> Place {
        let plain = match pieces {
            [Piece::Value(ValueOf { base: Base::Name(name), filters })] if filters.is_empty() => Some(name.clone()),
            _ => None,
        };
        Place {
            variable: expansion.trim_start_matches("${").trim_end_matches('}').to_owned(),
            made: self.names.made_of(pieces),
            plain: plain.filter(|name| !self.names.computed.contains_key(name)),
            words: false,
            options: false,
            omitted: false,
            guarded: false,
        }
    }

    /// Writes all words of an array, which is made of these pieces.
    fn array(&self, array: &str, pieces: &[Piece], options: bool) -> Written {
        let expansion = format!("${{{array}}}");
        // Words that callers may choose as options are no operands; the others are guarded one by one.
        let place = Place { words: true, options, guarded: true, ..self.place_of(&expansion, pieces) };
        Written { text: format!("\"${{{array}[@]}}\""), expected: expansion, place }
    }

    /// Writes the items of a list, each as one word; `whole` is true at a place of words of their own.
    fn items(&mut self, value: &ValueOf, whole: bool) -> Outcome<Written> {
        if let (true, Some(name)) = (whole, self.words.joined_list(value)) {
            self.done.items.push(name);
            let array = self.words.items(value)?;
            let plain = ValueOf { base: value.base.clone(), filters: Vec::new() };
            return Ok(self.array(&array, &[Piece::Value(plain)], false));
        }
        let name = value.makes_words().map(|filter| filter.name.clone()).unwrap_or_default();
        Err(Refused::new(format!("the filter {name} with blanks, which makes several words outside quotes")))
    }

    /// Writes a value that is a word of its own: absent if it is empty, and several words if its name says so.
    fn argument(&mut self, value: &ValueOf, in_loop: bool) -> Outcome<Written> {
        let quote = |expansion: &str| format!("\"{expansion}\"");
        let Base::Name(name) = &value.base else { return Ok(in_loop_too(self.quoted(value, quote)?, in_loop)) };
        if let Some(pieces) =
            self.names.computed.get(name).filter(|_| value.filters.is_empty() && is_list_of_words(name))
        {
            self.done.replaced.push(name.clone());
            let array = self.words.list(pieces)?;
            return Ok(self.array(&array, pieces, false));
        }
        let kind = self.words.kind(name)?;
        let list = kind == Kind::List || in_loop;
        if value.filters.is_empty() && (list || kind != Kind::Number && is_list_of_words(name)) {
            if !list {
                self.done.split.push(name.clone());
            }
            let array = self.words.split(name, kind == Kind::List, list)?;
            return Ok(self.array(&array, &[Piece::Value(value.clone())], !list));
        }
        self.words.no_option(value)?;
        let mut written = self.quoted(value, quote)?;
        if !self.words.is_given(value) {
            let expansion = self.words.expansion(value)?;
            written.text = format!("{}\"{expansion}\"}}", expansion.replace('}', ":+"));
            written.expected.clone_from(&written.text);
            written.place.omitted = true;
        }
        Ok(in_loop_too(written, in_loop))
    }
}

/// Loops split what is in them, as `shell::rewrite` writes it. Here it stays one word.
fn in_loop_too(mut written: Written, in_loop: bool) -> Written {
    if in_loop {
        written.expected = format!("${{{}}}", written.place.variable);
        written.place.omitted = false;
    }
    written
}

/// True for names of parameters that hold several words, such as options.
fn is_list_of_words(name: &str) -> bool {
    const NAMES: [&str; 7] = ["args", "arguments", "options", "opts", "flags", "params", "command"];
    NAMES.iter().any(|known| name == *known || name.ends_with(&format!("_{known}")))
}
