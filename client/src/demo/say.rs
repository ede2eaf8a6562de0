//! What the demo says. A reader who went away (`bolt demo | head`) is no reason to leave a fleet behind.

use std::io::Write as _;

use crate::show::Escaped;

/// Prints a line; that nobody reads it shows as a signal, which [`super::interrupt`] turns into an orderly end.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{}", Escaped(format_args!("{line}")));
}
