//! `SSL_CERT_FILE`, `SSL_CERT_DIR` and `AWS_CA_BUNDLE`: certificate authorities that together replace those of the host.
//! `AWS_CA_BUNDLE` is the name that the AWS command line and its other SDKs use; the Rust SDK does not read it.
//!
//! The library that reads them ignores unreadable files, without a fallback to the host's authorities: a misspelt directory beside a
//! valid file would go unnoticed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustls_native_certs::{CertificateResult, load_certs_from_paths};
use rustls_pki_types::CertificateDer;

use super::{EnvironmentError, Lookup, entry_error};

/// Variables with a file of authorities.
const FILES: [&str; 2] = ["SSL_CERT_FILE", "AWS_CA_BUNDLE"];
const DIRECTORIES: &str = "SSL_CERT_DIR";

/// Returns the certificates of all variables; `None` when none is set.
pub(crate) fn named() -> Result<Option<Vec<CertificateDer<'static>>>, EnvironmentError> {
    load(&|name| std::env::var_os(name))
}

/// Checks the variables.
pub(super) fn check(lookup: Lookup<'_>) -> Result<(), EnvironmentError> {
    load(lookup).map(drop)
}

pub(super) fn load(lookup: Lookup<'_>) -> Result<Option<Vec<CertificateDer<'static>>>, EnvironmentError> {
    let files: Vec<(&'static str, OsString)> =
        FILES.into_iter().filter_map(|name| Some((name, lookup(name)?))).collect();
    let directories = lookup(DIRECTORIES);
    // As in the library: an empty list of directories means not set, but an empty file name does not.
    let directories = directories.filter(|directories| !directories.is_empty());
    if files.is_empty() && directories.is_none() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for (name, file) in files {
        found.extend(of_file(file).map_err(|why| EnvironmentError { name, why })?);
    }
    if let Some(directories) = directories {
        found.extend(of_directories(&directories).map_err(|why| EnvironmentError { name: DIRECTORIES, why })?);
    }
    Ok(Some(found))
}

fn of_file(path: OsString) -> Result<Vec<CertificateDer<'static>>, String> {
    if path.is_empty() {
        return Err("empty value; set or unset the variable".to_owned());
    }
    let path = PathBuf::from(path);
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err("not a regular file".to_owned()),
        Err(error) => return Err(format!("cannot read the file ({})", error.kind())),
    }
    let CertificateResult { certs, errors, .. } = load_certs_from_paths(Some(&path), None);
    if !errors.is_empty() {
        return Err("cannot read the file, or a certificate in it is damaged".to_owned());
    }
    if certs.is_empty() {
        return Err("the file contains no certificate (PEM)".to_owned());
    }
    Ok(certs)
}

fn of_directories(list: &OsString) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    for (index, directory) in std::env::split_paths(list).enumerate() {
        if directory.as_os_str().is_empty() {
            continue;
        }
        found.extend(of_directory(&directory).map_err(|why| entry_error(index, why))?);
    }
    if found.is_empty() {
        return Err("no directory contains a certificate (PEM)".to_owned());
    }
    Ok(found)
}

fn of_directory(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    // Errors of single files are ignored: certificate directories often contain dangling links.
    std::fs::read_dir(path).map_err(|error| format!("cannot read the directory ({})", error.kind()))?;
    Ok(load_certs_from_paths(None, Some(path)).certs)
}
