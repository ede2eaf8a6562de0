//! An operation: its thread, and the handle that Python has.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use bolt_client::fleet::Control;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::ForkError;
use crate::arguments::Call;
use crate::fault::Fault;
use crate::outbox::{Message, Outbox, Stage};
use crate::runtime;
use crate::work::carry_out;

/// A [`Message`] as Python gets it.
type Taken<'py> = (String, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// Caller's half of an operation.
struct Shared {
    outbox: Arc<Outbox>,
    announced: UnixStream,
    control: Control,
    stage: watch::Sender<Stage>,
}

impl Shared {
    /// Goes on to a stage; never back to an earlier one.
    fn reach(&self, stage: Stage) {
        self.stage.send_modify(|now| *now = stage.max(*now));
    }
}

/// Operation that goes on in a thread.
#[pyclass(module = "bolt_fleet._native", frozen)]
pub(crate) struct Operation {
    /// Taken only when this is dropped.
    shared: Option<Shared>,
}

impl Operation {
    pub(crate) fn begin(call: Call, handle: Handle) -> io::Result<Operation> {
        let (outbox, announced) = Outbox::new()?;
        let outbox = Arc::new(outbox);
        let (control, stage) = (Control::default(), watch::Sender::new(Stage::Going));
        let listener = stage.subscribe();
        let shared = Shared { outbox: outbox.clone(), announced, control: control.clone(), stage };
        thread::Builder::new().name("bolt-fleet-call".to_owned()).spawn(move || {
            runtime::block_signals();
            let work = || handle.block_on(carry_out(call, &outbox, &control, listener));
            let end = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Fault::panicked()));
            outbox.send(&match end {
                Ok(value) => json!({ "end": value }),
                Err(fault) => json!({ "fault": fault }),
            });
        })?;
        Ok(Operation { shared: Some(shared) })
    }

    fn usable(&self) -> PyResult<&Shared> {
        runtime::check().map_err(|forked| ForkError::new_err(forked.to_string()))?;
        Ok(self.shared.as_ref().expect("taken only when this is dropped"))
    }
}

#[pymethods]
impl Operation {
    /// Returns a descriptor that is readable when there are messages.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.usable()?.announced.as_raw_fd())
    }

    /// Returns the messages after the first `handled` ones: each a JSON object, and the output of an instance. A message is kept
    /// until a later call says that it was handled: an exception, such as that of a signal, may come at any moment.
    fn take<'py>(&self, py: Python<'py>, handled: u64) -> PyResult<Vec<Taken<'py>>> {
        let shared = self.usable()?;
        let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
        let read = |one: &Message| (one.text.clone(), bytes(&one.stdout), bytes(&one.stderr));
        Ok(shared.outbox.take(handled, &shared.announced, read))
    }

    /// Stops further starts; the operation ends when what was started has ended.
    fn stop(&self) -> PyResult<()> {
        let shared = self.usable()?;
        shared.control.stop();
        shared.reach(Stage::Stopping);
        Ok(())
    }

    /// Ends the operation at once; executions that were started go on.
    fn give_up(&self) -> PyResult<()> {
        self.usable()?.reach(Stage::GivenUp);
        Ok(())
    }

    /// Answers the question whether the next batch may begin.
    fn confirm(&self, may_begin: bool) -> PyResult<()> {
        self.usable()?.control.confirm(may_begin);
        Ok(())
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // In a forked child nothing is dropped: a lock may be held by a thread that it does not have.
        let shared = self.shared.take();
        match runtime::check() {
            Ok(()) => shared.iter().for_each(|shared| shared.reach(Stage::GivenUp)),
            Err(_) => std::mem::forget(shared),
        }
    }
}
