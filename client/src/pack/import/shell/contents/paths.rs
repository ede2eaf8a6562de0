//! Paths that words may be, and the files that the script writes.

use super::{Contents, EXPANDED, Source, Text, Word};
use crate::pack::import::shell::files;

impl Contents {
    /// Notes a file that is written.
    pub(in crate::pack::import::shell) fn write(&mut self, path: &str) {
        self.written.insert(files::text_of(path));
    }

    /// Returns the variable of the text of a file, if it is written somewhere.
    pub(in crate::pack::import::shell) fn written(&self, path: &str) -> Option<Source> {
        Some(files::text_of(path)).filter(|text| self.written.contains(text)).map(Source::Variable)
    }

    /// Returns the paths that a word may be. A variable that begins it is its name where its content is not known.
    pub(in crate::pack::import::shell) fn paths(&self, word: &Word) -> Vec<String> {
        let Some(first) = word.expansions.first().filter(|_| word.text.starts_with(EXPANDED)) else {
            return vec![word.text.clone()];
        };
        let rest = &word.text[EXPANDED.len_utf8()..];
        let name = match &first.source {
            Some(Source::Variable(name) | Source::Cut(name)) => name.as_str(),
            // The output of a program may be the working directory.
            None if rest.starts_with('/') => return vec![format!(".{rest}")],
            _ => "",
        };
        if name == "PWD" {
            return vec![format!(".{rest}")];
        }
        let content = self.variables.get(name);
        let words = |text: &Text| match text {
            Text::Scalar(word) => vec![word.text.clone()],
            Text::Array(words) => words.iter().map(|word| word.text.clone()).collect(),
        };
        let texts = content.into_iter().flat_map(|content| content.texts.iter().flat_map(words));
        let mut paths: Vec<String> = texts.filter(|text| !text.is_empty()).map(|text| text + rest).collect();
        if paths.is_empty() || content.is_some_and(|content| content.is_unknown) {
            paths.push(format!("{EXPANDED}{name}{rest}"));
        }
        paths
    }
}
