//! Doors for the fuzz targets to the conversion of sources that were read.

use super::python_facts::Facts;
use super::report::Report;
use super::source::{SourceFile, SourceTree};
use super::{Format, ImportError, plan, puppet, stackstorm};

pub use super::wheels::fuzz::wheel;

/// Pack that an import would write: its files by path, and its report.
pub type Imported = (Vec<(String, Vec<u8>)>, Report);

/// Converts a Puppet module of these files; returns the planned files, or the error that a user reads.
pub fn puppet(files: &[(&str, &[u8])]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let planned = puppet::convert(&tree(files), &Facts::default()).and_then(plan::check);
    let (files, report) = imported(planned)?;
    assert!(report.format == Format::Puppet, "another format");
    Ok(files)
}

/// Converts a StackStorm pack of these files.
pub fn stackstorm(files: &[(&str, &[u8])]) -> Result<Imported, String> {
    imported(stackstorm::convert(&tree(files), &Facts::default(), None).and_then(plan::check))
}

/// Converts one document of Systems Manager.
pub fn ssm(name: &str, bytes: &[u8]) -> Result<Imported, String> {
    imported(Format::Ssm.convert(&tree(&[(name, bytes)]), None).and_then(plan::check))
}

/// Converts one file with jobs of Rundeck.
pub fn rundeck(name: &str, bytes: &[u8]) -> Result<Imported, String> {
    imported(Format::Rundeck.convert(&tree(&[(name, bytes)]), None).and_then(plan::check))
}

fn tree(files: &[(&str, &[u8])]) -> SourceTree {
    let file = |bytes: &[u8]| SourceFile { bytes: bytes.to_vec(), executable: false };
    SourceTree {
        name: "module".to_owned(),
        files: files.iter().map(|(path, bytes)| ((*path).to_owned(), file(bytes))).collect(),
        ..SourceTree::default()
    }
}

fn imported(planned: Result<plan::Plan, ImportError>) -> Result<Imported, String> {
    let plan = planned.map_err(|error| error.to_string())?;
    Ok((plan.files.into_iter().map(|(path, file)| (path, file.bytes)).collect(), plan.report))
}
