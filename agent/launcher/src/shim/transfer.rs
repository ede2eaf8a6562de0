//! Transfer of jobs from the launcher to a shim, over the socket pair that the two share.
//!
//! ```text
//!  launcher ── length of the plan · length of stdin · plan (JSON) · stdin; with the first bytes, the descriptors ──▶ shim
//!           ◀── one byte: idle again ──
//! ```
//!
//! A shim acts on a complete job only. The launcher closes the socket of a shim that took a part, so that an execution is never
//! started by a shim whose launcher has given up on it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, recv, sendmsg};
use serde::{Deserialize, Serialize};

use super::job::{HandleNames, Handles, Job, Plan};
use super::wipe::wipe;
use crate::sys;

/// Length of the two lengths, in bytes.
const HEADER: usize = 8;
/// Byte by which a shim reports that it is idle.
const IDLE: u8 = b'i';

#[derive(Serialize)]
struct Sent<'a> {
    plan: &'a Plan,
    names: HandleNames,
}

#[derive(Deserialize)]
struct Received {
    plan: Plan,
    names: HandleNames,
}

/// Sends a job. After an error, the shim may have received a part of it.
pub(crate) fn send(socket: &UnixStream, job: &Job) -> io::Result<()> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, &Sent { plan: &job.plan, names: job.handles.names() })?;
    let length = |length: usize| u32::try_from(length).map_err(io::Error::other);
    let (plan, stdin) = (length(bytes.len() - HEADER)?, length(job.stdin.len())?);
    bytes[..4].copy_from_slice(&plan.to_le_bytes());
    bytes[4..HEADER].copy_from_slice(&stdin.to_le_bytes());
    bytes.extend_from_slice(&job.stdin);
    let descriptors: Vec<i32> = job.handles.descriptors().iter().map(AsRawFd::as_raw_fd).collect();
    let sent = send_all(socket, &bytes, &descriptors);
    wipe(&mut bytes);
    sent
}

fn send_all(socket: &UnixStream, bytes: &[u8], descriptors: &[i32]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let sent = loop {
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], &rights, flags, None) {
            Err(Errno::EINTR) => {}
            sent => break sent?,
        }
    };
    let mut socket = socket;
    socket.write_all(&bytes[sent..])
}

/// Receives a job; waits for the rest once the first bytes have arrived. `None` when the launcher has closed the socket.
pub(super) fn receive(socket: &UnixStream) -> Option<Job> {
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    let mut header = [0; HEADER];
    let mut have = 0;
    while have < HEADER {
        let read = receive_some(socket, &mut header[have..], &mut descriptors).ok().filter(|read| *read > 0)?;
        have += read;
    }
    let [plan, stdin] = [0, 4].map(|at| {
        let bytes = header[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    });
    let mut bytes = vec![0; plan];
    let mut reader = socket;
    reader.read_exact(&mut bytes).ok()?;
    let received = serde_json::from_slice::<Received>(&bytes);
    wipe(&mut bytes);
    let Received { plan, names } = received.ok()?;
    let mut stdin = vec![0; stdin];
    reader.read_exact(&mut stdin).ok()?;
    Some(Job { plan, stdin, handles: Handles::join(names, descriptors)? })
}

fn receive_some(socket: &UnixStream, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> nix::Result<usize> {
    let mut space = cmsg_space!([i32; Handles::MAX]);
    loop {
        match sys::receive_with_descriptors(socket, &mut [IoSliceMut::new(bytes)], &mut space) {
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
            Ok((read, received)) => {
                descriptors.extend(received);
                return Ok(read);
            }
        }
    }
}

/// Reports that this shim is idle; false if the launcher has ended.
pub(super) fn report_idle(mut socket: &UnixStream) -> bool {
    socket.write_all(&[IDLE]).is_ok()
}

/// Returns true if the shim has reported that it is idle.
pub(crate) fn take_idle_report(socket: &UnixStream) -> bool {
    let mut byte = [0];
    recv(socket.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT) == Ok(1) && byte == [IDLE]
}
