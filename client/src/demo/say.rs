//! Prints the story. A reader that went away (`bolt demo | head`) must not leave a fleet behind.

use std::io::Write as _;

use crate::show::Escaped;

/// Prints a line. A closed pipe shows as a signal, which [`super::interrupt`] turns into an orderly shutdown.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{}", Escaped(format_args!("{line}")));
}
