//! Variables and arrays that a rewritten command uses, and the preamble of the script that computes them.

use super::filters::{filter, quoted};
use super::names::{Kind, Names};
use super::{Base, Branch, Condition, Literal, Outcome, Piece, Refused, ValueOf};

/// Exits if a value would be read as an option.
const NO_OPTION: &str =
    "no_option() {\n    case \"$2\" in\n        -*) echo \"$1 must not begin with '-'\" >&2; exit 64 ;;\n    esac\n}\n";

/// Exits if the site configuration lacks a value.
const CONFIGURED: &str = "configured() {\n    [ -n \"$2\" ] || { echo \"the site configuration of the pack must set $1\" >&2; exit 64; }\n}\n";

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
        let no_option = if self.lines.contains("no_option ") { NO_OPTION } else { "" };
        let configured = if self.lines.contains("configured ") { CONFIGURED } else { "" };
        format!("{no_option}{configured}{}", self.lines)
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
            Base::Config(path) => self.configured(path, value)?,
            Base::Context => return Err(Refused::context()),
            Base::Server(path) => return Err(Refused::datastore(path)),
        };
        let kind = self.kind_of(value)?;
        if matches!(kind, Kind::Text | Kind::Number | Kind::Boolean)
            && value.filters.iter().any(|one| one.name == "join")
        {
            return Err(Refused::new("the filter join of what is no list"));
        }
        let boolean = kind == Kind::Boolean;
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

    /// Returns the kind of a value, before its filters.
    fn kind_of(&self, value: &ValueOf) -> Outcome<Kind> {
        match &value.base {
            Base::Name(name) => self.kind(name),
            Base::Config(path) => Ok(self.names.config(path)?.kind),
            Base::Context | Base::Server(_) => Ok(Kind::Other),
        }
    }

    /// Returns the variable of a value of the configuration. Where the site sets none, the script ends, unless the template
    /// has a default.
    fn configured(&mut self, path: &[String], value: &ValueOf) -> Outcome<String> {
        let bolt = &self.names.config(path)?.bolt;
        let source = format!("${{BOLT_CONFIG_{}}}", bolt.to_ascii_uppercase());
        let has_default = value.filters.first().is_some_and(|one| matches!(one.name.as_str(), "default" | "d"));
        let line = format!("configured {bolt} \"{source}\"\n");
        if !has_default && !self.lines.contains(&line) {
            self.lines += &line;
        }
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
            if pieces.iter().any(|piece| matches!(piece, Piece::Value(value) if value.makes_words().is_some())) {
                return Err(Refused::new(format!("blanks between words in the default of {name}")));
            }
            let text = self.text(pieces)?;
            self.lines += &format!("[ -n \"${{{variable}+set}}\" ] || {variable}={text}\n");
        }
        Ok(format!("${{{variable}}}"))
    }

    /// Returns one word of bash, the text of a template.
    pub(super) fn text(&mut self, pieces: &[Piece]) -> Outcome<String> {
        let word = |piece: &Piece| match piece {
            Piece::Text(literal) => Ok(quoted(literal)),
            Piece::Value(value) => Ok(format!("\"{}\"", self.expansion(value)?)),
            Piece::If(_) => Err(Refused::new("a condition outside the command")),
        };
        pieces.iter().map(word).collect()
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

    /// True if the script ends where this variable begins with `-`.
    pub(super) fn is_guarded(&self, variable: &str) -> bool {
        let value = format!(" \"${{{variable}}}\"");
        self.lines.lines().any(|line| line.starts_with("no_option ") && line.ends_with(&value))
    }

    /// Returns the array of a parameter's words: split at commas if it is a list, else at blanks.
    pub(super) fn split(&mut self, name: &str, list: bool, guarded: bool) -> Outcome<String> {
        let variable = self.variable(name)?;
        Ok(self.split_variable(name, &variable, list, guarded))
    }

    /// Returns the name of the list that a value joins by blanks and does nothing else with.
    pub(super) fn joined_list(&self, value: &ValueOf) -> Option<String> {
        let [one] = &value.filters[..] else { return None };
        let blank = matches!(&one.arguments[..], [Literal::Text(text)] if text.trim().is_empty());
        let list = matches!(self.kind_of(value), Ok(Kind::List | Kind::Other));
        let (name, computed) = match &value.base {
            Base::Name(name) => (name.clone(), self.names.computed.contains_key(name)),
            Base::Config(path) => (format!("config_context.{}", path.join(".")), false),
            Base::Context | Base::Server(_) => return None,
        };
        (one.name == "join" && blank && list && !computed).then_some(name)
    }

    /// Returns the array of the items of a list, each as one word.
    pub(super) fn items(&mut self, value: &ValueOf) -> Outcome<String> {
        let plain = ValueOf { base: value.base.clone(), filters: Vec::new() };
        let variable = self.expansion(&plain)?;
        let name = self.joined_list(value).unwrap_or_default();
        Ok(self.split_variable(&name, &variable, true, true))
    }

    fn split_variable(&mut self, name: &str, variable: &str, list: bool, guarded: bool) -> String {
        let array = self.fresh("words");
        let separator = if list { "IFS=," } else { "IFS=$' \\t\\n'" };
        self.lines += &format!("{separator} read -r -d '' -a {array} < <(printf '%s' \"{variable}\") || true\n");
        if guarded {
            self.lines += &format!("for word in \"${{{array}[@]}}\"; do no_option {name} \"$word\"; done\n");
        }
        array
    }

    /// Returns the array of the words of a template.
    pub(super) fn list(&mut self, pieces: &[Piece]) -> Outcome<String> {
        let array = self.fresh("words");
        self.lines += &format!("{array}=()\n");
        self.append(&array, pieces, "")?;
        Ok(array)
    }

    /// Returns the array of the words of a condition's branches.
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
                Piece::Value(value) if value.makes_words().is_some() && quoted_part.is_none() => {
                    return Err(Refused::new("blanks between words beside a condition"));
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
