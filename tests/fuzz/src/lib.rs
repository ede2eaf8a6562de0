//! Fuzz targets: each reads bytes as a hostile peer or a damaged disk would send them, and checks more than that nothing panics.
//!
//! ```text
//!  targets/<name>.rs ── run(&[u8]) ──┬──▶ bolt-fuzz (feature `libfuzzer`, instrumented): `tests/fuzz/run`
//!        └─ seeds() ─▶ corpus ───────┴──▶ tests/replay.rs: each input of `corpus/<name>/`, in every run of the tests
//! ```
//!
//! A target must be deterministic, leave nothing behind, and panic when a promise is broken. An input that made one panic stays
//! in its corpus when the fault is repaired.

mod certificates;
mod repository;
mod scratch;
mod service;
mod signing;
mod targets;

pub use scratch::clean_up;
pub use targets::TARGETS;

/// A parser, or several that read the same kind of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name, and directory of its inputs in `corpus`.
    pub name: &'static str,
    /// Reads an input and checks what must hold.
    pub run: fn(&[u8]),
    /// Returns valid inputs, of which the corpus was bred.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Maximum length of an input, in bytes.
    pub max_len: usize,
}

/// Finds a target by its name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Returns the parts of an input that holds several: they are separated by NUL, which no text format contains.
pub(crate) fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// Joins the parts of a seed, as [`parts`] splits them.
pub(crate) fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&0)
}
