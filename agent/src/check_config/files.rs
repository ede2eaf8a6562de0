//! Files that the configuration names: grants, certificates, the repository and its root, site configuration of packs.

use std::io;
use std::path::Path;

use packs_schema::agent::config::{Config, PythonConfig, RepositoryConfig};
use packs_schema::base::name::PackName;

use super::Report;
use crate::access::{self, AccessError};
use crate::api::tls;
use crate::log::chain;
use crate::sync::inspect::{self, ChannelState};
use crate::sync::{root, site_config};

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

/// Checks a repository in a directory: that it is there and can be read, that the pinned root vouches for it, and that the
/// configured channel has packs. A bucket is not checked: that needs the network.
pub(super) fn check_repository(config: &RepositoryConfig, report: &mut Report) {
    let Some(path) = config.url.strip_prefix("file://").map(Path::new) else { return };
    // Reported already, with its own file.
    if root::read(&config.root).is_err() {
        return;
    }
    let inspection = match inspect::inspect(config) {
        Ok(inspection) => inspection,
        Err(error) => return report.error(path, chain(&error)),
    };
    if let Some(role) = inspection.expired {
        report.error(path, format!("the signature of its {role} metadata has expired: run `bolt repo refresh`"));
    }
    match inspection.channel {
        ChannelState::HasPacks => {}
        ChannelState::Empty(empty) => report.error(path, empty.to_string()),
        ChannelState::NoChannels => {
            report.warn(path, "no channel has a pack yet: publish one with `bolt repo publish`")
        }
    }
}

/// Checks the site configuration of packs: that the sync can read it, and that it fits the active version of its pack.
pub(super) fn check_site_files(config: &Config, report: &mut Report) {
    let directory = &config.paths.pack_config;
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return report.error(directory, format!("cannot list it (paths.pack_config): {error}")),
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "yaml")).collect();
    files.sort();
    for path in files {
        if let Err(error) = crate::site_file::open(&path) {
            report.error(&path, format!("the sync cannot read it: {error}"));
            continue;
        }
        match path.file_stem().and_then(|stem| PackName::new(stem.to_str()?).ok()) {
            Some(pack) => {
                if let Err(problem) = site_config::inspect(config, &pack) {
                    report.error(&path, problem);
                }
            }
            None => report.warn(&path, "its name is not that of a pack, so nothing reads it: call it <pack>.yaml"),
        }
    }
}

/// Checks from what virtual environments are built. Only packs with a `requirements.txt` have one, so that the agent works without.
pub(super) fn check_python(path: &Path, config: &PythonConfig, report: &mut Report) {
    for problem in inspect::python(config) {
        report.warn(path, format!("{problem}; until then packs with a requirements.txt are not activated"));
    }
}

/// The error without its own first words, which only name the file; the report names it already.
fn source_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}
