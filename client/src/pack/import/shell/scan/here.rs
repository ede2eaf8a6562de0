//! Here-documents. One with a quoted delimiter does not expand: where it has places for values, the delimiter loses its
//! quotes, and what would expand besides is escaped.

use super::super::limit::Input;
use super::{Mode, Outcome, Refused, Scanner, Token};

/// Here-document whose text has not begun.
#[derive(Debug)]
pub(super) struct HereDocument {
    /// Command that reads it.
    command: usize,
    delimiter: String,
    quoted: bool,
    /// Tabs before the text are removed.
    tabs: bool,
    /// Number of open substitutions, with the script itself.
    depth: usize,
    /// Place of the delimiter in the output.
    place: std::ops::Range<usize>,
}

impl Scanner<'_> {
    /// Reads the delimiter after `<<`.
    pub(super) fn here_document(&mut self) -> Outcome<()> {
        let tabs = self.peek() == Some('-');
        if tabs {
            self.take();
        }
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.take();
        }
        let from = self.done.out.len();
        let (mut delimiter, mut quoted, mut quote) = (String::new(), false, None);
        loop {
            match (self.tokens.get(self.at), quote) {
                (Some(Token::Value(_)), _) => return Err(Refused::new("a value in the delimiter of a here-document")),
                (Some(Token::Char(c)), Some(open)) if *c == open => quote = None,
                (Some(Token::Char(c @ ('\'' | '"'))), None) => (quote, quoted) = (Some(*c), true),
                (Some(Token::Char('\\')), None) => quoted = true,
                (Some(Token::Char(c)), None) if c.is_whitespace() || ";|&()<>`".contains(*c) => break,
                (Some(Token::Char('\n')), Some(_)) | (None, _) => break,
                (Some(Token::Char(c)), _) => delimiter.push(*c),
            }
            self.take();
        }
        let command = self.command().id;
        let place = from..self.done.out.len();
        let depth = self.frames.len();
        self.here.push(HereDocument { command, delimiter, quoted, tabs, depth, place });
        Ok(())
    }

    /// Reads the here-documents that begin after this line, but for those of a command around this one. One that expands
    /// becomes a context of its own, so that those after it wait for its end.
    pub(super) fn here_documents(&mut self) -> Outcome<()> {
        while let Some(next) = self.here.iter().position(|document| document.depth >= self.frames.len()) {
            let document = self.here.remove(next);
            let end = self.end_of(&document);
            let text = &self.tokens[self.at..end];
            let has_values = text.iter().any(|token| matches!(token, Token::Value(_)));
            let script = self.begins_like_script(end);
            self.python = self.python_values(end, document.quoted);
            if !document.quoted {
                self.modes.push(Mode::Here(document.command, end, script));
                return Ok(());
            }
            let reader = self.done.facts.commands.get(document.command);
            let reader = reader.filter(|command| command.input.is_some_and(|(_, input)| input == Input::Shell));
            if let Some(reader) = reader.map(|command| command.program.clone()) {
                let text: String =
                    text.iter().filter_map(|token| if let Token::Char(c) = token { Some(*c) } else { None }).collect();
                self.literal_code(&text, &reader);
                self.arguments_in_code(&text, &reader, document.command);
            }
            if has_values {
                let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
                if document.delimiter.is_empty() || !document.delimiter.chars().all(plain) {
                    return Err(Refused::new("a value in a here-document with an unusual delimiter"));
                }
                self.unquote(&document);
            }
            while self.at < end {
                match self.tokens[self.at] {
                    Token::Char(c) => {
                        if has_values && matches!(c, '\\' | '$' | '`') {
                            self.done.out.push('\\');
                        }
                        self.done.out.push(c);
                        self.at += 1;
                    }
                    Token::Value(index) => {
                        self.at += 1;
                        self.modes.push(Mode::Here(document.command, end, script));
                        let written = self.value(index);
                        self.modes.pop();
                        written?;
                    }
                }
            }
            self.delimiter_line();
            self.take();
        }
        Ok(())
    }

    /// Leaves the here-document at its end, whatever is still open in it.
    pub(super) fn leave_here_document(&mut self) {
        let at = self.at;
        let ended = |mode: &Mode| matches!(mode, Mode::Here(_, end, _) if at >= *end);
        if let Some(position) = self.modes.iter().position(ended) {
            let open = self.modes[position..].iter().filter(|mode| matches!(mode, Mode::Commands(_))).count();
            self.modes.truncate(position);
            let frames = self.frames.len().saturating_sub(open).max(1);
            let lists: usize = self.frames[frames..].iter().map(|frame| frame.lists.len() + 1).sum();
            (0..lists).for_each(|_| self.done.contents.close());
            self.frames.truncate(frames);
            self.delimiter_line();
        }
    }

    /// Takes the line with the delimiter, but for its end.
    fn delimiter_line(&mut self) {
        while self.peek().is_some_and(|c| c != '\n') {
            self.take();
        }
    }

    /// True if the text up to `end` begins with a line like that of a script, after blanks.
    fn begins_like_script(&self, end: usize) -> bool {
        let text = self.tokens[self.at..end].iter().map(|token| match token {
            Token::Char(c) => *c,
            Token::Value(_) => '\u{1}',
        });
        let start: String = text.skip_while(|c| c.is_whitespace()).take(2).collect();
        start == "#!"
    }

    /// Returns the token at which the line with the delimiter begins.
    fn end_of(&self, document: &HereDocument) -> usize {
        let mut line = self.at;
        while line < self.tokens.len() {
            let end = self.tokens[line..].iter().position(|token| *token == Token::Char('\n'));
            let end = end.map_or(self.tokens.len(), |length| line + length);
            let mut text = &self.tokens[line..end];
            while document.tabs && text.first() == Some(&Token::Char('\t')) {
                text = &text[1..];
            }
            if text.iter().copied().eq(document.delimiter.chars().map(Token::Char)) {
                return line;
            }
            line = end + 1;
        }
        self.tokens.len()
    }

    fn unquote(&mut self, document: &HereDocument) {
        let (before, after) = (document.place.len(), document.delimiter.len());
        self.done.out.replace_range(document.place.clone(), &document.delimiter);
        for other in &mut self.here {
            if other.place.start > document.place.start {
                other.place = other.place.start - before + after..other.place.end - before + after;
            }
        }
    }
}
