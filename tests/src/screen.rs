//! A terminal for the `bolt` command: a pseudo-terminal whose screen can be read as a person sees it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use rustix::termios::{Winsize, tcsetwinsize};

/// Time within which a screen must be as it is expected to be.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program on a terminal of its own.
pub struct Screen {
    child: Child,
    terminal: File,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

/// Screen as the program has written it.
struct Seen {
    parser: vt100::Parser,
    bytes: usize,
    has_ended: bool,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("child", &self.child).finish_non_exhaustive()
    }
}

impl Screen {
    /// Starts `command` on a terminal with this number of rows and columns. `TERM` and `NO_COLOR` are as `command` sets them, or those
    /// of a terminal with colours.
    pub fn start(mut command: Command, rows: u16, columns: u16) -> Screen {
        let pty = openpty(None, None).expect("a pseudo-terminal");
        tcsetwinsize(&pty.master, size(rows, columns)).expect("its size can be set");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        let has = |command: &Command, name: &str| command.get_envs().any(|(variable, _)| variable == name);
        if !has(&command, "TERM") {
            command.env("TERM", "xterm-256color");
        }
        if !has(&command, "NO_COLOR") {
            command.env_remove("NO_COLOR");
        }
        let child = command.spawn().expect("it can be run");
        // Holds copies of the terminal's end, which must be closed for its end to be seen.
        drop(command);
        drop(pty.slave);
        let terminal = File::from(pty.master);
        let parser = vt100::Parser::new(cells(rows), cells(columns), 0);
        let seen = Arc::new((Mutex::new(Seen { parser, bytes: 0, has_ended: false }), Condvar::new()));
        let (mut reading, shared) = (terminal.try_clone().expect("a descriptor"), seen.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            // Linux reports the end of the last process on the other end as an error.
            while let Ok(count @ 1..) = reading.read(&mut buffer) {
                let mut seen = lock(&shared.0);
                seen.parser.process(&buffer[..count]);
                seen.bytes += count;
                shared.1.notify_all();
            }
            lock(&shared.0).has_ended = true;
            shared.1.notify_all();
        });
        Screen { child, terminal, seen, reader: Some(reader) }
    }

    /// Returns the text on the screen, without blanks at the ends of its lines and empty lines at its end.
    pub fn text(&self) -> String {
        text(&lock(&self.seen.0))
    }

    /// Returns the number of bytes that the program has written.
    pub fn bytes(&self) -> usize {
        lock(&self.seen.0).bytes
    }

    /// True if any cell of the screen has a colour.
    pub fn is_colored(&self) -> bool {
        let seen = lock(&self.seen.0);
        let (rows, columns) = seen.parser.screen().size();
        let is_colored = |row, column| {
            seen.parser.screen().cell(row, column).is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
        };
        (0..rows.get()).any(|row| (0..columns.get()).any(|column| is_colored(row, column)))
    }

    /// Waits until the screen is as expected, and returns its text. Fails after a minute, or when the program has ended before.
    pub fn wait_until(&self, expected: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = lock(&self.seen.0);
        loop {
            let text = text(&seen);
            if expected(&text) {
                return text;
            }
            assert!(!seen.has_ended && Instant::now() < deadline, "the screen is not as expected:\n{text}");
            seen = self.seen.1.wait_timeout(seen, Duration::from_secs(1)).expect("no one panics with it").0;
        }
    }

    /// Waits until the program has ended, and returns its status and the last screen.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it was started");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        (status, self.text())
    }

    /// Types `text`.
    pub fn type_in(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).expect("the terminal takes it");
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, rows: u16, columns: u16) {
        lock(&self.seen.0).parser.screen_mut().set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.terminal, size(rows, columns)).expect("its size can be set");
    }

    /// Returns the id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("no one panics with it")
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a terminal has rows and columns")
}

fn text(seen: &Seen) -> String {
    let (_, columns) = seen.parser.screen().size();
    let rows: Vec<String> = seen.parser.screen().rows(0, columns.get()).map(|row| row.trim_end().to_owned()).collect();
    let last = rows.iter().rposition(|row| !row.is_empty()).map_or(0, |at| at + 1);
    rows[..last].join("\n")
}
