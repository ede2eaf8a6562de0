//! Native half of the Python package `bolt_fleet`: operations of Bolt's client library, each carried out by a thread of its own.
//!
//! ```text
//!  Python: a call as JSON ──begin──▶ Operation ──thread──▶ bolt_client::runner on the shared runtime
//!            poll(fileno), take ◀── queue of messages (JSON, output) ◀── progress, results, the end
//! ```
//!
//! Messages wait in a queue, and a byte in a socket says that there are some: Python waits for it with `poll` or an event loop.
//! No thread of this library ever calls Python, so that the interpreter may end at any time.
//!
//! Must never: wait while the interpreter lock is held, or use the runtime of another process after a fork.

mod arguments;
mod choose;
mod fault;
mod operation;
mod outbox;
mod report;
mod runtime;
mod work;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use operation::Operation;

pyo3::create_exception!(_native, ForkError, pyo3::exceptions::PyRuntimeError);

/// Begins an operation. `call` is a JSON object: see `arguments::Call`.
#[pyfunction]
fn begin(call: &str) -> PyResult<Operation> {
    // The message of serde_json may quote the text, which may hold secrets.
    let call = serde_json::from_str(call)
        .map_err(|error| PyValueError::new_err(format!("not a call (column {})", error.column())))?;
    let handle = runtime::handle().map_err(|forked| ForkError::new_err(forked.to_string()))?;
    Operation::begin(call, handle).map_err(|error| pyo3::exceptions::PyOSError::new_err(error.to_string()))
}

/// Operations of Bolt's client library.
#[pymodule]
#[pyo3(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("ForkError", module.py().get_type::<ForkError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Operation>()?;
    module.add_function(wrap_pyfunction!(begin, module)?)
}
