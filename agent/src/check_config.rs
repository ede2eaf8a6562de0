//! `bolt-agent check-config`: validates the configuration without starting anything and without the network, as `nginx -t`
//! does.
//!
//! ```text
//!  agent.toml ─▶ accounts, uid range ─▶ directories ─▶ as the api: grants, certificates
//!             ─▶ as the sync: root.json, a repository in a directory, site configuration, interpreter and wheels
//! ```
//!
//! Each file is read with the code that the start uses, so that both judge alike. As root the check takes the effective
//! user and groups of the account that will read a file, because owners and modes are judged for that account; otherwise
//! everything is judged for the current user, as an agent without root does. All problems are reported at once, except that
//! an `agent.toml` that cannot be parsed names no files to check. Nothing is
//! written but a temporary directory, which the verification of the repository needs for a moment.

mod accounts;
mod directories;
mod files;
mod identity;
mod report;
mod values;

use std::path::Path;

use packs_schema::agent::config::{Config, ConfigError};

use crate::config_file::{self, ConfigFileError};
use crate::log::chain;
use identity::Identity;
pub use report::{Finding, Report, Severity};

/// Configuration that is checked where none is named.
pub const DEFAULT: &str = "/etc/bolt/agent.toml";

/// Checks the configuration in `path` and everything that it names.
pub fn check(path: &Path) -> Report {
    let mut report = Report::default();
    let Some(config) = read(path, &mut report) else { return report };
    values::check(path, &config, &mut report);
    let (api, sync) = accounts::check(path, &config, &mut report);
    directories::check(&config, api.as_ref(), sync.as_ref(), &mut report);
    let missing = |report: &mut Report, what: &str| {
        report.warn(path, format!("{what} not checked: the account that reads them is not known"));
    };
    match &api {
        Some(api) => api.run(&mut report, |report| {
            files::check_grants(&config.paths.grants, report);
            files::check_tls(&config, report);
        }),
        None => missing(&mut report, "grants and certificates were"),
    }
    match &sync {
        Some(sync) => sync.run(&mut report, |report| {
            files::check_root(&config.repository.root, report);
            files::check_repository(&config.repository, report);
            files::check_site_files(&config, report);
            files::check_python(path, &config.python, report);
        }),
        None => missing(&mut report, "the repository's root and site configuration were"),
    }
    report
}

/// Reads `agent.toml` as the start does; `None` when it names nothing that can be checked.
fn read(path: &Path, report: &mut Report) -> Option<Config> {
    let path = match config_file::absolute(path) {
        Ok(path) => path,
        Err(error) => {
            report.error(path, chain(&error));
            return None;
        }
    };
    if let Err(ConfigFileError::Trust(error)) = config_file::check_owner_and_mode(&path) {
        report.error(&path, chain(&error));
    }
    let text = match config_file::read_text(&path) {
        Ok(text) => text,
        Err(ConfigFileError::Read(_, error)) => {
            report.error(&path, format!("cannot read it: {error}"));
            return None;
        }
        Err(error) => {
            report.error(&path, chain(&error));
            return None;
        }
    };
    let config = match Config::parse_unchecked(&text) {
        Ok(config) => config,
        Err(ConfigError::Toml(error)) => {
            report.error_at(&path, error.line(), error.to_string());
            report.warn(&path, "the files that it names were not checked");
            return None;
        }
        Err(error) => {
            report.error(&path, chain(&error));
            return None;
        }
    };
    let problems = config.problems();
    for problem in &problems {
        report.error(&path, chain(problem));
    }
    // A key that holds the content of a file must not be repeated as a path.
    let has_content = problems.iter().any(|problem| matches!(problem, ConfigError::Content(_)));
    (!has_content).then_some(config)
}

/// True if the launcher could switch to the accounts of the configuration, as the check then does.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests;
