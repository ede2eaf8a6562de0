//! Variables and arrays that a rewritten command uses, and the preamble of the script that computes them.

use super::filters::{filter, quoted};
use super::names::{Kind, Names};
use super::{Base, Branch, Condition, Literal, Outcome, Piece, Refused, ValueOf};

/// Exits if a value would be read as an option.
const NO_OPTION: &str =
    "no_option() {\n    case \"$2\" in\n        -*) echo \"$1 must not begin with '-'\" >&2; exit 64 ;;\n    esac\n}\n";

/// Preamble being written.
pub(super) struct Words<'a> {
    names: &'a Names,
    lines: String,
    count: usize,
    guarded: Vec<String>,
    prepared: Vec<(ValueOf, String)>,
}

impl<'a> Words<'a> {
    pub(super) fn new(names: &'a Names) -> Words<'a> {
        Words { names, lines: String::new(), count: 0, guarded: Vec::new(), prepared: Vec::new() }
    }

    /// Returns the preamble.
    pub(super) fn preamble(self) -> String {
        let function = if self.lines.contains("no_option ") { NO_OPTION } else { "" };
        format!("{function}{}", self.lines)
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.count += 1;
        format!("{prefix}{}", self.count)
    }

    fn parameter(&self, name: &str) -> Outcome<&'a (String, Kind, bool)> {
        self.names.parameters.get(name).ok_or_else(|| Refused::new(format!("{name}, which is no parameter")))
    }

    pub(super) fn kind(&self, name: &str) -> Outcome<Kind> {
        Ok(self.parameter(name)?.1)
    }

    /// True for a value that is surely a number.
    pub(super) fn is_number(&self, value: &ValueOf) -> bool {
        let Base::Name(name) = &value.base else { return false };
        value.filters.is_empty() && self.kind(name) == Ok(Kind::Number) && !self.names.computed.contains_key(name)
    }

    /// True for a value that is always there.
    pub(super) fn is_given(&self, value: &ValueOf) -> bool {
        let Base::Name(name) = &value.base else { return false };
        self.parameter(name).is_ok_and(|(_, _, given)| *given)
    }

    /// Returns the expansion of a value, without quotes: `${BOLT_PARAM_X}`.
    pub(super) fn expansion(&mut self, value: &ValueOf) -> Outcome<String> {
        if let Some((_, variable)) = self.prepared.iter().find(|(known, _)| known == value) {
            return Ok(variable.clone());
        }
        let mut source = match &value.base {
            Base::Name(name) => self.variable(name)?,
            Base::Config(path) if path.len() == 1 => format!("${{BOLT_CONFIG_{}}}", path[0].to_ascii_uppercase()),
            Base::Config(path) => return Err(Refused::new(format!("config_context.{}", path.join(".")))),
            Base::Context => return Err(Refused::new("action_context, StackStorm's own")),
            Base::Server(path) => return Err(Refused::new(format!("{path}, which is in StackStorm's datastore"))),
        };
        let boolean = matches!(&value.base, Base::Name(name) if self.kind(name)? == Kind::Boolean);
        if boolean || !value.filters.is_empty() {
            let variable = self.fresh("value");
            self.lines += &format!("{variable}=\"{source}\"\n");
            if boolean {
                // As Jinja writes it.
                self.lines +=
                    &format!("{variable}=\"${{{variable}/true/True}}\"; {variable}=\"${{{variable}/false/False}}\"\n");
            }
            for one in &value.filters {
                self.lines += &filter(&variable, one)?;
            }
            source = format!("${{{variable}}}");
        }
        self.prepared.push((value.clone(), source.clone()));
        Ok(source)
    }

    /// Returns the variable of a parameter; a computed default is computed first.
    fn variable(&mut self, name: &str) -> Outcome<String> {
        let (bolt, ..) = self.parameter(name)?;
        let variable = format!("BOLT_PARAM_{}", bolt.to_ascii_uppercase());
        if let Some(pieces) = self.names.computed.get(name) {
            if self.guarded.contains(&variable) {
                return Ok(format!("${{{variable}}}"));
            }
            self.guarded.push(variable.clone());
            let mut text = String::new();
            for piece in pieces {
                match piece {
                    Piece::Text(literal) => text += &quoted(literal),
                    Piece::Value(value) => text += &format!("\"{}\"", self.expansion(value)?),
                    Piece::If(_) => return Err(Refused::new(format!("a condition in the default of {name}"))),
                }
            }
            self.lines += &format!("[ -n \"${{{variable}+set}}\" ] || {variable}={text}\n");
        }
        Ok(format!("${{{variable}}}"))
    }

    /// Refuses a value that begins with `-` when the script runs.
    pub(super) fn no_option(&mut self, value: &ValueOf) -> Outcome<()> {
        if self.is_number(value) {
            return Ok(());
        }
        let Base::Name(name) = &value.base else { return Ok(()) };
        let expansion = self.expansion(value)?;
        let line = format!("no_option {name} \"{expansion}\"\n");
        if !self.lines.contains(&line) {
            self.lines += &line;
        }
        Ok(())
    }

    /// Returns a parameter's value split into words: at commas if it is a list, else at blanks.
    pub(super) fn split(&mut self, name: &str, list: bool, guarded: bool) -> Outcome<String> {
        let variable = self.variable(name)?;
        let array = self.fresh("words");
        let separator = if list { "IFS=," } else { "IFS=$' \\t\\n'" };
        self.lines += &format!("{separator} read -r -d '' -a {array} < <(printf '%s' \"{variable}\") || true\n");
        if guarded {
            self.lines += &format!("for word in \"${{{array}[@]}}\"; do no_option {name} \"$word\"; done\n");
        }
        Ok(format!("\"${{{array}[@]}}\""))
    }

