//! Overwriting memory that held parameters, which may be secret: a shim supervises other executions later.

use std::hint::black_box;

/// Overwrites all bytes.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Keeps the compiler from leaving out writes to memory that is freed next.
    black_box(bytes);
}
