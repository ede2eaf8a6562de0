//! The user's terminal: whether there is one, its width, questions, and a reader that went away.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::failure::Exit;
use crate::{err, errln};

/// The exit code of a program that SIGPIPE ended, as a shell shows it.
pub(super) const BROKEN_PIPE: i32 = 141;

/// Ends the process when nothing can be printed any more: quietly without a reader (`bolt ps | head -1`), with
/// a sentence when the disk below it is full. Rust ignores SIGPIPE, so that printing panics instead; taking the
/// signal's default back would need unsafe code.
pub fn end_when_nothing_can_be_printed() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        match message.strip_prefix("failed printing to ") {
            Some(problem) if problem.contains("Broken pipe") => std::process::exit(BROKEN_PIPE),
            Some(problem) => {
                let _ = writeln!(io::stderr(), "bolt: cannot print to {problem}");
                std::process::exit(Exit::Storage as i32);
            }
            None => before(panic),
        }
    }));
}

/// The width of standard output, when it is a terminal.
pub(super) fn width() -> Option<usize> {
    size().map(|(width, _)| width)
}

/// Width and height of standard output, when it is a terminal.
pub(super) fn size() -> Option<(usize, usize)> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, height)| (width.0.into(), height.0.into()))
}

/// True if a person can be asked.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question; anything but `y` or `yes` is no. An interrupt is [`io::ErrorKind::Interrupted`].
pub(super) async fn confirm(question: &str) -> io::Result<bool> {
    err!("{question} [y/N] ");
    io::stderr().flush()?;
    let answer = line_or_interrupt().await?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a secret, without showing what is typed. An interrupt is [`io::ErrorKind::Interrupted`], and
/// leaves the terminal as it was.
pub(super) async fn ask_secret(prompt: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let shown = tcgetattr(stdin.as_fd())?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    err!("{prompt}: ");
    io::stderr().flush()?;
    tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &hidden)?;
    let read = line_or_interrupt().await;
    tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &shown)?;
    if read.is_ok() {
        errln!();
    }
    let mut answer = read?;
    let end = answer.trim_end_matches(['\r', '\n']).len();
    answer.truncate(end);
    Ok(answer)
}

/// A line of standard input. Once asked, an interrupt no longer ends the process by itself: it is an error here.
async fn line_or_interrupt() -> io::Result<String> {
    let read = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    tokio::select! {
        answer = read => answer.map_err(io::Error::other)?,
        heard = tokio::signal::ctrl_c() => {
            errln!();
            Err(heard.err().unwrap_or_else(|| io::ErrorKind::Interrupted.into()))
        }
    }
}
