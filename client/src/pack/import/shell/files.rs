//! Files that scripts write and run, by the words that name them: what one step writes, a later one may run.
//!
//! A name is a path as the script has it, in which what expands is one character. A variable alone is told by its name,
//! one with a known content is that. Names that are not both absolute are the same file if their last parts are.

use super::ScriptValue;
use super::limit::{Input, Limit};
use super::programs::EXPANDED;

mod copies;

pub(super) use copies::written_by;

/// Kind of what is written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text of the script, or of what it downloads.
    Text,
    /// A file that the arguments of the command choose.
    Copy,
    /// Files below a directory, which its arguments choose.
    Tree,
}

/// File that a command writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) path: String,
    pub(super) kind: Kind,
}

/// File of code that is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) path: String,
    /// Found in the directories of `PATH` if it has no `/`.
    pub(super) is_program: bool,
    /// The limit that its text needs, by whose code it is.
    pub(super) limit: Limit,
    pub(super) input: Input,
}

impl Run {
    /// True for a path below the working directory.
    pub(super) fn is_relative(&self) -> bool {
        const ENDS: [&str; 6] = [".sh", ".bash", ".py", ".pl", ".rb", ".js"];
        let is_file = self.path.contains('/') || ENDS.iter().any(|end| self.path.ends_with(end));
        // A variable alone may be any file.
        let is_any = !self.is_program && is_alone(&self.path);
        is_any || is_relative(&self.path) && (is_file || !self.is_program)
    }
}

/// Returns a path without what changes nothing.
pub(super) fn normalized(word: &str) -> String {
    let mut path = word.replace("/./", "/");
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.to_owned();
    }
    path
}

/// Returns the variable of the text of a file, which has no name of a variable.
pub(super) fn text_of(path: &str) -> String {
    format!(">{}", last(path))
}

fn last(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn is_relative(path: &str) -> bool {
    // An expansion may be any path; it is a control character.
    !path.is_empty() && !path.starts_with(|c: char| "/~$-".contains(c) || c.is_control())
}

/// True for a file that is none: a stream, or nothing.
pub(super) fn is_stream(path: &str) -> bool {
    ["/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty", "-"].contains(&path)
        || path.bytes().all(|b| b.is_ascii_digit())
}

/// True for a word that names a script below the working directory.
pub(super) fn is_script(word: &str) -> bool {
    Run { path: word.to_owned(), is_program: true, limit: Limit::Path, input: Input::Shell }.is_relative()
}

/// True for a path that is one variable.
fn is_alone(path: &str) -> bool {
    path.starts_with(EXPANDED) && !path.contains('/')
}

/// Returns how the host runs what is written to its directories of jobs, services and settings of shells.
pub(super) fn run_by_host(path: &str) -> Option<(Limit, Input)> {
    const PLACES: [&str; 17] = [
        "/etc/cron",
        "/var/spool/cron",
        "/etc/init.d/",
        "/etc/rc",
        "/etc/profile",
        "/etc/bash",
        "/etc/systemd/",
        "/lib/systemd/",
        "/etc/sudoers",
        "/etc/ld.so",
        "/.bash",
        "/.profile",
        "/etc/udev/rules.d/",
        "/etc/logrotate.d/",
        "/etc/modprobe.d/",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
    ];
    PLACES.iter().any(|place| path.contains(place)).then_some((Limit::Path, Input::Code))
}

/// True if what is written may be what is run, in a script that goes to these directories.
pub(super) fn is_run(written: &Written, run: &Run, directories: &[String]) -> bool {
    let (path, file) = (normalized(&written.path), normalized(&run.path));
    if path.is_empty() || file.is_empty() {
        return false;
    }
    // All that a program finds, or all of a directory.
    if run.path == "{}" || !run.is_program && path.starts_with(&format!("{}/", file.trim_end_matches('/'))) {
        return true;
    }
    if run.is_program && !run.path.contains('/') && !file.starts_with(EXPANDED) {
        let parent = path.trim_end_matches('/').rsplit('/').nth(1).unwrap_or_default();
        return match written.kind {
            Kind::Tree => is_of_programs(last(&path)) || path == "/",
            _ => path == file || last(&path) == file && is_of_programs(parent),
        };
    }
    match written.kind {
        Kind::Tree => is_below(&path, &file, directories),
        _ if path == file => true,
        _ => {
            let is_exact = |path: &str| path.starts_with('/') && !path.contains(EXPANDED);
            !(is_exact(&path) && is_exact(&file) || is_alone(&path) || is_alone(&file)) && last(&path) == last(&file)
        }
    }
}

/// True for the name of a directory of programs, or one that has some.
fn is_of_programs(name: &str) -> bool {
    ["bin", "sbin", "usr", "local"].contains(&name)
}

/// True if a file may lie below a directory.
fn is_below(directory: &str, file: &str, directories: &[String]) -> bool {
    let directory = directory.trim_end_matches('/');
    let is_here = directory == "." || directory.is_empty();
    let goes_there = |to: &String| {
        let to = normalized(to);
        is_here || to.contains(EXPANDED) || last(&to) == last(directory) || to.starts_with(directory)
    };
    if is_relative(file) {
        return is_here || !directory.starts_with('/') || directories.iter().any(goes_there);
    }
    if is_alone(file) {
        return true;
    }
    if is_here {
        return directories.iter().any(|to| file.starts_with(normalized(to).trim_end_matches('/')));
    }
    file.split('/').rev().skip(1).any(|part| part == last(directory))
}

/// Values in the files that a script writes, and the files that it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::pack::import) struct Files {
    pub(super) written: Vec<(Written, InFile)>,
    pub(super) runs: Vec<Run>,
    pub(super) directories: Vec<String>,
}

