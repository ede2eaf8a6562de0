//! Shared memory page through which the fault program controls `interpose.c`.
//!
//! ```text
//! offset 0  magic u64 │ 8  clock_s i64 │ 16  fired u64 │ 24  8 rules of 72 bytes:
//!        armed u32, call u32, after u32, error i32, skip i32, times i32, role [u8; 8], name [u8; 40]
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const RULES: u64 = 8;
const RULE_BYTES: u64 = 72;
const RULES_AT: u64 = 24;

/// Intercepted call; numbers as in `interpose.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Call {
    Open = 1,
    Mkdir,
    Rename,
    Unlink,
    Write,
    Fsync,
    Fork,
    Accept,
    Resize,
}

/// Fault at a named point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Role of the process: `api`, `launch` or `shim`.
    pub(super) role: &'static str,
    pub(super) call: Call,
    /// Suffix of the file's name; empty for any file.
    pub(super) name: &'static str,
    /// True to act after the call rather than before it.
    pub(super) after: bool,
    /// Error that the call fails with; 0 kills the process.
    pub(super) error: i32,
    /// Number of matches to let through first.
    pub(super) skip: i32,
    /// Number of matches that fail.
    pub(super) times: i32,
}

/// The mapped page.
#[derive(Debug)]
pub(super) struct Control(File);

impl Control {
    /// Creates the page's file, which processes of every account map.
    pub(super) fn create(path: &Path) -> io::Result<Control> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o666).open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
        file.set_len(4096)?;
        Ok(Control(file))
    }

    /// Replaces the armed rules.
    pub(super) fn arm(&self, rules: &[Rule]) -> io::Result<()> {
        self.disarm()?;
        for (at, rule) in (0..RULES).zip(rules) {
            let mut bytes = [0; RULE_BYTES as usize];
            let after = u32::from(rule.after).to_le_bytes();
            let head = [(rule.call as u32).to_le_bytes(), after, rule.error.to_le_bytes()];
            bytes[4..16].copy_from_slice(&head.concat());
            bytes[16..20].copy_from_slice(&rule.skip.to_le_bytes());
            bytes[20..24].copy_from_slice(&rule.times.to_le_bytes());
            bytes[24..24 + rule.role.len()].copy_from_slice(rule.role.as_bytes());
            bytes[32..32 + rule.name.len()].copy_from_slice(rule.name.as_bytes());
            let offset = RULES_AT + at * RULE_BYTES;
            self.0.write_all_at(&bytes, offset)?;
            self.0.write_all_at(&1_u32.to_le_bytes(), offset)?;
        }
        Ok(())
    }

    /// Disarms all rules.
    pub(super) fn disarm(&self) -> io::Result<()> {
        (0..RULES).try_for_each(|at| self.0.write_all_at(&0_u32.to_le_bytes(), RULES_AT + at * RULE_BYTES))
    }

    /// Moves the wall clock of the agent's processes by the given number of seconds.
    pub(super) fn move_clock(&self, seconds: i64) -> io::Result<()> {
        self.0.write_all_at(&seconds.to_le_bytes(), 8)
    }

    /// Returns how often a rule took effect since the page was created.
    pub(super) fn fired(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 16)?;
        Ok(u64::from_le_bytes(bytes))
    }
}
