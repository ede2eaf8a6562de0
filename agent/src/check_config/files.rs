//! Files that the configuration names: grants, certificates, the repository's root, site configuration of packs.

use std::io;
use std::path::Path;

use packs_schema::agent::config::Config;

use super::Report;
use crate::access::{self, AccessError};
use crate::api::tls;
use crate::log::chain;
use crate::sync::root;

/// Checks `grants.toml`.
pub(super) fn check_grants(path: &Path, report: &mut Report) {
    match access::read(path) {
        Ok(grants) if grants.is_empty() => {
            report.warn(path, "it has no [[grant]]: every request is refused");
        }
        Ok(_) => {}
        Err(AccessError::Parse { line, message, .. }) => report.error_at(path, line, message),
        Err(error) => report.error(path, source_of(&error)),
    }
}

/// Checks certificate, key and the authorities of callers.
pub(super) fn check_tls(config: &Config, report: &mut Report) {
    for problem in tls::check(&config.tls, config.instance.id.as_ref(), tls::now_s()) {
        match problem.prevents_service {
            true => report.error(&problem.path, problem.message),
            false => report.warn(&problem.path, problem.message),
        }
    }
}

/// Checks the pinned root of the repository.
pub(super) fn check_root(path: &Path, report: &mut Report) {
    match root::read(path) {
        Ok(root) => {
            if let Some(expired_at) = root::expired_at(&root) {
                report.warn(
                    path,
                    format!(
                        "expired at {expired_at}: polls succeed only while the repository has a newer root; copy that one here"
                    ),
                );
            }
        }
        Err(error) => report.error(path, chain(&error)),
    }
}

/// Checks that the sync can read the site configuration of packs. Each file is checked against its pack at every poll.
pub(super) fn check_site_files(directory: &Path, report: &mut Report) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return report.error(directory, format!("cannot list it (paths.pack_config): {error}")),
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "yaml")).collect();
    files.sort();
    for path in files {
        if let Err(error) = std::fs::File::open(&path) {
            report.error(&path, format!("the sync cannot read it: {error}"));
        }
    }
}

/// The error without its own first words, which only name the file; the report names it already.
fn source_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}
