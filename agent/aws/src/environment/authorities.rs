//! `SSL_CERT_FILE` and `SSL_CERT_DIR`: the authorities that are trusted instead of the host's.
//!
//! The library that reads them leaves out what it cannot read, and the host's own authorities do not come back in its
//! place: a misspelt directory beside a good file would go unnoticed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustls_native_certs::{CertificateResult, load_certs_from_paths};
use rustls_pki_types::CertificateDer;

use super::{EnvironmentError, Lookup, at};

const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";

/// The certificates that both variables name; `None` where neither is set.
pub(crate) fn named() -> Result<Option<Vec<CertificateDer<'static>>>, EnvironmentError> {
    load(&|name| std::env::var_os(name))
}

/// Checks both variables.
pub(super) fn check(lookup: Lookup<'_>) -> Result<(), EnvironmentError> {
    load(lookup).map(drop)
}

pub(super) fn load(lookup: Lookup<'_>) -> Result<Option<Vec<CertificateDer<'static>>>, EnvironmentError> {
    let (file, directories) = (lookup(FILE), lookup(DIRECTORIES));
    // As the library has it: an empty list of directories counts as not set, and an empty file does not.
    let directories = directories.filter(|directories| !directories.is_empty());
    if file.is_none() && directories.is_none() {
        return Ok(None);
    }
    let mut found = Vec::new();
    if let Some(file) = file {
        found.extend(of_file(file).map_err(|why| EnvironmentError { name: FILE, why })?);
    }
    if let Some(directories) = directories {
        found.extend(of_directories(&directories).map_err(|why| EnvironmentError { name: DIRECTORIES, why })?);
    }
    Ok(Some(found))
}

fn of_file(path: OsString) -> Result<Vec<CertificateDer<'static>>, String> {
    if path.is_empty() {
        return Err("it is empty; give it a value or unset it".to_owned());
    }
    let path = PathBuf::from(path);
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err("it does not name a regular file".to_owned()),
        Err(error) => return Err(format!("the file that it names cannot be read ({})", error.kind())),
    }
    let CertificateResult { certs, errors, .. } = load_certs_from_paths(Some(&path), None);
    if !errors.is_empty() {
        return Err("the file that it names cannot be read, or a certificate in it is damaged".to_owned());
    }
    if certs.is_empty() {
        return Err("the file that it names holds no certificate (PEM)".to_owned());
    }
    Ok(certs)
}

fn of_directories(list: &OsString) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    for (place, directory) in std::env::split_paths(list).enumerate() {
        if directory.as_os_str().is_empty() {
            continue;
        }
        found.extend(of_directory(&directory).map_err(|why| at(place, why))?);
    }
    if found.is_empty() {
        return Err("no directory that it names holds a certificate (PEM)".to_owned());
    }
    Ok(found)
}

fn of_directory(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    // Errors of single files are left to the library: directories of hosts hold links that lead nowhere.
    std::fs::read_dir(path).map_err(|error| format!("the directory cannot be read ({})", error.kind()))?;
    Ok(load_certs_from_paths(None, Some(path)).certs)
}
