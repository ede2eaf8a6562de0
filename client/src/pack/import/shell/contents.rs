//! Contents of variables, as far as the text of a script tells them: the words that an expansion may become.
//!
//! A script is scanned twice. The first time tells what is assigned anywhere, the second one reads it.

use std::collections::{BTreeMap, BTreeSet};

use super::flow::Source;
pub(super) use super::programs::EXPANDED;

mod paths;

/// Most texts of one variable, and ways of one word, beyond which its content counts as unknown.
const MAX_TEXTS: usize = 40;
/// Most words of a text.
const MAX_WORDS: usize = 64;
/// Deepest expansion of variables within contents.
const MAX_DEPTH: usize = 4;

/// Expansion in a word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expansion {
    /// The variable or value that it is, and nothing else.
    pub(super) source: Option<Source>,
    /// True if several words may come of it.
    pub(super) several: bool,
    /// True if no word may come of it.
    pub(super) none: bool,
}

/// Word, in which each expansion is one character.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) expansions: Vec<Expansion>,
}

impl Word {
    /// Returns a word that is not known.
    pub(super) fn unknown() -> Word {
        let expansion = Expansion { source: None, several: false, none: false };
        Word { text: EXPANDED.to_string(), expansions: vec![expansion] }
    }

    /// Returns the part from a byte on.
    pub(super) fn from(&self, at: usize) -> Word {
        let before = self.text[..at].matches(EXPANDED).count().min(self.expansions.len());
        Word { text: self.text[at..].to_owned(), expansions: self.expansions[before..].to_vec() }
    }

    /// Splits at characters, and leaves out what is empty.
    pub(super) fn split(&self, at: impl Fn(char) -> bool) -> Vec<Word> {
        let mut words = Vec::new();
        let mut from = 0;
        for (end, c) in self.text.char_indices().chain([(self.text.len(), '\0')]) {
            if c == '\0' || at(c) {
                if from < end {
                    let mut word = self.from(from);
                    word.text.truncate(end - from);
                    word.expansions.truncate(word.text.matches(EXPANDED).count());
                    words.push(word);
                }
                from = end + c.len_utf8();
            }
        }
        words
    }

    /// Returns its expansion if it is nothing else.
    pub(super) fn only(&self) -> Option<&Expansion> {
        match self.expansions.as_slice() {
            [only] if self.text.chars().eq([EXPANDED]) => Some(only),
            _ => None,
        }
    }

    /// True if it may be no word, or several.
    pub(super) fn is_elastic(&self) -> bool {
        !self.expansions.is_empty()
            && self.text.chars().all(|c| c == EXPANDED)
            && self.expansions.iter().all(|expansion| expansion.several || expansion.none)
    }
}

/// Content of a variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Text {
    Scalar(Word),
    Array(Vec<Word>),
}

impl Text {
    /// Returns the text with `content` in the place of its own variable. None if that is not in it.
    fn with(&self, name: &str, content: &Text) -> Option<Text> {
        let itself = Some(Source::Variable(name.to_owned()));
        let is_itself = |expansion: &Expansion| expansion.source == itself;
        match (self, content) {
            (Text::Scalar(word), Text::Scalar(content)) => {
                let index = word.expansions.iter().position(is_itself)?;
                let (at, _) = word.text.match_indices(EXPANDED).nth(index)?;
                let mut text = word.text.clone();
                text.replace_range(at..=at, &content.text);
                let (before, after) = (&word.expansions[..index], &word.expansions[index + 1..]);
                Some(Text::Scalar(Word { text, expansions: [before, &content.expansions, after].concat() }))
            }
            (Text::Array(words), Text::Array(content)) => {
                let index = words.iter().position(|word| word.only().is_some_and(is_itself))?;
                Some(Text::Array([&words[..index], content, &words[index + 1..]].concat()))
            }
            _ => None,
        }
    }

    /// Returns the text where its own variable is empty.
    fn without(&self, name: &str) -> Text {
        let empty = match self {
            Text::Scalar(_) => Text::Scalar(Word::default()),
            Text::Array(_) => Text::Array(Vec::new()),
        };
        self.with(name, &empty).unwrap_or_else(|| self.clone())
    }
}

/// Contents of a variable.
#[derive(Debug, Clone, Default)]
struct Content {
    texts: BTreeSet<Text>,
    /// True if the variable may hold something else as well.
    is_unknown: bool,
}

