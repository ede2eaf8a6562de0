//! Transfer of jobs from the launcher to a shim, over the socket pair that the two share.
//!
//! ```text
//!  launcher ── a job that is claimed; or one that is prepared, with the pipe on which its process waits ──▶ shim
//!           ── for a prepared one: its claim, or that there will be none ──▶
//!           ◀── one byte: idle again ──
//! ```
//!
//! Each message is: length of its JSON · length of stdin · JSON · stdin. The descriptors come with the first bytes.
//!
//! A shim acts on a complete message only. The launcher closes the socket of a shim that took a part, so that an execution is never
//! started by a shim whose launcher has given up on it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, recv, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::job::{Claim, Job, JobNames, Plan, UnclaimedJob};
use super::wipe::wipe;
use crate::sys;

/// Length of the two lengths, in bytes.
const HEADER: usize = 8;
/// Maximum number of descriptors of a message: those of a job and of its claim.
const MAX_FDS: usize = UnclaimedJob::MAX_FDS + Claim::FDS;
/// Byte by which a shim reports that it is idle.
const IDLE: u8 = b'i';

/// A job, as it is sent.
#[derive(Serialize)]
struct SentJob<'a> {
    plan: &'a Plan,
    names: JobNames,
    /// The directory of the claimed execution; absent if it is only prepared.
    directory: Option<PathBuf>,
}

#[derive(Deserialize)]
struct ReceivedJob {
    plan: Plan,
    names: JobNames,
    directory: Option<PathBuf>,
}

/// The claim of a prepared execution and its start; absent if it is not started.
type ClaimMessage = Option<(PathBuf, Clock)>;

/// A job that a shim has received.
pub(super) enum Order {
    Start(Job),
    /// The process waits on the pipe for a byte before it executes its program.
    Prepare(UnclaimedJob, OwnedFd),
}

/// Sends a job. After an error, the shim may have received a part of it.
pub(crate) fn send(socket: &UnixStream, job: &Job) -> io::Result<()> {
    let handles = &job.handles;
    let directory = Some(handles.directory.path().to_owned());
    let message = SentJob { plan: &job.plan, names: handles.names(), directory };
    let descriptors: Vec<BorrowedFd<'_>> =
        handles.claim_descriptors().into_iter().chain(handles.descriptors()).collect();
    send_message(socket, &message, &job.stdin, &descriptors)
}

/// Sends a job that is not claimed yet, and the pipe on which its process waits.
pub(crate) fn send_prepared(socket: &UnixStream, job: &UnclaimedJob, go: BorrowedFd<'_>) -> io::Result<()> {
    let message = SentJob { plan: &job.plan, names: job.names(), directory: None };
    let descriptors: Vec<BorrowedFd<'_>> = job.descriptors().into_iter().chain([go]).collect();
    send_message(socket, &message, &job.stdin, &descriptors)
}

/// Sends the claim of a prepared job.
pub(crate) fn send_claim(socket: &UnixStream, claim: &Claim, clock: Clock) -> io::Result<()> {
    let message: ClaimMessage = Some((claim.directory.path().to_owned(), clock));
    send_message(socket, &message, &[], &claim.descriptors())
}

/// Tells the shim that its prepared job is not started.
pub(crate) fn send_cancellation(socket: &UnixStream) -> io::Result<()> {
    send_message(socket, &ClaimMessage::None, &[], &[])
}

fn send_message(
    socket: &UnixStream,
    message: &impl Serialize,
    stdin: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)?;
    let length = |length: usize| u32::try_from(length).map_err(io::Error::other);
    let lengths = (length(bytes.len() - HEADER)?, length(stdin.len())?);
    bytes[..4].copy_from_slice(&lengths.0.to_le_bytes());
    bytes[4..HEADER].copy_from_slice(&lengths.1.to_le_bytes());
    bytes.extend_from_slice(stdin);
    let descriptors: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let sent = send_all(socket, &bytes, &descriptors);
    wipe(&mut bytes);
    sent
}

fn send_all(socket: &UnixStream, bytes: &[u8], descriptors: &[i32]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &[] } else { &rights[..] };
    let sent = loop {
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, None) {
            Err(Errno::EINTR) => {}
            sent => break sent?,
        }
    };
    let mut socket = socket;
    socket.write_all(&bytes[sent..])
}

/// Receives a job; waits for the rest once the first bytes have arrived. `None` when the launcher has closed the socket.
pub(super) fn receive(socket: &UnixStream) -> Option<Order> {
    let (ReceivedJob { plan, names, directory }, stdin, descriptors) = receive_message(socket)?;
    let mut left = descriptors.into_iter();
    let claim = match directory {
        Some(directory) => Some(Claim::join(directory, &mut left)?),
        None => None,
    };
    let job = UnclaimedJob::join(plan, stdin, names, &mut left)?;
    let order = match claim {
        Some(claim) => Order::Start(job.claimed(claim)),
        None => Order::Prepare(job, left.next()?),
    };
    left.next().is_none().then_some(order)
}

/// Receives what becomes of a prepared job: its claim, or `None` within if it is not started. `None` when the launcher has closed
/// the socket.
pub(super) fn receive_claim(socket: &UnixStream) -> Option<Option<(Claim, Clock)>> {
    let (message, _, descriptors) = receive_message::<ClaimMessage>(socket)?;
    let Some((directory, clock)) = message else { return Some(None) };
    let claim = Claim::join(directory, &mut descriptors.into_iter())?;
    Some(Some((claim, clock)))
}

fn receive_message<T: DeserializeOwned>(socket: &UnixStream) -> Option<(T, Vec<u8>, Vec<OwnedFd>)> {
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    let mut header = [0; HEADER];
    let mut have = 0;
    while have < HEADER {
        let read = receive_some(socket, &mut header[have..], &mut descriptors).ok().filter(|read| *read > 0)?;
        have += read;
    }
    let [length, stdin] = [0, 4].map(|at| {
        let bytes = header[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    });
    let mut bytes = vec![0; length];
    let mut reader = socket;
    reader.read_exact(&mut bytes).ok()?;
    let message = serde_json::from_slice(&bytes);
    wipe(&mut bytes);
    let mut stdin = vec![0; stdin];
    reader.read_exact(&mut stdin).ok()?;
    Some((message.ok()?, stdin, descriptors))
}

fn receive_some(socket: &UnixStream, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> nix::Result<usize> {
    let mut space = cmsg_space!([i32; MAX_FDS]);
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
