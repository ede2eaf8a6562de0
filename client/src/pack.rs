//! Authoring a pack: scaffold, lint, build, and run one of its actions here.
//!
//! ```text
//!  directory ──listing──▶ files ──lint──▶ findings
//!                           └────build──▶ archive, the same bytes for the same files ──▶ repo::publish
//! ```
//!
//! [`import`] makes packs of those of other systems; [`check`] compares the packs of an instance with their manifests; [`diff`](mod@diff) compares two builds.
//!
//! An archive is built only of a pack that passes the check which agents make before activation.

mod archive;
mod build;
pub mod check;
pub mod diff;
mod extract;
pub mod import;
mod lint;
mod listing;
mod scaffold;
pub mod test;

use std::io;
use std::path::PathBuf;

pub use archive::{ArchiveFile, ArchiveReader};
pub use build::{BuiltPack, build, describe, load};
pub use lint::{LintReport, lint};
pub use scaffold::{Template, scaffold};

use packs_schema::base::finding::Finding;

/// Error returned when a pack could not be made, read or built.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file or directory cannot be used.
    #[error("cannot {what} {}", crate::show::path(path))]
    File {
        /// The operation: `read`, `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The path is not a directory.
    #[error("{} is not a directory; give the directory of the pack, the one with pack.yaml", crate::show::path(.0))]
    NotADirectory(PathBuf),
    /// There is no store of activated packs.
    #[error(
        "{} does not exist, so there are no activated packs to check: run this on an instance with bolt-agent, or give its \
         store with --packs DIR",
        crate::show::path(.0)
    )]
    NoStore(PathBuf),
    /// The check found errors.
    #[error("{} has errors, so it is not built:\n{}", crate::show::path(path), list(findings))]
    Findings {
        /// The pack's directory.
        path: PathBuf,
        /// Everything that was found.
        findings: Vec<Finding>,
    },
    /// The path exists already.
    #[error("{} exists already; choose another name or directory", crate::show::path(.0))]
    Exists(PathBuf),
    /// The file is not an archive of `bolt pack build`.
    #[error("{} is not a pack's archive: {problem}; make one with `bolt pack build`", crate::show::path(path))]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The temporary file for an archive cannot be written.
    #[error(
        "cannot write the archive to a temporary file in {}; free space there, or set TMPDIR to another directory",
        crate::show::path(directory)
    )]
    Temporary {
        /// The directory for temporary files.
        directory: PathBuf,
        /// The error of the file system.
        #[source]
        source: io::Error,
    },
    /// The pack is larger than agents take.
    #[error("the pack is too large: {0}")]
    TooLarge(String),
}

impl PackError {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> PackError {
        let path = path.into();
        move |source| PackError::File { what, path, source }
    }
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("  {}", crate::show::visible(&f.to_string()))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
