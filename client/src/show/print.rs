//! The only way to standard output and standard error. Escapes control characters, so that text of others does not act on a terminal.
//!
//! [`outln`], [`out`], [`errln`] and [`err`] take the arguments of `println`. Whatever a value contains (a file name from an
//! archive, an error of a library, text of an instance), only its line breaks and tabs take effect. The lints
//! `print_stdout` and `print_stderr` forbid the standard macros elsewhere. Pass a value that must stay on one line through
//! [`super::visible`] or [`super::path`] first.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use super::clean;

/// Displays its arguments with all characters escaped that act on a terminal, except line breaks and tabs.
pub struct Escaped<'a>(pub fmt::Arguments<'a>);

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&clean(text, true))
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaping(f).write_fmt(self.0)
    }
}

/// Prints to standard output, escaped.
#[expect(clippy::print_stdout, reason = "the only module that prints")]
pub fn stdout(text: fmt::Arguments<'_>) {
    print!("{}", Escaped(text));
}

/// Prints to standard output, escaped; an error when it is closed or full.
pub fn try_stdout(text: fmt::Arguments<'_>) -> io::Result<()> {
    write!(io::stdout(), "{}", Escaped(text))
}

/// Prints to standard error, escaped; an error when it is closed or full.
pub fn try_stderr(text: fmt::Arguments<'_>) -> io::Result<()> {
    write!(io::stderr(), "{}", Escaped(text))
}

/// Prints to standard error, escaped.
#[expect(clippy::print_stderr, reason = "the only module that prints")]
pub fn stderr(text: fmt::Arguments<'_>) {
    eprint!("{}", Escaped(text));
}

/// Prints an escape sequence, such as a colour, to standard output.
#[expect(clippy::print_stdout, reason = "the only module that prints")]
pub fn style(sequence: &'static str) {
    print!("{sequence}");
}

/// `println`, escaped.
#[macro_export]
macro_rules! outln {
    () => { $crate::show::stdout(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::show::stdout(format_args!("{}\n", format_args!($($argument)*))) };
}

/// `print`, escaped.
#[macro_export]
macro_rules! out {
    ($($argument:tt)*) => { $crate::show::stdout(format_args!($($argument)*)) };
}

/// `eprintln`, escaped.
#[macro_export]
macro_rules! errln {
    () => { $crate::show::stderr(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::show::stderr(format_args!("{}\n", format_args!($($argument)*))) };
}

/// `eprint`, escaped.
#[macro_export]
macro_rules! err {
    ($($argument:tt)*) => { $crate::show::stderr(format_args!($($argument)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_an_argument_holds_only_lines_and_tabs_act() {
        let hostile = "\x1b[2Jx\r\u{202e}\u{9b}";
        let shown = Escaped(format_args!("{hostile}\t{:?}\n{hostile}", 'c')).to_string();
        assert_eq!(shown, "\\x1b[2Jx\\r\\u{202e}\\u{9b}\t'c'\n\\x1b[2Jx\\r\\u{202e}\\u{9b}");
    }
}
