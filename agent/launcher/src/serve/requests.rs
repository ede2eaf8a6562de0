//! One client: frames in, replies out. Reads never wait; a frame that is not one means that the api is broken or no
//! longer itself.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use packs_schema::agent::launch::{MAX_FRAME, Operation, Outcome, Refusal, Reply, RequestError, read_request};

use crate::host::Host;
use crate::{kill, log, start};

/// How long a client may take to read a reply.
const REPLY_PATIENCE: Duration = Duration::from_secs(5);
/// What is read at once, and kept of the buffer at rest.
const CHUNK: usize = 16 << 10;

/// Why there is no client any more.
#[derive(Debug)]
pub(crate) enum Gone {
    Closed,
    Broken(String),
}

pub(crate) struct Client {
    socket: UnixStream,
    /// What has come of a frame.
    buffer: Vec<u8>,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Client {
    pub(crate) fn new(socket: UnixStream) -> Client {
        let _ = socket.set_write_timeout(Some(REPLY_PATIENCE));
        Client { socket, buffer: Vec::new() }
    }

    /// Reads what there is, and answers every request in it. Sets `sync` when one asks for the sync.
    pub(crate) fn take(&mut self, host: &Host, sync: &mut bool) -> Result<(), Gone> {
        let mut chunk = [0; CHUNK];
        let read = match recv(self.socket.as_raw_fd(), &mut chunk, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err(Gone::Closed),
            Ok(read) => read,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(Errno::ECONNRESET) => return Err(Gone::Closed),
            Err(e) => return Err(Gone::Broken(format!("it cannot be read: {e}"))),
        };
        self.buffer.extend_from_slice(&chunk[..read]);
        // Parameters may be secret: they are not left lying in memory that later shims share.
        chunk[..read].fill(0);
        while let Some(length) = frame_length(&self.buffer)? {
            let request = read_request(&self.buffer[4..4 + length]);
            self.buffer[4..4 + length].fill(0);
            self.buffer.drain(..4 + length);
            let reply = match request {
                Ok(request) => Reply { seq: request.seq, outcome: answer(host, &request.operation, sync) },
                Err(RequestError::Unsupported { seq }) => Reply { seq, outcome: unsupported() },
                Err(RequestError::Broken { column }) => {
                    return Err(Gone::Broken(format!("a request cannot be read (column {column})")));
                }
            };
            self.reply(&reply)?;
        }
        if self.buffer.is_empty() && self.buffer.capacity() > CHUNK {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn reply(&mut self, reply: &Reply) -> Result<(), Gone> {
        let json = serde_json::to_vec(reply).expect("a reply serialises");
        let length = u32::try_from(json.len()).expect("a reply is short");
        let mut frame = length.to_le_bytes().to_vec();
        frame.extend_from_slice(&json);
        self.socket.write_all(&frame).map_err(|e| Gone::Broken(format!("it takes no reply: {e}")))
    }
}

/// The length of the first frame's JSON, once all of it is there.
fn frame_length(buffer: &[u8]) -> Result<Option<usize>, Gone> {
    let Some(header) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*header) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(Gone::Broken(format!("a frame of {length} bytes; at most {MAX_FRAME} are taken")));
    }
    Ok((buffer.len() >= 4 + length).then_some(length))
}

/// To an api that is newer than this launcher, until the service is restarted.
fn unsupported() -> Outcome {
    let message = format!(
        "this launcher ({}) does not know what it was asked: restart the service bolt-launch, whose binary is newer by now",
        env!("CARGO_PKG_VERSION")
    );
    log::warn("refused", &[("code", &"Unsupported"), ("reason", &message)]);
    Outcome::Refused { code: Refusal::Unsupported, message }
}

fn answer(host: &Host, operation: &Operation, sync: &mut bool) -> Outcome {
    let (what, execution, done) = match operation {
        Operation::Start(asked) => ("start", asked.execution.as_str(), start::start(host, asked).map(Some)),
        Operation::Accept(asked) => {
            ("accept", asked.execution.as_str(), host.accepted.record(host, asked).map(|()| None))
        }
        Operation::Kill { execution } => ("kill", execution.as_str(), kill::kill(host, execution).map(|()| None)),
        Operation::Sync => {
            *sync = true;
            return Outcome::Done;
        }
    };
    match done {
        Ok(shim) => {
            let shim = shim.map_or_else(String::new, |pid| pid.to_string());
            log::info(what, &[("execution", &execution), ("shim", &shim)]);
            Outcome::Done
        }
        Err(refused) => {
            let code = format!("{:?}", refused.code);
            log::warn(
                "refused",
                &[("request", &what), ("execution", &execution), ("code", &code), ("reason", &refused.message)],
            );
            Outcome::Refused { code: refused.code, message: refused.message }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_when_it_is_whole() {
        assert!(matches!(frame_length(&[5, 0, 0]), Ok(None)));
        assert!(matches!(frame_length(&[2, 0, 0, 0, b'{']), Ok(None)));
        assert!(matches!(frame_length(&[2, 0, 0, 0, b'{', b'}', 9]), Ok(Some(2))));
        assert!(frame_length(&[0, 0, 0, 0]).is_err());
        assert!(frame_length(&[255, 255, 255, 255]).is_err());
    }
}
