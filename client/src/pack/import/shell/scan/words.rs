//! Words that an expansion may become, and contents that assignments, loops and calls give to variables.

use super::super::contents::{ELEMENT, Ways, Word};
use super::super::flow::{CommandFacts, Source, Use, positional};
use super::super::is_name;
use super::super::limit::Limit;
use super::super::programs::{DECLARATIONS, PREFIXES};
use super::super::simple::assignment;
use super::{EXPANDED, Mode, Scanner, Token};

impl Scanner<'_> {
    /// True where an expansion is split into words.
    pub(super) fn is_split(&self) -> bool {
        let outer = self.modes.iter().rev().find(|mode| !matches!(mode, Mode::Parameter(_)));
        matches!(outer, Some(Mode::Commands(_) | Mode::Array))
    }

    /// Notes the variable of the expansion at hand, whose name ends here.
    pub(super) fn note_expansion(&mut self, name: &str) {
        let braces = self.done.out[..self.done.out.len() - name.len().min(self.done.out.len())].ends_with("${");
        let next: Vec<Option<char>> = (0..4).map(|ahead| self.peek_at(ahead)).collect();
        let is_list = braces && matches!(next.as_slice(), [Some('['), Some('@' | '*'), Some(']'), Some('}')]);
        let is_whole = !braces || is_list || next[0] == Some('}');
        let of = if is_whole { Source::Variable } else { Source::Cut };
        let source = (!name.is_empty()).then(|| of(name.to_owned()));
        self.command().name_expansion(|expansion| {
            expansion.several |= is_list;
            expansion.none |= is_list;
            expansion.source = source;
        });
    }

    /// Returns the words that the word at hand may be. None if it is one word, whatever it is.
    pub(super) fn ways(&mut self, word: &Word) -> Option<Ways> {
        let command = self.command();
        if !command.in_word || command.expansions.is_empty() || !command.depends_on_words() {
            return None;
        }
        let is_variable =
            word.only().is_some_and(|only| only.source.as_ref().is_some_and(|source| source.variable().is_some()));
        if !word.is_elastic() && !is_variable {
            return None;
        }
        let ways = self.done.contents.ways(word, 0);
        self.read_words(&ways);
        Some(ways)
    }

    /// Notes an assignment that ends here. It counts when its command does.
    pub(super) fn assigned(&mut self, word: &Word) {
        let command = self.command();
        let declares = command.program.as_deref().is_some_and(|program| DECLARATIONS.contains(&program));
        if command.program.is_none() || declares {
            if let Some(name) = assignment(&word.text) {
                let text = word.text.split_once('=').map_or("", |(_, text)| text);
                // Arithmetic evaluates the variable that the text names.
                if is_name(text) && !word.text.contains('+') {
                    let place = Use::Assigned(name.to_owned(), false);
                    self.done.facts.uses.push((Source::Variable(text.to_owned()), place));
                }
                self.command().assignments.push(word.clone());
            } else if declares && is_name(&word.text) {
                let empty = Word { text: format!("{}=", word.text), expansions: Vec::new() };
                self.command().assignments.push(empty);
            }
        }
    }

    /// Notes what the command at hand, which ends, makes of variables.
    pub(super) fn note_contents(&mut self, facts: &CommandFacts) {
        let always = !self.frame().conditional;
        let function = self.frame().lists.last().and_then(|(_, function)| function.clone());
        if always && (facts.program == "exit" || self.ending.contains(&facts.program)) {
            self.ending.extend(function);
            self.done.contents.end();
        }
        let command = self.command();
        let persists = command.program.as_deref().is_none_or(|program| DECLARATIONS.contains(&program));
        let assignments = std::mem::take(&mut command.assignments);
        let words: Vec<String> = command.arguments_of_call().to_vec();
        let contents = &mut self.done.contents;
        for assigned in assignments {
            let Some((before, _)) = assigned.text.split_once('=') else { continue };
            let Some(name) = assignment(&assigned.text) else { continue };
            let value = assigned.from(before.len() + 1);
            if before.contains('[') {
                contents.forget(name);
                continue;
            }
            let is_array = value.text.starts_with(ELEMENT);
            contents.assign(name, &value, is_array, before.ends_with('+'), always && persists);
        }
        for name in &facts.reads {
            contents.forget(name);
        }
        match facts.program.as_str() {
            "for" | "select" => {
                if let Some(name) = words.first() {
                    let items = words.get(2..).unwrap_or_default();
                    for item in items.iter().filter(|item| !item.contains(EXPANDED)) {
                        contents.assign(
                            name,
                            &Word { text: item.clone(), expansions: Vec::new() },
                            false,
                            false,
                            false,
                        );
                    }
                    if items.is_empty() || items.iter().any(|item| item.contains(EXPANDED)) {
                        contents.forget(name);
                    }
                }
            }
            "printf" | "getopts" | "wait" => {
                words.iter().filter(|word| is_name(word)).for_each(|name| contents.forget(name));
            }
            "unset" => {
                for name in &words {
                    contents.assign(name, &Word::default(), false, false, false);
                    contents.unset(name);
                }
            }
            "shift" | "set" => (1..=9).map(positional).for_each(|name| contents.forget(&name)),
            program if self.done.facts.functions.contains(program) => {
                for (at, word) in words.iter().enumerate() {
                    let name = positional(at + 1);
                    if word.contains(EXPANDED) {
                        contents.forget(&name);
                    } else {
                        contents.assign(
                            &name,
                            &Word { text: word.clone(), expansions: Vec::new() },
                            false,
                            false,
                            false,
                        );
                    }
                }
            }
            program if PREFIXES.contains(&program) => {}
            _ => {}
        }
    }
}

/// Returns the limit by which a value without quotes stays one word, given what `IFS` is set to; none without such a limit.
pub(super) fn ifs(tokens: &[Token]) -> Option<Limit> {
    let text: String = tokens.iter().map(|token| if let Token::Char(c) = token { *c } else { '?' }).collect();
    let mut limit = Some(Limit::Path);
    for (at, name) in text.match_indices("IFS=") {
        if text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        let rest = text[at + name.len()..].split('\n').next().unwrap_or_default();
        let value = rest.split([';', '&']).next().unwrap_or_default();
        let is_empty = value.starts_with(char::is_whitespace);
        let is_temporary = value.split_whitespace().nth(usize::from(!is_empty)).is_some_and(|word| word == "read");
        // Its value before, or blanks.
        let is_usual = value.trim_start_matches('"').starts_with("$") && !value.starts_with("$'");
        if is_temporary || is_usual {
            continue;
        }
        let value = value.replace("\\n", "").replace("\\t", "");
        limit = if value.bytes().any(|byte| byte.is_ascii_alphanumeric() || b"_.:@%+-".contains(&byte)) {
            None
        } else {
            limit.map(|limit| limit.max(Limit::Word))
        };
    }
    limit
}
