//! What is kept free on the disk of executions, so that what runs can always write down how it ended. Three parties keep
//! to it, each at its own level:
//!
//! ```text
//!  free space  ────────┬───────────────┬──────────────────┬──────────▶ 0
//!                      │ OUTPUT_BYTES  │ ACCEPT_BYTES     │ nothing
//!  the shims           │ drop output, and count it        │
//!  the api             │ accepts       │ refuses what is new (507)
//!  ends                │ are written   │ are written      │ into EXIT_ROOM, taken before the start
//! ```
//!
//! Output stops first, because it is what grows: a flood of it must not keep new work out, least of all an action that
//! makes room. The distance between the two also covers what several shims write between two looks at the disk.

/// Free bytes below which the api accepts nothing new.
pub const ACCEPT_BYTES: u64 = 4 << 20;
/// The same in files (inodes): an execution has about six.
pub const ACCEPT_FILES: u64 = 64;
/// Free bytes below which output is dropped, but for the first of each execution, which stops at [`ACCEPT_BYTES`].
pub const OUTPUT_BYTES: u64 = 16 << 20;
/// The same in files: a long output has some twenty.
pub const OUTPUT_FILES: u64 = 128;
/// What is allocated for an exit record before its action exists: the whole record, but for a long structured result.
pub const EXIT_PREALLOCATED: u64 = 8 << 10;

/// True if a file system has no more free than this reserve of bytes and files. Both are given as how many there are and how
/// many are free; those that are made as needed are not counted, and there are 0.
pub fn is_within(bytes: (u64, u64), files: (u64, u64), reserve: (u64, u64)) -> bool {
    let short = |(all, free): (u64, u64), kept: u64| all > 0 && free < kept;
    short(bytes, reserve.0) || short(files, reserve.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_stops_before_acceptance() {
        const { assert!(OUTPUT_BYTES > ACCEPT_BYTES && OUTPUT_FILES > ACCEPT_FILES) };
        let accept = (ACCEPT_BYTES, ACCEPT_FILES);
        let many = (u64::MAX, u64::MAX);
        assert!(is_within((1 << 30, ACCEPT_BYTES - 1), many, accept));
        assert!(!is_within((1 << 30, ACCEPT_BYTES), many, accept));
        assert!(is_within(many, (1000, ACCEPT_FILES - 1), accept));
        assert!(!is_within((0, 0), (0, 0), accept), "a file system that counts nothing has not run out of it");
    }
}
