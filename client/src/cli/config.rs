//! `bolt config show`: the configuration in effect, with the origin of each value.

use std::io::ErrorKind;
use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::context::Context;
use super::failure::{Exit, Failure};
use crate::config::{Config, Origin, Setting};
use crate::inventory::ConfiguredSource;
use crate::repo::VARIABLE;
use crate::runs::Directory;
use crate::show;
use crate::{errln, outln};

/// Show the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print each setting, its value, and where it comes from: flag, variable, file and line, or default.
    ///
    /// Settings that no place gives are listed with the ways to give them. Secrets are not shown.
    #[command(after_help = "\
Examples:
  bolt config show
  bolt config show --json | jq -r '.settings[] | select(.from | startswith(\"$\")) | .name'
  BOLT_REPO=s3://packs/prod bolt config show")]
    Show,
}

/// A setting as programs read it.
#[derive(Debug, Serialize)]
struct Shown {
    name: &'static str,
    /// Absent when nothing gives it.
    value: Option<String>,
    /// Flag, `$VARIABLE`, `file:line`, or `default`.
    from: Option<String>,
    flag: &'static str,
    variable: &'static str,
    /// Problem that keeps the value from being used.
    problem: Option<String>,
}

/// A source of the inventory as programs read it.
#[derive(Debug, Serialize)]
struct ShownSource {
    name: String,
    kind: &'static str,
    value: String,
    /// `file:line`.
    from: String,
}

impl ShownSource {
    fn of((source, origin): &(ConfiguredSource, Origin)) -> ShownSource {
        let ConfiguredSource { name, kind, .. } = source;
        ShownSource { name: name.clone(), kind, value: source.describe(), from: origin.to_string() }
    }

    fn row(&self) -> Vec<String> {
        vec![show::visible(&format!("inventory {}", self.name)), show::visible(&self.value), show::visible(&self.from)]
    }
}

/// Runs `bolt config show`.
pub(super) fn run(command: &ConfigCommand, context: &Context) -> Result<Exit, Failure> {
    let ConfigCommand::Show = command;
    let config = context.config();
    let shown: Vec<Shown> = Setting::ALL.into_iter().map(|setting| describe(config, setting)).collect();
    let missing: Vec<Setting> = Setting::ALL
        .into_iter()
        .filter(|setting| setting.is_needed_for_instances() && config.get(*setting).is_none())
        .filter(|setting| *setting != Setting::Inventory || config.sources().is_empty())
        .collect();
    let sources: Vec<ShownSource> = config.sources().iter().map(ShownSource::of).collect();
    if context.json {
        let names: Vec<&str> = missing.iter().map(|setting| setting.name()).collect();
        let file = config.file();
        let value = serde_json::json!({
            "file": { "path": file.path, "exists": file.exists, "from": file_origin(config) },
            "settings": shown,
            "sources": sources,
            "missing": names,
            "passphrase_variable_is_set": is_passphrase_set(),
        });
        outln!("{}", show::json(&value));
        return Ok(Exit::Success);
    }
    let rows: Vec<Vec<String>> = std::iter::once(file_row(config))
        .chain(shown.iter().flat_map(|one| {
            // The tables take the place of the file.
            let is_replaced = one.name == Setting::Inventory.name() && !sources.is_empty();
            let tables = sources.iter().filter(move |_| is_replaced).map(ShownSource::row);
            (!is_replaced).then(|| row(one)).into_iter().chain(tables)
        }))
        .collect();
    context.print_table(&["SETTING", "VALUE", "FROM"], &rows);
    if is_passphrase_set() {
        errln!("${VARIABLE} is set (not shown)");
    }
    for one in &shown {
        if let Some(problem) = &one.problem {
            errln!("{}: {problem}", one.name);
        }
    }
    for setting in missing {
        errln!(
            "missing: {} (needed to talk to instances): give {}, set {}, or write {} in client.toml",
            setting.noun(),
            setting.flag(),
            setting.variable(),
            setting.name()
        );
    }
    Ok(Exit::Success)
}

fn is_passphrase_set() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty())
}

fn file_origin(config: &Config) -> String {
    config.file().origin.as_ref().map_or_else(|| "default".to_owned(), Origin::to_string)
}

fn file_row(config: &Config) -> Vec<String> {
    let file = config.file();
    let path = match &file.path {
        Some(path) if file.exists => show::path(path).to_string(),
        Some(path) => format!("{} (does not exist)", show::path(path)),
        None => "none: neither HOME nor XDG_CONFIG_HOME is set".to_owned(),
    };
    vec!["client.toml".to_owned(), path, file_origin(config)]
}

fn row(shown: &Shown) -> Vec<String> {
    let text = |value: &Option<String>| show::visible(value.as_deref().unwrap_or("-"));
    vec![shown.name.to_owned(), text(&shown.value), text(&shown.from)]
}

fn describe(config: &Config, setting: Setting) -> Shown {
    let found = config.get(setting);
    let problem = match found {
        Some(sourced) => missing_file(setting, &sourced.value),
        None => config.unused(setting).map(|unused| {
            format!(
                "{} is not used: it belongs to the repository of client.toml, not to the one in effect",
                unused.origin
            )
        }),
    };
    let default = || Directory::default_path().filter(|_| setting == Setting::RunStore);
    let (value, from) = match (found, default()) {
        (Some(sourced), _) => (Some(sourced.value.display().to_string()), Some(sourced.origin.to_string())),
        (None, Some(path)) => (Some(path.display().to_string()), Some("default".to_owned())),
        (None, None) => (None, None),
    };
    Shown { name: setting.name(), value, from, flag: setting.flag(), variable: setting.variable(), problem }
}

/// Returns what is wrong with a path that does not exist or cannot be reached. The record of runs is made when it is missing.
fn missing_file(setting: Setting, value: &Path) -> Option<String> {
    let may_be_address = matches!(setting, Setting::Repository | Setting::RunStore);
    if may_be_address && value.to_str().is_some_and(|text| text.contains("://")) {
        return None;
    }
    match value.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound && setting == Setting::RunStore => None,
        Err(error) => Some(format!("cannot open {}: {error}", show::path(value))),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_no_file_that_is_missing_and_the_record_of_runs_is_made() {
        for (setting, value, wrong) in [
            (Setting::Repository, "s3://example-packs/bolt", false),
            (Setting::RunStore, "s3://ops/runs?region=eu-west-1", false),
            (Setting::RunStore, "/nonexistent/runs", false),
            (Setting::Repository, "/nonexistent/packs", true),
            (Setting::RepositoryKeys, "/nonexistent/keys", true),
        ] {
            assert_eq!(missing_file(setting, Path::new(value)).is_some(), wrong, "{value}");
        }
    }
}
