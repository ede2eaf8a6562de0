//! Door for the fuzz targets to the conversion of a source that was read.

use super::plan;
use super::python_facts::Facts;
use super::source::{SourceFile, SourceTree};
use super::{Format, ImportError, puppet};

/// Converts a Puppet module of these files; returns the planned files, or the error that a user reads.
pub fn puppet(files: &[(&str, &[u8])]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let file = |bytes: &[u8]| SourceFile { bytes: bytes.to_vec(), executable: false };
    let tree = SourceTree {
        name: "module".to_owned(),
        files: files.iter().map(|(path, bytes)| ((*path).to_owned(), file(bytes))).collect(),
        ..SourceTree::default()
    };
    let planned = puppet::convert(&tree, &Facts::default()).and_then(plan::check);
    let plan = planned.map_err(|error: ImportError| error.to_string())?;
    assert!(plan.report.format == Format::Puppet, "another format");
    Ok(plan.files.into_iter().map(|(path, file)| (path, file.bytes)).collect())
}