/// Values in a file, but for those that the author lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InFile {
    /// In its text, with the limits of their schemas.
    pub(super) parts: Vec<(usize, Limit)>,
    /// Where its text begins.
    pub(super) firsts: Vec<usize>,
    /// Choosing its text.
    pub(super) chosen: Vec<usize>,
}

impl InFile {
    pub(super) fn new(parts: &[usize], firsts: &[usize], chosen: &[usize], values: &[ScriptValue]) -> InFile {
        let unlisted = |indices: &[usize]| -> Vec<usize> {
            indices.iter().copied().filter(|index| !values[*index].listed).collect()
        };
        let parts = unlisted(parts).into_iter().map(|index| (index, values[index].limit)).collect();
        InFile { parts, firsts: unlisted(firsts), chosen: unlisted(chosen) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_file_are_told() {
        let run =
            |path: &str, is_program| Run { path: path.to_owned(), is_program, limit: Limit::Path, input: Input::Shell };
        for (kind, written, runs, is_program, wanted) in [
            (Kind::Text, "a.sh", "./a.sh", true, true),
            (Kind::Text, "a.sh", "/tmp/a.sh", false, true),
            (Kind::Text, "/opt/a.sh", "/tmp/a.sh", false, false),
            (Kind::Text, "/etc/nginx", "nginx", true, false),
            (Kind::Copy, "/usr/local/bin/app", "app", true, true),
            (Kind::Copy, "\u{1}DIR/a.sh", "/tmp/a.sh", false, true),
            (Kind::Copy, "\u{1}F", "\u{1}F", false, true),
            (Kind::Copy, "\u{1}F", "\u{1}G", false, false),
            (Kind::Tree, ".", "./install.sh", true, true),
            (Kind::Tree, "/opt/app", "/opt/app/bin/run.sh", false, true),
            (Kind::Tree, "/srv/www", "/opt/run.sh", false, false),
            (Kind::Tree, "/srv/www", "run.sh", false, false),
            (Kind::Tree, "/", "app", true, true),
        ] {
            let written = Written { path: written.to_owned(), kind };
            assert_eq!(is_run(&written, &run(runs, is_program), &[]), wanted, "{written:?} {runs:?}");
        }
        let tree = Written { path: "/opt/app".to_owned(), kind: Kind::Tree };
        assert!(is_run(&tree, &run("./run.sh", true), &["/opt/app".to_owned()]));
    }
}
