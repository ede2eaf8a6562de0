//! Execution directories of this host, read by root while no agent answers: what they say of executions, their output, and a kill.
//!
//! ```text
//!  /var/lib/bolt/exec/<id>/ ── spec, lock, started, exit, kill ──▶ Execution
//!                           ── output.log, tail.<s>.<n> ─────────▶ OutputChunk (see `output`)
//!                           ◀─ kill ── for the shim, or for the next api
//! ```
//!
//! The directories belong to the api's account, which is not trusted here: no link is followed, no pipe waited for, sizes are bounded,
//! and text reaches a terminal only through [`crate::show`]. Nothing is decided here about an execution that its shim has lost:
//! the agent does that when it runs again.

mod output;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use packs_schema::agent::execution::{Exit, FORMAT, Kill, Spec, Started, State, file, read_record};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ExecutionId, InstanceId, Principal};
use serde::de::DeserializeOwned;

use crate::confined_dir::ConfinedDir;

pub(crate) use output::OutputReader;

/// Maximum size of a record in bytes: parameters and result of 64 KiB each, which may be escaped.
const MAX_RECORD: u64 = 1 << 20;
/// Maximum number of directories that are read.
const MAX_DIRECTORIES: usize = 100_000;

/// Reason of an execution whose shim is gone without a record.
const SHIM_GONE: &str = "its shim is gone; the agent determines how it ended when it runs again";
/// Reason of an execution that has not started, with a request to kill it.
const KILL_WAITS: &str = "a kill is recorded: the agent ends it when it runs again";

/// The directory of all executions.
#[derive(Debug)]
pub(crate) struct ExecDirs {
    path: PathBuf,
    root: ConfinedDir,
    /// Instance that is named in the records.
    instance: InstanceId,
}

