//! `bolt-launch serve --attach` with us as its one client.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use packs_schema::agent::execution::{self, file};
use packs_schema::agent::launch::{MAX_FRAME, Operation, Outcome, Reply, Request};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::TestError;
use super::layout::Layout;
use crate::local::LocalError;

/// Between two looks for the exit record.
const INTERVAL: Duration = Duration::from_millis(20);
/// Time in which the launcher must answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Maximum size of an exit record: a result of 64 KiB and the fields around it.
const MAX_EXIT: u64 = 1 << 20;

/// Signals by which a user stops the test; without a handler the action would run until its time-out.
pub(super) struct Stop {
    signals: [Signal; 3],
}

impl Stop {
    pub(super) fn listen() -> std::io::Result<Stop> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Stop { signals: [interrupt?, terminate?, hangup?] })
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The launcher; it ends when this is dropped.
pub(super) struct Launcher {
    child: Child,
    socket: Option<UnixStream>,
    log: PathBuf,
}

impl Launcher {
    pub(super) fn start(layout: &Layout) -> Result<Launcher, TestError> {
        let program = program()?;
        let failed = TestError::io("start the launcher");
        let made = || -> std::io::Result<Launcher> {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_read_timeout(Some(PATIENCE))?;
            let log = File::create(layout.log())?;
            let mut command = Command::new(program);
            command.args(["serve", "--attach", "--config"]).arg(layout.config());
            command.stdin(OwnedFd::from(theirs)).stdout(log.try_clone()?).stderr(log);
            // Ctrl-C is ours: it must reach the action as a kill, not the launcher as a signal.
            let child = command.process_group(0).spawn()?;
            Ok(Launcher { child, socket: Some(ours), log: layout.log() })
        };
        made().map_err(failed)
    }

    /// Asks once and takes the answer.
    pub(super) async fn ask(&mut self, ask: Operation) -> Result<(), TestError> {
        let reply = self.exchange(&Request::new(1, ask)).map_err(|e| self.failed(&format!("no answer: {e}")))?;
        match reply.outcome {
            Outcome::Done => Ok(()),
            Outcome::Refused { message, .. } => Err(TestError::Refused(message)),
        }
    }

    fn exchange(&mut self, request: &Request) -> std::io::Result<Reply> {
        let socket = self.socket.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        let json = serde_json::to_vec(request)?;
        let length = u32::try_from(json.len()).ok().filter(|length| *length as usize <= MAX_FRAME);
        let length = length.ok_or_else(|| std::io::Error::other("the parameters are too large"))?;
        let mut frame = length.to_le_bytes().to_vec();
        frame.extend_from_slice(&json);
        socket.write_all(&frame)?;
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(std::io::Error::other("the answer is too large"));
        }
        let mut json = vec![0; length];
        socket.read_exact(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// Waits for the exit record. A signal stops the execution; the second value says whether that was so.
    pub(super) async fn wait(
        &mut self,
        layout: &Layout,
        stop: &mut Stop,
    ) -> Result<(execution::Exit, bool), TestError> {
        let exit = layout.execution().join(file::EXIT);
        let mut interrupted = false;
        loop {
            match File::open(&exit) {
                Ok(file) => {
                    let mut json = Vec::new();
                    file.take(MAX_EXIT).read_to_end(&mut json).map_err(TestError::io("read the exit record"))?;
                    let exit = serde_json::from_slice(&json).map_err(|e| self.failed(&format!("exit record: {e}")))?;
                    return Ok((exit, interrupted));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(TestError::Io { what: "read the exit record", source: error }),
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("it ended ({status})")));
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.asked() => {
                    interrupted = true;
                    File::create(layout.execution().join(file::KILL)).map_err(TestError::io("stop the action"))?;
                }
            }
        }
    }

    fn failed(&self, problem: &str) -> TestError {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        TestError::Launcher { problem: problem.to_owned(), log }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // Without its client the launcher ends by itself; it is waited for, so that nothing of it is left.
        drop(self.socket.take());
        for _ in 0..250 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(INTERVAL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `$BOLT_LAUNCH`, or the launcher beside this program, one directory above (where cargo puts tests), or where the package of the
/// agent installs it.
fn program() -> Result<PathBuf, TestError> {
    if let Some(given) = std::env::var_os("BOLT_LAUNCH") {
        let given = PathBuf::from(given);
        return if given.is_file() { Ok(given) } else { Err(TestError::NoLauncher(given)) };
    }
    crate::local::binary("bolt-launch").map_err(|error| match error {
        LocalError::NoBinary(path) => TestError::NoLauncher(path),
        other => TestError::io("find the launcher")(std::io::Error::other(other)),
    })
}

/// True if there is a launcher to test with.
#[cfg(test)]
pub(super) fn available() -> bool {
    program().is_ok()
}