    /// Returns the words of a template as an array.
    pub(super) fn list(&mut self, pieces: &[Piece]) -> Outcome<String> {
        let array = self.fresh("words");
        self.lines += &format!("{array}=()\n");
        self.append(&array, pieces, "")?;
        Ok(format!("\"${{{array}[@]}}\""))
    }

    /// Returns the words of a condition's branches as an array.
    pub(super) fn condition(&mut self, branches: &[Branch]) -> Outcome<String> {
        self.list(&[Piece::If(branches.to_vec())])
    }

    fn append(&mut self, array: &str, pieces: &[Piece], indent: &str) -> Outcome<()> {
        let mut word: Option<String> = None;
        let mut quoted_part: Option<String> = None;
        for (index, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) => {
                    for c in text.chars() {
                        match (&mut quoted_part, c) {
                            (Some(part), '"') => {
                                *word.get_or_insert_default() += part;
                                quoted_part = None;
                            }
                            (Some(part), c) if is_harmless(c) || c == ' ' => *part += &quoted(&c.to_string()),
                            (None, '"') => quoted_part = Some(String::new()),
                            (None, ' ' | '\t' | '\n') => self.end(array, &mut word, indent),
                            (None, c) if is_harmless(c) => *word.get_or_insert_default() += &quoted(&c.to_string()),
                            (_, c) => return Err(Refused::new(format!("{c:?} beside a condition"))),
                        }
                    }
                }
                Piece::Value(value) => {
                    // Programs such as rsync split what was quoted once more.
                    if quoted_part.is_some() && !self.is_number(value) {
                        return Err(Refused::new("a value in quotes of a default"));
                    }
                    if word.is_none() && quoted_part.is_none() {
                        self.no_option(value)?;
                    }
                    let expansion = format!("\"{}\"", self.expansion(value)?);
                    match &mut quoted_part {
                        Some(part) => *part += &expansion,
                        None => *word.get_or_insert_default() += &expansion,
                    }
                }
                Piece::If(branches) => {
                    if quoted_part.is_some() || word.is_some() && !branches.iter().all(|b| begins_word(&b.body)) {
                        return Err(Refused::new("a condition inside a word"));
                    }
                    let glued = pieces.get(index + 1).is_some_and(|next| !begins_word(std::slice::from_ref(next)));
                    if glued {
                        return Err(Refused::new("a condition at the begin of a word"));
                    }
                    self.end(array, &mut word, indent);
                    self.branches(array, branches, indent)?;
                }
            }
        }
        if quoted_part.is_some() {
            return Err(Refused::new("a quote that is not closed"));
        }
        self.end(array, &mut word, indent);
        Ok(())
    }

    fn end(&mut self, array: &str, word: &mut Option<String>, indent: &str) {
        if let Some(word) = word.take() {
            let joined = word.replace("''", "");
            self.lines += &format!("{indent}{array}+=({joined})\n");
        }
    }

    fn branches(&mut self, array: &str, branches: &[Branch], indent: &str) -> Outcome<()> {
        // Values of the branches are computed before the condition.
        for (index, branch) in branches.iter().enumerate() {
            let tests = branch.condition.as_ref().map(|condition| self.test(condition)).transpose()?;
            let saved = std::mem::take(&mut self.lines);
            let inner = format!("{indent}    ");
            self.append(array, &branch.body, &inner)?;
            let body = std::mem::replace(&mut self.lines, saved);
            let (before, body): (Vec<&str>, Vec<&str>) = body.lines().partition(|line| !line.starts_with(&inner));
            if !before.is_empty() {
                // Guards and filters apply to a value whether or not its branch is taken; an absent one passes them.
                let own = before.join("\n") + "\n";
                let start = self.lines.rfind(&format!("{array}=()\n")).unwrap_or_default();
                self.lines.insert_str(start, &own);
            }
            let word = match (index, tests) {
                (0, Some(test)) => format!("{indent}if {test}; then\n"),
                (_, Some(test)) => format!("{indent}elif {test}; then\n"),
                (_, None) => format!("{indent}else\n"),
            };
            let body = if body.is_empty() { format!("{inner}:") } else { body.join("\n") };
            self.lines += &format!("{word}{body}\n");
        }
        self.lines += &format!("{indent}fi\n");
        Ok(())
    }

    fn test(&mut self, condition: &Condition) -> Outcome<String> {
        let (bolt, kind, _) = self.parameter(&condition.name)?;
        let variable = format!("BOLT_PARAM_{}", bolt.to_ascii_uppercase());
        let negation = if condition.negated { "! " } else { "" };
        let wanted = match &condition.equals {
            Some(Literal::Bool(flag)) => flag.to_string(),
            Some(Literal::Text(text) | Literal::Number(text)) => text.clone(),
            Some(Literal::None) => String::new(),
            None if *kind == Kind::Boolean => "true".to_owned(),
            None => return Ok(format!("{negation}[ -n \"${{{variable}}}\" ]")),
        };
        Ok(format!("{negation}[ \"${{{variable}}}\" = {} ]", quoted(&wanted)))
    }
}

/// True for characters without meaning to a shell.
fn is_harmless(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c)
}

/// True if what follows begins a word of its own.
fn begins_word(pieces: &[Piece]) -> bool {
    match pieces.first() {
        None => true,
        Some(Piece::Text(text)) => text.starts_with([' ', '\t', '\n']),
        Some(Piece::If(branches)) => branches.iter().all(|branch| begins_word(&branch.body)),
        Some(Piece::Value(_)) => false,
    }
}
