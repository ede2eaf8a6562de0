//! Files that the script writes, runs, or reads what it wrote, and the directories that it goes to.

use super::super::contents::Word;
use super::super::files::{self, Kind, Run, Written};
use super::super::flow::{Given, Here, Source, Use};
use super::super::is_name;
use super::super::limit::{Input, Limit};
use super::super::programs;
use super::{EXPANDED, Scanner};

impl Scanner<'_> {
    /// Notes what the word at hand, which ends, is a file of. Returns the paths that it may be.
    pub(super) fn note_files(&mut self, word: &Word, written: Option<String>, input: Option<String>) -> Vec<String> {
        if !self.command().in_word {
            return Vec::new();
        }
        let paths = self.done.contents.paths(word);
        let (id, run) = (self.command().id, self.command().run_as());
        if let Some(file) = written {
            for path in &paths {
                self.write(id, Written { path: path.clone(), kind: Kind::Text });
            }
            self.done.facts.written.insert(file);
        }
        if let Some(file) = input {
            if self.command().reads_code() {
                for path in &paths {
                    self.run(Run { path: path.clone(), is_program: false, limit: Limit::Path, input: Input::Shell });
                }
            }
            for source in paths.iter().filter_map(|path| self.done.contents.written(path)).collect::<Vec<_>>() {
                let here = Here { script: false, begins: true };
                self.done.facts.uses.push((source, Use::Here(id, here)));
            }
            self.done.facts.run.insert(file);
        }
        if let Some(run) = run {
            if run.path == "{}" {
                self.done.facts.finders.insert(id);
            }
            let is_positional = |source: &Source| source.variable().is_some_and(|name| !is_name(name));
            self.done.facts.runs_variable |= run.is_program
                && word.text.starts_with(EXPANDED)
                && !word.expansions.iter().any(|expansion| expansion.source.as_ref().is_some_and(is_positional));
            for path in &paths {
                // Of a command line in a variable, the first word.
                let path = path.split_whitespace().next().unwrap_or_default().to_owned();
                self.run(Run { path, ..run.clone() });
            }
        }
        if matches!(self.command().program.as_deref(), Some("cd" | "pushd"))
            && !self.done.facts.directories.contains(&word.text)
        {
            self.done.facts.directories.extend(paths.iter().cloned());
        }
        paths
    }

    /// Reads the text that the script has written to a file, which the last word names, where a program writes it out or
    /// makes another file of it.
    pub(super) fn read_back(&mut self, paths: &[String]) {
        let (writes_out, copies) = (self.command().writes_out(), self.command().makes_files());
        if self.command().number() < 2 || !(writes_out || copies) {
            return;
        }
        let sources: Vec<_> = paths.iter().filter_map(|path| self.done.contents.written(path)).collect();
        for source in sources {
            let given = Given { begins: true, begins_word: true, number: None, is_sent: !copies };
            let id = self.command().id;
            self.done.facts.uses.push((source.clone(), Use::Argument(id, given)));
            if writes_out {
                self.expansion_at = self.done.out.len();
                self.read_around(&source, true);
            }
        }
    }

    /// Notes the files that the command at hand, which ends, writes by its arguments, and those that it runs.
    pub(super) fn note_copies(&mut self, id: usize) {
        let (copies, builds) = (self.command().copies(), self.command().builds());
        copies.into_iter().for_each(|written| self.write(id, written));
        builds.into_iter().for_each(|run| self.run(run));
        let is_listed = self.command().program.as_deref() == Some("xargs") && self.command().reads_code();
        if is_listed {
            let path = "{}".to_owned();
            self.run(Run { path, is_program: false, limit: Limit::Path, input: Input::Shell });
        }
    }

    /// Notes files of code that are run by code for a shell in a word.
    pub(super) fn runs_in_code(&mut self, code: &str) {
        let separates = |c: char| c.is_whitespace() || ";|&()`\"'<>".contains(c);
        let mut from = 0;
        for word in code.split(separates).take(1_000) {
            let at = from;
            from += word.len();
            from += code[from..].chars().next().map_or(0, char::len_utf8);
            let before = code[..at].trim_end_matches(['"', '\'']);
            if word.is_empty() || word.chars().all(|c| c == EXPANDED) || !programs::names_program(before) {
                continue;
            }
            let (limit, input) = (Limit::Path, Input::Shell);
            let path = if programs::runs_directory(word, &[]) { "./(build)" } else { word };
            self.run(Run { path: path.to_owned(), is_program: path == word, limit, input });
        }
    }

    fn write(&mut self, id: usize, written: Written) {
        if files::is_stream(&written.path) {
            return;
        }
        self.done.contents.write(&written.path);
        let written = (id, written);
        if !self.done.facts.writes.contains(&written) {
            self.done.facts.writes.push(written);
        }
    }

    fn run(&mut self, run: Run) {
        if !self.done.facts.runs.contains(&run) {
            self.done.facts.runs.push(run);
        }
    }
}