/// Words that an expansion may become.
#[derive(Debug, Default)]
pub(super) struct Ways {
    pub(super) ways: Vec<Vec<Word>>,
    /// True if other words may come of it.
    pub(super) is_unknown: bool,
}

/// Contents of variables.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    variables: BTreeMap<String, Content>,
    /// Variables that have a content at the place that is being read, on every way to it.
    assigned: BTreeSet<String>,
    /// Lists of commands around that place.
    regions: Vec<Region>,
    /// Variables of the texts of files that are written somewhere.
    written: BTreeSet<String>,
}

/// Kind of a list of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `if` or `case`, of whose branches one is run if there is one for all else.
    Branches,
    /// Run once, where it stands.
    Sequence,
    /// Run several times, elsewhere, or not at all.
    Other,
}

/// List of commands being read.
#[derive(Debug, Clone)]
struct Region {
    kind: Kind,
    /// Variables with a content before it.
    before: BTreeSet<String>,
    /// Variables with a content after each branch so far. None if all branches end the script.
    after: Option<BTreeSet<String>>,
    /// True if a branch is for all else.
    has_else: bool,
    /// The branch at hand ends the script.
    ends: bool,
}

impl Contents {
    /// Begins the second scan.
    pub(super) fn again(mut self) -> Contents {
        self.assigned.clear();
        self.regions.clear();
        self
    }

    /// Begins a list of commands.
    pub(super) fn open(&mut self, kind: Kind) {
        let before = self.assigned.clone();
        self.regions.push(Region { kind, before, after: None, has_else: false, ends: false });
    }

    /// Notes that the branch at hand is for all else.
    pub(super) fn is_else(&mut self) {
        if let Some(region) = self.regions.last_mut() {
            region.has_else = true;
        }
    }

    /// Ends a branch.
    pub(super) fn next_branch(&mut self) {
        let Some(region) = self.regions.last_mut().filter(|region| region.kind == Kind::Branches) else { return };
        let assigned = std::mem::replace(&mut self.assigned, region.before.clone());
        if !std::mem::take(&mut region.ends) {
            region.after = Some(match region.after.take() {
                Some(after) => after.intersection(&assigned).cloned().collect(),
                None => assigned,
            });
        }
    }

    /// Ends a list of commands.
    pub(super) fn close(&mut self) {
        let Some(region) = self.regions.pop() else { return };
        match region.kind {
            Kind::Sequence => {
                if let Some(outer) = self.regions.last_mut() {
                    outer.ends |= region.ends;
                }
            }
            Kind::Other => self.assigned = region.before,
            Kind::Branches if region.has_else => {
                if let (None, Some(outer)) = (&region.after, self.regions.last_mut()) {
                    outer.ends = true;
                }
                self.assigned = region.after.unwrap_or(region.before);
            }
            Kind::Branches => self.assigned = region.before,
        }
    }

    /// Notes that the script ends here.
    pub(super) fn end(&mut self) {
        if let Some(region) = self.regions.last_mut() {
            region.ends = true;
        }
    }

    /// Notes an assignment; with `appends` to what the variable holds, and `always` unless that depends on something.
    pub(super) fn assign(&mut self, name: &str, word: &Word, is_array: bool, appends: bool, always: bool) {
        let text = if is_array { Text::Array(word.split(|c| c == ELEMENT)) } else { Text::Scalar(word.clone()) };
        let content = self.variables.entry(name.to_owned()).or_default();
        let before: Vec<Text> = content.texts.iter().cloned().collect();
        if appends {
            content.texts.extend(before.iter().map(|before| join(before.clone(), &text)));
        }
        let with_itself = before.iter().filter_map(|before| text.with(name, before));
        let with_itself: Vec<Text> = with_itself.collect();
        // Without a content before it is the text alone.
        if with_itself.is_empty() && !appends || before.is_empty() || !self.assigned.contains(name) {
            content.texts.insert(if with_itself.is_empty() { text } else { text.without(name) });
        }
        content.texts.extend(with_itself);
        if content.texts.len() > MAX_TEXTS || word.text.len() > 4096 {
            content.is_unknown = true;
            while content.texts.len() > MAX_TEXTS {
                content.texts.pop_last();
            }
        }
        if always {
            self.assigned.insert(name.to_owned());
        }
    }