/// Error returned when an execution's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecDirError {
    #[error("there is no execution {0} in {1:?}")]
    Unknown(ExecutionId, PathBuf),
    #[error("cannot read {name} of execution {id}")]
    Read { id: ExecutionId, name: &'static str, source: io::Error },
    #[error("cannot read {name} of execution {id}: {problem}")]
    Damaged { id: ExecutionId, name: &'static str, problem: String },
    #[error("its output is archived, which only the agent reads")]
    Archived,
    #[error("execution {0} has already ended")]
    Ended(ExecutionId),
    #[error("cannot record the kill of execution {0}")]
    Kill(ExecutionId, #[source] io::Error),
}

impl ExecDirs {
    /// Opens the directory `exec` of a state directory.
    pub(crate) fn open(state: &Path, instance: InstanceId) -> io::Result<ExecDirs> {
        let path = state.join("exec");
        // The state directory belongs to the api's account, which could make `exec` a link.
        let root = ConfinedDir::open(&path)?;
        Ok(ExecDirs { path, root, instance })
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the ids of executions that have a directory, the newest first; at most [`MAX_DIRECTORIES`] of them.
    pub(crate) fn ids(&self) -> io::Result<Vec<ExecutionId>> {
        let names = self.root.entries(Path::new(""))?;
        let ids = names.into_keys().rev().filter_map(|name| ExecutionId::new(name).ok());
        Ok(ids.take(MAX_DIRECTORIES).collect())
    }

    /// Returns what the directory says of an execution.
    pub(crate) fn read(&self, id: &ExecutionId) -> Result<Execution, ExecDirError> {
        // The lock comes first: a shim writes `exit` before it releases the lock.
        let lock = self.lock(id)?;
        let Some(spec) = self.record::<Spec>(id, file::SPEC)? else {
            return Err(ExecDirError::Unknown(id.clone(), self.path.clone()));
        };
        if spec.id != *id {
            let problem = format!("it names execution {}", spec.id);
            return Err(ExecDirError::Damaged { id: id.clone(), name: file::SPEC, problem });
        }
        let started = self.record::<Started>(id, file::STARTED)?;
        let exit = self.record::<Exit>(id, file::EXIT)?;
        if let Some(other) = exit.as_ref().map(|exit| &exit.id).filter(|other| *other != id) {
            let problem = format!("it names execution {other}");
            return Err(ExecDirError::Damaged { id: id.clone(), name: file::EXIT, problem });
        }
        let killed = self.has(id, file::KILL);
        let (state, reason) = match (&exit, lock) {
            (Some(exit), _) => (exit.state, exit.reason.clone()),
            (None, Some(true)) => (State::Running, None),
            (None, Some(false)) => (State::Lost, Some(SHIM_GONE.to_owned())),
            (None, None) => (State::Queued, killed.then(|| KILL_WAITS.to_owned())),
        };
        Ok(execution(self.instance.clone(), spec, started, exit, state, reason))
    }

    /// Returns a reader of the output.
    pub(crate) fn output(&self, id: &ExecutionId) -> Result<OutputReader<'_>, ExecDirError> {
        let failed = |source| ExecDirError::Read { id: id.clone(), name: file::OUTPUT, source };
        let names: Vec<String> = self.root.entries(Path::new(id.as_str())).map_err(failed)?.into_keys().collect();
        if names.iter().any(|name| name == file::ARCHIVE) || !self.keeps_output(id, &names)? {
            return Err(ExecDirError::Archived);
        }
        Ok(OutputReader::new(&self.root, id, &names))
    }

    /// False if something was written that is in no segment: then the agent has it in its database.
    fn keeps_output(&self, id: &ExecutionId, names: &[String]) -> Result<bool, ExecDirError> {
        let is_there = names.iter().any(|name| name == file::OUTPUT);
        let written =
            self.record::<Exit>(id, file::EXIT)?.map_or(0, |e| e.stdout.written_bytes + e.stderr.written_bytes);
        Ok(is_there || written == 0)
    }

    /// Writes the kill request, which its shim sees at once, and the agent when it runs again: it then records who asked for it.
    /// Returns true if it has a shim.
    pub(crate) fn kill(&self, id: &ExecutionId, note: Option<&str>) -> Result<bool, ExecDirError> {
        let execution = self.read(id)?;
        if execution.state.is_terminal() && execution.state != State::Lost {
            return Err(ExecDirError::Ended(id.clone()));
        }
        let kill = Kill { format: FORMAT, by: Principal::local_root(), note: note.map(str::to_owned) };
        let json = serde_json::to_vec(&kill).expect("plain data serialises");
        match self.root.create(&Path::new(id.as_str()).join(file::KILL), &json, 0o644) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(ExecDirError::Kill(id.clone(), e)),
            _ => Ok(execution.state == State::Running),
        }
    }

    fn has(&self, id: &ExecutionId, name: &str) -> bool {
        self.root.metadata(&Path::new(id.as_str()).join(name)).is_ok()
    }

    /// Returns true if a shim holds the lock; `None` if there is no lock.
    fn lock(&self, id: &ExecutionId) -> Result<Option<bool>, ExecDirError> {
        let failed = |source| ExecDirError::Read { id: id.clone(), name: file::LOCK, source };
        let opened = match self.root.file(&Path::new(id.as_str()).join(file::LOCK)) {
            Ok(opened) => opened,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        match Flock::lock(opened, FlockArg::LockSharedNonblock) {
            Ok(_released_at_once) => Ok(Some(false)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(Some(true)),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    fn record<T: DeserializeOwned>(&self, id: &ExecutionId, name: &'static str) -> Result<Option<T>, ExecDirError> {
        let failed = |source| ExecDirError::Read { id: id.clone(), name, source };
        let file: File = match self.root.file(&Path::new(id.as_str()).join(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_RECORD).read_to_end(&mut bytes).map_err(failed)?;
        let damaged = |e: packs_schema::agent::execution::RecordError| ExecDirError::Damaged {
            id: id.clone(),
            name,
            problem: crate::show::visible(&e.to_string()),
        };
        read_record(&bytes).map(Some).map_err(damaged)
    }
}

fn execution(
    instance: InstanceId,
    spec: Spec,
    started: Option<Started>,
    exit: Option<Exit>,
    state: State,
    reason: Option<String>,
) -> Execution {
    let started_at_ms = started.as_ref().map(|started| started.started_at_ms);
    let unenforced = started.map(|started| started.unenforced).unwrap_or_default();
    let ran = exit.as_ref().filter(|_| started_at_ms.is_some());
    Execution {
        id: spec.id,
        instance,
        action: spec.action,
        version: spec.version,
        digest: spec.digest,
        dev: spec.dev,
        state,
        reason,
        parameters: spec.parameters,
        noop: spec.noop,
        principal: spec.principal,
        note: spec.note,
        killed_by: None,
        kill_note: None,
        waiting: None,
        run: spec.run,
        created_at_ms: spec.created_at_ms,
        started_at_ms,
        ended_at_ms: exit.as_ref().map(|exit| exit.ended_at_ms),
        duration_ms: ran.map(|exit| exit.duration_ms),
        exit_status: exit.as_ref().and_then(|exit| exit.exit_status),
        signal: exit.as_ref().and_then(|exit| exit.signal),
        usage: ran.map(|exit| exit.usage),
        stdout: ran.map(|exit| exit.stdout),
        stderr: ran.map(|exit| exit.stderr),
        leftovers: exit.as_ref().and_then(|exit| exit.leftovers.clone()),
        unenforced: exit.as_ref().map_or(unenforced, |exit| exit.unenforced.clone()),
        result: exit.as_ref().and_then(|exit| exit.result.clone()),
        result_error: exit.and_then(|exit| exit.result_error),
        output: None,
        output_error: None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use packs_schema::agent::execution::output::{Frame, MAGIC, Stream, tail_name};

    use super::*;
    use crate::connection::chunk_bytes;

    const ID: &str = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa";

    struct Host {
        dir: tempfile::TempDir,
        id: ExecutionId,
    }

    impl Host {
        fn new() -> Host {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("exec").join(ID)).unwrap();
            let host = Host { dir, id: ExecutionId::new(ID).unwrap() };
            host.write(file::SPEC, host.spec(ID).as_bytes());
            host
        }

        fn spec(&self, id: &str) -> String {
            serde_json::json!({
                "format": 1, "id": id, "action": "linux.disk", "version": "1.0.0", "digest": "a".repeat(64), "parameters": {},
                "has_secrets": false, "noop": false, "timeout_ms": null, "principal": "spiffe://x/ann", "note": null, "run": null,
                "idempotency_key": null, "fingerprint": null, "traceparent": null, "created_at_ms": 5, "start_within_ms": 9,
                "boot_id": "b",
            })
            .to_string()
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join("exec").join(ID).join(name)
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            fs::write(self.at(name), bytes).unwrap();
        }

        fn dirs(&self) -> ExecDirs {
            ExecDirs::open(self.dir.path(), InstanceId::new("i-1").unwrap()).unwrap()
        }

        fn state(&self) -> (State, Option<String>) {
            let read = self.dirs().read(&self.id).unwrap();
            (read.state, read.reason)
        }
    }

    #[test]
    fn files_and_lock_decide_the_state() {
        let host = Host::new();
        assert_eq!(host.state(), (State::Queued, None));
        assert!(!host.dirs().kill(&host.id, None).unwrap());
        assert!(!host.dirs().kill(&host.id, None).unwrap(), "again");
        assert_eq!(host.state(), (State::Queued, Some(KILL_WAITS.to_owned())));
        let kill: Kill = read_record(&fs::read(host.at(file::KILL)).unwrap()).unwrap();
        assert_eq!(kill.by, Principal::local_root());
        host.write(file::LOCK, b"");
        assert_eq!(host.state(), (State::Lost, Some(SHIM_GONE.to_owned())));
        let held = Flock::lock(File::open(host.at(file::LOCK)).unwrap(), FlockArg::LockExclusive).unwrap();
        assert_eq!(host.state(), (State::Running, None));
        assert!(host.dirs().kill(&host.id, None).unwrap());
        drop(held);
        let exit = serde_json::json!({
            "format": 1, "id": ID, "state": "killed", "reason": null, "exit_status": null, "signal": 15, "started_at_ms": 6,
            "ended_at_ms": 8, "duration_ms": 2, "usage": {"user_us": 1, "system_us": 1}, "stdout": {"written_bytes": 0,
            "dropped_bytes": 0}, "stderr": {"written_bytes": 0, "dropped_bytes": 0}, "leftovers": null, "unenforced": [],
            "result": null, "result_error": null,
        });
        host.write(file::EXIT, exit.to_string().as_bytes());
        assert_eq!(host.state(), (State::Killed, None));
        assert!(matches!(host.dirs().kill(&host.id, None), Err(ExecDirError::Ended(_))));
        assert_eq!(host.dirs().ids().unwrap(), std::slice::from_ref(&host.id));
    }

    #[test]
    fn nothing_outside_the_directories_is_read_or_written() {
        let host = Host::new();
        let outside = host.dir.path().join("outside");
        fs::write(&outside, host.spec(ID)).unwrap();
        fs::remove_file(host.at(file::SPEC)).unwrap();
        symlink(&outside, host.at(file::SPEC)).unwrap();
        let refused = host.dirs().read(&host.id).unwrap_err();
        assert!(matches!(refused, ExecDirError::Read { name: file::SPEC, .. }), "{refused}");
        fs::remove_file(host.at(file::SPEC)).unwrap();
        nix::unistd::mkfifo(&host.at(file::SPEC), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(host.dirs().read(&host.id).is_err(), "a pipe");
        fs::remove_file(host.at(file::SPEC)).unwrap();
        host.write(file::SPEC, host.spec("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2ab").as_bytes());
        assert!(matches!(host.dirs().read(&host.id), Err(ExecDirError::Damaged { .. })), "the id of another one");
        host.write(file::SPEC, host.spec(ID).as_bytes());
        symlink(host.dir.path().join("made"), host.at(file::KILL)).unwrap();
        assert!(!host.dirs().kill(&host.id, None).unwrap());
        assert!(!host.dir.path().join("made").exists(), "a link in place of the kill is not followed");
        let linked = tempfile::tempdir().unwrap();
        symlink(host.dir.path().join("exec"), linked.path().join("exec")).unwrap();
        assert!(ExecDirs::open(linked.path(), InstanceId::new("i-1").unwrap()).is_err());
    }

    #[test]
    fn output_is_merged_by_time_with_gaps_and_ends_at_damage() {
        let host = Host::new();
        let frame = |stream, at_us, offset, data: &[u8]| {
            let length = u32::try_from(data.len()).unwrap();
            [&Frame { stream, length, at_us, offset }.encode()[..], data].concat()
        };
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        let head = [&MAGIC[..], &frame(out, 1, 0, b"head "), &frame(err, 2, 0, b"oops "), &frame(out, 3, 5, b"x")[..9]];
        host.write(file::OUTPUT, &head.concat());
        host.write(&tail_name(out, 9), &[&MAGIC[..], &frame(out, 4, 105, b"late")].concat());
        host.write(&tail_name(out, 10), &[&MAGIC[..], &frame(out, 6, 109, &[0xff]), &[7; 40]].concat());
        host.write(&tail_name(err, 0), &[&MAGIC[..], &frame(err, 5, 5, b"again")].concat());
        let dirs = host.dirs();
        let mut said = Vec::new();
        let mut reader = dirs.output(&host.id).unwrap();
        while let Some(chunk) = reader.next() {
            said.push(match chunk.dropped_bytes {
                Some(dropped) => format!("{:?}@{} -{dropped}", chunk.stream, chunk.offset),
                None => format!(
                    "{:?}@{} {:?}",
                    chunk.stream,
                    chunk.offset,
                    chunk_bytes(&chunk).unwrap().escape_ascii().to_string()
                ),
            });
        }
        let want = [
            r#"Stdout@0 "head ""#,
            r#"Stderr@0 "oops ""#,
            "Stdout@5 -100",
            r#"Stdout@105 "late""#,
            r#"Stderr@5 "again""#,
            r#"Stdout@109 "\\xff""#,
        ];
        assert_eq!(said, want);
        host.write(file::ARCHIVE, b"");
        assert!(matches!(dirs.output(&host.id), Err(ExecDirError::Archived)));
    }
}
