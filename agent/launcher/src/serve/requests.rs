//! The connection to one client: request frames in, reply frames out. Reads do not block. An invalid frame means that the api is
//! faulty or compromised; the connection is then closed.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use packs_schema::agent::launch::{
    InvalidLength, MAX_FRAME, Operation, Outcome, Refusal, Reply, Request, RequestError, RequestStream,
};

use crate::host::Host;
use crate::refusal::Refused;
use crate::{accept, kill, log, start};

/// Maximum time to write a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum bytes of one read, and capacity of the buffer that is kept between requests.
const CHUNK: usize = 16 << 10;

/// Error returned when the connection has ended.
#[derive(Debug)]
pub(crate) enum Disconnected {
    /// Closed by the client.
    Closed,
    /// Failed, or the client sent an invalid frame.
    Failed(String),
}

pub(crate) struct Client {
    socket: UnixStream,
    requests: RequestStream,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Client {
    pub(crate) fn new(socket: UnixStream) -> Client {
        let _ = socket.set_write_timeout(Some(REPLY_TIMEOUT));
        Client { socket, requests: RequestStream::default() }
    }

    /// Reads the available bytes and answers every complete request. Sets `sync_requested` when one requests a sync.
    pub(crate) fn serve(&mut self, host: &Host, sync_requested: &mut bool) -> Result<(), Disconnected> {
        if !self.receive()? {
            return Ok(());
        }
        while let Some(request) = self.requests.next_request().map_err(invalid_length)? {
            let reply = match request {
                Ok(Request { seq, operation: Operation::Prepare(start), .. }) => match start::prepare(host, *start) {
                    Ok(()) => continue,
                    // Not logged: its start is, and is refused for the same reason.
                    Err(Refused { code, message }) => Reply { seq, outcome: Outcome::Refused { code, message } },
                },
                Ok(request) => Reply { seq: request.seq, outcome: answer(host, &request.operation, sync_requested) },
                Err(RequestError::Unsupported { seq }) => Reply { seq, outcome: unsupported() },
                Err(RequestError::Broken { column }) => {
                    return Err(Disconnected::Failed(format!("invalid request (column {column})")));
                }
            };
            self.reply(&reply)?;
        }
        self.requests.shrink(CHUNK);
        Ok(())
    }

    /// Reads the available bytes, at most [`CHUNK`], into the buffer; false if there are none. A function of its own, so that the chunk
    /// is not on the stack of the shims that requests fork: each would have a copy.
    #[inline(never)]
    fn receive(&mut self) -> Result<bool, Disconnected> {
        let mut chunk = [0; CHUNK];
        let read = match recv(self.socket.as_raw_fd(), &mut chunk, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err(Disconnected::Closed),
            Ok(read) => read,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            Err(Errno::ECONNRESET) => return Err(Disconnected::Closed),
            Err(e) => return Err(Disconnected::Failed(format!("cannot read from its socket: {e}"))),
        };
        self.requests.push(&chunk[..read]);
        // Parameters may be secret: overwrite them, because shims share this memory.
        chunk[..read].fill(0);
        Ok(true)
    }

    fn reply(&mut self, reply: &Reply) -> Result<(), Disconnected> {
        let json = serde_json::to_vec(reply).expect("a reply serialises");
        let length = u32::try_from(json.len()).expect("a reply is short");
        let mut frame = length.to_le_bytes().to_vec();
        frame.extend_from_slice(&json);
        self.socket.write_all(&frame).map_err(|e| Disconnected::Failed(format!("cannot write a reply: {e}")))
    }
}

fn invalid_length(InvalidLength(length): InvalidLength) -> Disconnected {
    Disconnected::Failed(format!("frame of {length} bytes; the maximum is {MAX_FRAME}"))
}

/// Returns the refusal of a request of a later format, from an api that is newer than this launcher.
fn unsupported() -> Outcome {
    let message = format!(
        "this launcher ({}) does not support the request: restart the service bolt-launch to run the installed newer version",
        env!("CARGO_PKG_VERSION")
    );
    log::warn("refused", &[("code", &"Unsupported"), ("reason", &message)]);
    Outcome::Refused { code: Refusal::Unsupported, message }
}

fn answer(host: &Host, operation: &Operation, sync_requested: &mut bool) -> Outcome {
    let (request, execution, result) = match operation {
        Operation::Start(start) => ("start", start.execution.as_str(), start::start(host, start).map(Some)),
        Operation::Accept(start) => ("accept", start.execution.as_str(), accept::accept(host, start).map(|()| None)),
        Operation::Kill { execution } => ("kill", execution.as_str(), kill::kill(host, execution).map(|()| None)),
        // Served above.
        Operation::Prepare(_) => return Outcome::Done,
        Operation::Sync => {
            *sync_requested = true;
            return Outcome::Done;
        }
    };
    match result {
        Ok(shim) => {
            let shim = shim.map_or_else(String::new, |pid| pid.to_string());
            log::info(request, &[("execution", &execution), ("shim", &shim)]);
            Outcome::Done
        }
        Err(refused) => {
            let code = format!("{:?}", refused.code);
            log::warn(
                "refused",
                &[("request", &request), ("execution", &execution), ("code", &code), ("reason", &refused.message)],
            );
            Outcome::Refused { code: refused.code, message: refused.message }
        }
    }
}
