//! The user's terminal: whether there is one, its width, questions, and a reader that went away.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

/// The exit code of a program that SIGPIPE ended, as a shell shows it.
pub(super) const BROKEN_PIPE: i32 = 141;

/// Ends the process quietly when standard output has no reader any more (`bolt ps | head -1`). Rust ignores
/// SIGPIPE, so that printing panics instead; taking the signal's default back would need unsafe code.
pub fn end_quietly_without_a_reader() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to std") && message.contains("Broken pipe") {
            std::process::exit(BROKEN_PIPE);
        }
        before(panic);
    }));
}

/// The width of standard output, when it is a terminal.
pub(super) fn width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// True if a person can be asked.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question; anything but `y` or `yes` is no.
pub(super) fn confirm(question: &str) -> io::Result<bool> {
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a secret, without showing what is typed.
pub(super) fn ask_secret(prompt: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let shown = tcgetattr(stdin.as_fd())?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    eprint!("{prompt}: ");
    io::stderr().flush()?;
    tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &hidden)?;
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &shown)?;
    eprintln!();
    read?;
    let end = answer.trim_end_matches(['\r', '\n']).len();
    answer.truncate(end);
    Ok(answer)
}