    /// Notes that a variable may hold what is not known.
    pub(super) fn forget(&mut self, name: &str) {
        self.variables.entry(name.to_owned()).or_default().is_unknown = true;
    }

    /// Notes that a variable may be empty from here on.
    pub(super) fn unset(&mut self, name: &str) {
        self.assigned.remove(name);
    }

    /// Returns the words of an elastic word.
    pub(super) fn ways(&self, word: &Word, depth: usize) -> Ways {
        let Some(only) = word.only() else {
            return Ways { ways: vec![vec![Word::unknown()], Vec::new()], is_unknown: true };
        };
        let mut found = Ways::default();
        match &only.source {
            Some(Source::Variable(name)) if depth < MAX_DEPTH => {
                self.of_variable(name, only.several, depth, &mut found)
            }
            Some(Source::Value(_)) => {
                found.ways.push(vec![word.clone()]);
                found.is_unknown = only.several;
            }
            _ => found.is_unknown = true,
        }
        if found.is_unknown && !matches!(only.source, Some(Source::Value(_))) {
            found.ways.push(vec![word.clone()]);
        }
        let is_empty = match &only.source {
            Some(Source::Variable(name)) => found.is_unknown || !self.assigned.contains(name),
            _ => true,
        };
        if is_empty && (only.none || only.several) && !found.ways.contains(&Vec::new()) {
            found.ways.push(Vec::new());
        }
        found
    }

    fn of_variable(&self, name: &str, several: bool, depth: usize, found: &mut Ways) {
        let Some(content) = self.variables.get(name) else {
            found.is_unknown = true;
            return;
        };
        found.is_unknown |= content.is_unknown;
        // The longest ones first, of which there is the usual program.
        for text in content.texts.iter().rev() {
            let words = match text {
                Text::Scalar(word) if several => word.split(|c| c.is_ascii_whitespace()),
                Text::Scalar(word) => vec![word.clone()],
                Text::Array(words) if several => words.clone(),
                Text::Array(words) => words.first().cloned().into_iter().collect(),
            };
            let mut ways: Vec<Vec<Word>> = vec![Vec::new()];
            for word in words.into_iter().take(MAX_WORDS) {
                let mut inner = Ways { ways: vec![vec![word.clone()]], is_unknown: false };
                if let Some(Expansion { source: Some(Source::Variable(_)), several: inside, none }) = word.only() {
                    // Words of a text are split again, whatever its quotes were.
                    let several = *inside || several && matches!(text, Text::Scalar(_));
                    let expansion =
                        Expansion { source: word.expansions[0].source.clone(), several, none: *none || several };
                    inner = self.ways(&Word { expansions: vec![expansion], ..word.clone() }, depth + 1);
                }
                // Output of a program is told by the variable only.
                found.is_unknown |= word.expansions.iter().any(|expansion| expansion.source.is_none());
                if several && word.only().is_some_and(|only| !matches!(only.source, Some(Source::Variable(_)))) {
                    // A value or the output of a program, which may be empty.
                    inner.ways.push(Vec::new());
                }
                found.is_unknown |= inner.is_unknown;
                let longer = ways.iter().flat_map(|way| {
                    inner.ways.iter().map(move |words| way.iter().chain(words).cloned().collect::<Vec<Word>>())
                });
                ways = longer.take(MAX_TEXTS + 1).collect();
            }
            found.ways.extend(ways);
        }
        if found.ways.len() > MAX_TEXTS {
            found.is_unknown = true;
            found.ways.truncate(MAX_TEXTS);
        }
    }
}

/// Character between elements of an array in its word.
pub(super) const ELEMENT: char = '\u{2}';

fn join(before: Text, added: &Text) -> Text {
    match (before, added) {
        (Text::Scalar(mut word), Text::Scalar(added)) => {
            word.text.push_str(&added.text);
            word.expansions.extend(added.expansions.iter().cloned());
            Text::Scalar(word)
        }
        (Text::Array(mut words), Text::Array(added)) => {
            words.extend(added.iter().cloned());
            Text::Array(words)
        }
        (Text::Scalar(word), Text::Array(added)) => Text::Array([vec![word], added.clone()].concat()),
        (Text::Array(words), Text::Scalar(_)) => Text::Array(words),
    }
}
