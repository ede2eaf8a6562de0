//! Turns Ctrl-C, TERM, HUP and a closed pipe (PIPE) into a flag, so that the demo shuts down in order at any step.

use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::{Exit, Failure};

/// Set once a signal has asked the demo to end.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for the signals on a thread of its own, for as long as the process lives.
    pub(super) fn install() -> Result<Interrupt, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&flag);
        let fail = |e: std::io::Error| Failure::new(Exit::Failed, format!("cannot listen for signals: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        std::thread::Builder::new()
            .name("interrupt".into())
            .spawn(move || {
                runtime.block_on(async {
                    use tokio::signal::unix::{SignalKind, signal};
                    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::pipe()];
                    let [Ok(mut int), Ok(mut term), Ok(mut hup), Ok(mut pipe)] = kinds.map(signal) else { return };
                    loop {
                        tokio::select! { _ = int.recv() => {}, _ = term.recv() => {}, _ = hup.recv() => {}, _ = pipe.recv() => {} }
                        seen.store(true, Ordering::SeqCst);
                    }
                });
            })
            .map_err(fail)?;
        Ok(Interrupt(flag))
    }

    /// True once a signal came.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error once a signal came.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.is_set() { Err(Failure::new(Exit::Interrupted, "interrupted")) } else { Ok(()) }
    }

    /// Waits for a process; ends it when a signal comes.
    pub(super) fn wait(&self, child: &mut Child) -> Result<ExitStatus, Failure> {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return self.check().map(|()| status),
                Ok(None) if self.is_set() => {
                    if let Ok(pid) = i32::try_from(child.id()) {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                    }
                    drop(child.wait());
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(e) => return Err(Failure::new(Exit::Failed, format!("cannot wait for a command: {e}"))),
            }
        }
    }
}
