//! The structured result: what the action wrote into `BOLT_RESULT`, read through the descriptor that was open all along.
//!
//! It is a file in memory that has no name in any directory. The action gets a descriptor of it, and `BOLT_RESULT` is the path
//! of that descriptor in `/proc`, so that it is opened like any file, also by programs that the action starts without the
//! descriptor. No other account can open that path. The memory counts as the action's own: an action that fills the file
//! reaches its memory limit, and no directory of the host is filled.

use std::ffi::CString;
use std::fs::File;
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

/// The largest result, in bytes.
const MAX_RESULT: usize = 64 << 10;
/// How many problems a message lists.
const MAX_LISTED: usize = 5;

/// The descriptor is put here or above: out of the way of those that scripts use by number.
const LOWEST: i32 = 59;

/// The name of the file, which tells in `/proc/<pid>/fd` whose it is.
pub(crate) fn name(execution: &ExecutionId) -> String {
    format!("bolt-result-{execution}")
}

/// Makes the file, for `owner` to open.
pub(crate) fn make(execution: &ExecutionId, owner: Option<&Account>) -> nix::Result<File> {
    // MFD_NOEXEC_SEAL, from Linux 6.3 on: some hosts require it, and nobody executes a result.
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

/// In the child: a copy of the descriptor for the action, which the coming `exec` still closes.
pub(super) fn give(file: &File) -> nix::Result<OwnedFd> {
    sys::duplicate_above(file.as_fd(), LOWEST)
}

/// The variable that names a descriptor of this process.
pub(super) fn variable(descriptor: &OwnedFd) -> CString {
    let path = format!("BOLT_RESULT=/proc/{}/fd/{}", nix::unistd::getpid(), descriptor.as_raw_fd());
    CString::new(path).expect("no NUL in a number")
}

/// The result, if there is one; the error says why what there is does not count.
pub(super) fn read(file: &File, schema: Option<&Schema>) -> Result<Option<Map<String, Value>>, String> {
    let length = file.metadata().map_err(|e| format!("the result cannot be read: {e}"))?.len();
    if length == 0 {
        return Ok(None);
    }
    if length > MAX_RESULT as u64 {
        return Err(format!("the result has {length} bytes; at most {MAX_RESULT} are taken"));
    }
    let mut bytes = vec![0; MAX_RESULT];
    let length = file.read_at(&mut bytes, 0).map_err(|e| format!("the result cannot be read: {e}"))?;
    let value = strict::parse(&bytes[..length]).map_err(|e| format!("the result is not one JSON object: {e}"))?;
    if let Some(schema) = schema {
        let problems = check(schema, &value);
        if !problems.is_empty() {
            let list: Vec<String> = problems.iter().take(MAX_LISTED).map(|p| p.describe("result")).collect();
            return Err(format!("the result does not fit output_schema: {}", list.join("; ")));
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
    fn one_json_object_counts() {
        assert_eq!(read_text("", None), Ok(None));
        assert_eq!(read_text("{\"a\":1}\n", None).unwrap().unwrap().len(), 1);
        for (wrong, why) in [
            ("[1]", "not an array"),
            ("{\"a\":1,\"a\":2}", "duplicate key"),
            ("{} {}", "not one JSON object"),
            ("{", "not one JSON object"),
            (&"x".repeat(MAX_RESULT + 1), "at most"),
        ] {
            let said = read_text(wrong, None).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_result_must_fit_its_schema() {
        let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#;
        assert!(read_text("{\"n\":1}", Some(schema)).is_ok());
        assert!(read_text("{\"n\":\"x\"}", Some(schema)).unwrap_err().contains("result.n"));
    }
}
