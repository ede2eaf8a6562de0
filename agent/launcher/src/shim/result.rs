//! The structured result: the content that the action wrote to `BOLT_RESULT`.
//!
//! The file is a memory file (memfd) without a name in any directory. The action inherits a descriptor, and `BOLT_RESULT` is the
//! path of that descriptor in `/proc`, which programs started without the descriptor can open as well. No other account can open
//! that path. The memory is charged to the action: an action that fills the file reaches its memory limit, and no file system of
//! the host is filled.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::fchown;
use packs_schema::base::name::ExecutionId;
use packs_schema::base::strict;
use packs_schema::pack::param::Schema;
use packs_schema::pack::param::check::check;
use serde_json::{Map, Value};

use crate::account::Account;
use crate::sys;

/// Maximum size of a result, in bytes.
const MAX_RESULT: usize = 64 << 10;
/// Maximum number of problems in a message.
const MAX_LISTED: usize = 5;

/// Lowest number of the descriptor in the action: above the numbers that scripts use themselves.
const MIN_FD: i32 = 59;

/// Returns the name of the memory file, by which it is recognised in `/proc/<pid>/fd`.
pub(crate) fn name(execution: &ExecutionId) -> String {
    format!("bolt-result-{execution}")
}

/// Creates the memory file, readable and writable by `owner`.
pub(crate) fn create(execution: &ExecutionId, owner: Option<&Account>) -> nix::Result<File> {
    // MFD_NOEXEC_SEAL, since Linux 6.3: required on some hosts (vm.memfd_noexec), and a result is never executed.
    const NOEXEC_SEAL: libc::c_uint = 8;
    let name = name(execution);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(NOEXEC_SEAL);
    let file = match memfd_create(name.as_str(), flags) {
        Err(Errno::EINVAL) => memfd_create(name.as_str(), MFdFlags::MFD_CLOEXEC),
        made => made,
    }?;
    fchmod(&file, Mode::from_bits_truncate(0o600))?;
    if let Some(owner) = owner {
        fchown(&file, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(File::from(file))
}

/// Duplicates the descriptor for the action, in the child. The copy is still closed on `exec`.
pub(super) fn duplicate(file: &File) -> nix::Result<OwnedFd> {
    sys::duplicate_above(file.as_fd(), MIN_FD)
}

/// Writes the variable `BOLT_RESULT` for a descriptor of this process, without allocating memory.
pub(super) fn variable(descriptor: &OwnedFd) -> impl FnOnce(&mut dyn io::Write) -> io::Result<()> {
    let descriptor = descriptor.as_raw_fd();
    move |to| write!(to, "BOLT_RESULT=/proc/{}/fd/{descriptor}", nix::unistd::getpid())
}

/// Reads and checks the result; `None` when the file is empty. The error is the `result_error` of the exit record.
pub(super) fn read(file: &File, schema: Option<&Schema>) -> Result<Option<Map<String, Value>>, String> {
    let length = file.metadata().map_err(|e| format!("the result cannot be read: {e}"))?.len();
    if length == 0 {
        return Ok(None);
    }
    if length > MAX_RESULT as u64 {
        return Err(format!("the result has {length} bytes; the maximum is {MAX_RESULT}"));
    }
    let mut bytes = vec![0; MAX_RESULT];
    let length = file.read_at(&mut bytes, 0).map_err(|e| format!("the result cannot be read: {e}"))?;
    let value = strict::parse(&bytes[..length]).map_err(|e| format!("the result is not one JSON object: {e}"))?;
    if let Some(schema) = schema {
        let problems = check(schema, &value);
        if !problems.is_empty() {
            let list: Vec<String> = problems.iter().take(MAX_LISTED).map(|p| p.describe("result")).collect();
            return Err(format!("the result does not match output_schema: {}", list.join("; ")));
        }
    }
    match value {
        Value::Object(map) => Ok(Some(map)),
        other => Err(format!("the result must be one JSON object, not {}", strict::type_name(&other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, schema: Option<&str>) -> Result<Option<Map<String, Value>>, String> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
        let schema: Option<Schema> = schema.map(|s| serde_json::from_str(s).unwrap());
        read(&file, schema.as_ref())
    }

    #[test]
    fn a_result_is_one_json_object() {
        assert_eq!(read_text("", None), Ok(None));
        assert_eq!(read_text("{\"a\":1}\n", None).unwrap().unwrap().len(), 1);
        for (wrong, why) in [
            ("[1]", "not an array"),
            ("{\"a\":1,\"a\":2}", "duplicate key"),
            ("{} {}", "not one JSON object"),
            ("{", "not one JSON object"),
            (&"x".repeat(MAX_RESULT + 1), "the maximum is"),
        ] {
            let message = read_text(wrong, None).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn a_result_must_match_its_schema() {
        let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#;
        assert!(read_text("{\"n\":1}", Some(schema)).is_ok());
        assert!(read_text("{\"n\":\"x\"}", Some(schema)).unwrap_err().contains("result.n"));
    }
}
