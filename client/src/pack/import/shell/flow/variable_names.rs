//! Readers of code to which a word may be the name of a variable, which they evaluate.

use crate::pack::import::shell::{manages_services, readers};

/// Readers that take a word for what it is, or assign a variable and evaluate none.
const HARMLESS: &[&str] = &[
    "[",
    "[[",
    "test",
    "read",
    "mapfile",
    "readarray",
    "unset",
    "getopts",
    "printf",
    "wait",
    "git",
    "nmap",
    "export",
    "declare",
    "local",
    "typeset",
    "readonly",
];

/// True for a reader to which a word of code may be the name of a variable.
pub(super) fn reads_names(reader: &str) -> bool {
    let is_other = readers::grammar(reader).is_some_and(|grammar| !grammar.shell && !grammar.names.is_empty());
    !(is_other || manages_services(reader) || HARMLESS.contains(&reader) || reader.starts_with("an option of "))
}
