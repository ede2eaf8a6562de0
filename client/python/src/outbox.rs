//! Messages of an operation to Python, and what Python still wants of the operation.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Message to Python: a JSON object, and the output of an instance.
pub(crate) struct Message {
    pub(crate) text: String,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Messages to Python, and the socket that says when there are new ones.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    announce: UnixStream,
}

#[derive(Default)]
struct Queue {
    /// Messages that Python has not yet said to have handled.
    messages: VecDeque<Message>,
    /// Number of messages that were handled.
    handled: u64,
    /// True if a byte is in the socket.
    is_announced: bool,
}

impl Outbox {
    /// Returns an outbox, and the socket from which its announcements are read.
    pub(crate) fn new() -> io::Result<(Outbox, UnixStream)> {
        let (announced, announce) = UnixStream::pair()?;
        announced.set_nonblocking(true)?;
        announce.set_nonblocking(true)?;
        Ok((Outbox { queue: Mutex::default(), announce }, announced))
    }

    /// Sends a message without output.
    pub(crate) fn send(&self, message: &Value) {
        self.send_with(message, Vec::new(), Vec::new());
    }

    /// Sends a message with output.
    pub(crate) fn send_with(&self, message: &Value, stdout: Vec<u8>, stderr: Vec<u8>) {
        let message = Message { text: message.to_string(), stdout, stderr };
        let mut queue = lock(&self.queue);
        queue.messages.push_back(message);
        if !std::mem::replace(&mut queue.is_announced, true) {
            // Fails when Python has dropped the operation.
            let _ = (&self.announce).write(&[1]);
        }
    }

    /// Calls `read` with the messages after the first `handled` ones, and forgets those. Takes the announcement out of `announced`.
    pub(crate) fn take<T>(&self, handled: u64, mut announced: &UnixStream, read: impl FnMut(&Message) -> T) -> Vec<T> {
        let mut queue = lock(&self.queue);
        if std::mem::take(&mut queue.is_announced) {
            let _ = announced.read(&mut [0; 8]);
        }
        while queue.handled < handled && queue.messages.pop_front().is_some() {
            queue.handled += 1;
        }
        queue.messages.iter().map(read).collect()
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far the caller has stopped an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Not at all.
    Going,
    /// Nothing more starts; the end of what runs is waited for.
    Stopping,
    /// The call returns without waiting.
    GivenUp,
}
