//! Real servers for tests of packs: started on Unix sockets or loopback in a temporary directory, ended when dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Maximum time until a server is ready, or until what a test waits for has happened.
const PATIENCE: Duration = Duration::from_secs(60);

/// Process of a test; its output is read to the end so that it never waits for the test.
pub(crate) struct Server {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    reads_input: bool,
}

impl Server {
    /// Starts a program.
    pub(crate) fn start(mut command: Command) -> Server {
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::piped()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        drop(command);
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Server { child, lines, reads_input: false }
    }

    /// Says that the program ends at the end of its input.
    pub(crate) fn reads_input(mut self) -> Server {
        self.reads_input = true;
        self
    }

    /// Waits for its end, for some seconds.
    fn wait(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a line with this text.
    pub(crate) fn says(self, text: &str) -> Server {
        self.line(text);
        self
    }

    /// Waits for a line with this text, and returns it.
    pub(crate) fn line(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with {text:?} in:\n{}", seen.join("\n"));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input.
    pub(crate) fn write(&mut self, line: &str) {
        let input: &mut ChildStdin = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A program that reads its input ends by itself, and removes what it made; others get SIGTERM before they are killed: a
        // server that is killed leaves shared memory, sockets and children.
        drop(self.child.stdin.take());
        if self.reads_input {
            self.wait();
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Command::new("/bin/kill").args(["-TERM", &self.child.id().to_string()]).status();
            self.wait();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Repeats until there is a value.
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns a command that runs `program` as `account` if the tests run as root, and gives it the directory.
pub(crate) fn as_account(account: &str, program: &Path, directory: &Path) -> Command {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Command::new(program);
    }
    let id = |kind: &str| -> u32 {
        let output = Command::new("id").args([kind, account]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    let (uid, gid) = (id("-u"), id("-g"));
    chown(directory, Some(uid), Some(gid)).unwrap();
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]).arg(program);
    command.current_dir(directory);
    command
}
