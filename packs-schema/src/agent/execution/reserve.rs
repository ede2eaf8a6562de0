//! Disk reserve of the file system with executions, so that every running execution can write its exit record. Three
//! parties respect it, each at its own level:
//!
//! ```text
//!  free space  ────────┬───────────────┬──────────────────┬──────────▶ 0
//!                      │ OUTPUT_BYTES  │ ACCEPT_BYTES     │ nothing
//!  the shims           │ drop output, and count it        │
//!  the api             │ accepts       │ refuses new executions (507)
//!  exit records        │ are written   │ are written      │ into EXIT_PREALLOCATED bytes, allocated before the start
//! ```
//!
//! Output is dropped first, because it is what grows: a flood of output must not block new executions, least of all an
//! action that frees space. The distance between the two levels also covers what several shims write between two checks
//! of the disk.

/// Free bytes below which the api refuses new executions.
pub const ACCEPT_BYTES: u64 = 4 << 20;
/// Free files (inodes) below which the api refuses new executions: one has about six.
pub const ACCEPT_FILES: u64 = 64;
/// Free bytes below which output is dropped, except for the first part of each execution's output, which is dropped
/// below [`ACCEPT_BYTES`].
pub const OUTPUT_BYTES: u64 = 16 << 20;
/// Free files (inodes) below which output is dropped: a long output has about twenty.
pub const OUTPUT_FILES: u64 = 128;
/// Bytes preallocated for an exit record before its action exists: the whole record, except a long structured result.
pub const EXIT_PREALLOCATED: u64 = 8 << 10;

/// True if the free bytes or files of a file system are below `reserve`. Both are pairs of total and free; a total of 0
/// (files created on demand) is not checked.
pub fn is_within(bytes: (u64, u64), files: (u64, u64), reserve: (u64, u64)) -> bool {
    let short = |(all, free): (u64, u64), kept: u64| all > 0 && free < kept;
    short(bytes, reserve.0) || short(files, reserve.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_dropped_before_executions_are_refused() {
        const { assert!(OUTPUT_BYTES > ACCEPT_BYTES && OUTPUT_FILES > ACCEPT_FILES) };
        let accept = (ACCEPT_BYTES, ACCEPT_FILES);
        let many = (u64::MAX, u64::MAX);
        assert!(is_within((1 << 30, ACCEPT_BYTES - 1), many, accept));
        assert!(!is_within((1 << 30, ACCEPT_BYTES), many, accept));
        assert!(is_within(many, (1000, ACCEPT_FILES - 1), accept));
        assert!(!is_within((0, 0), (0, 0), accept), "a file system that counts nothing has not run out of it");
    }
}
