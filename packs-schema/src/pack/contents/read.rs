//! Reads and checks a pack from a listing of its files and a [`FileReader`].

use std::collections::BTreeMap;

use crate::base::document::{DocumentError, yaml};
use crate::base::finding::Finding;
use crate::pack::param::Schema;

use super::{
    ACTIONS_DIRECTORY, CONFIG_SCHEMA_FILE, CheckOutcome, Contents, EntryKind, MAX_ACTIONS, MAX_YAML, PACK_FILE,
    PackEntry, REQUIREMENTS_FILE, Requirement, check, requirements,
};

/// Maximum number of findings about `requirements.txt`.
const MAX_SHOWN: usize = 20;

/// Access to the text of a pack's files.
pub trait FileReader {
    /// Returns the text of the regular file at `path`, which has at most [`MAX_YAML`] bytes; the error says why it
    /// cannot be read.
    fn text(&mut self, path: &str) -> Result<String, String>;
}

/// Parses `config.schema.yaml`.
pub fn config_schema(text: &str) -> Result<BTreeMap<String, Schema>, DocumentError> {
    // An empty file or an empty type does not restrict values.
    let types = yaml::parse::<Option<BTreeMap<String, Option<Schema>>>>(text)?.unwrap_or_default();
    Ok(types.into_iter().map(|(name, schema)| (name, schema.unwrap_or_default())).collect())
}

/// Reads and checks a pack. Also returns its contents, for [`lint`](super::lint), if they could be parsed.
pub fn read(files: &[PackEntry], reader: &mut dyn FileReader) -> (Option<Contents>, CheckOutcome) {
    let mut found = Vec::new();
    let Some(pack) = parse(files, PACK_FILE, reader, &mut found, yaml::parse) else {
        if found.is_empty() {
            let message = "missing; create pack.yaml in the pack's top directory with name, version and description";
            found.push(Finding::error("no_pack_file", PACK_FILE, message));
        }
        return (None, (None, found));
    };
    let mut actions = BTreeMap::new();
    for path in files.iter().map(|f| f.path.as_str()).filter(|path| is_action_file(path)).take(MAX_ACTIONS + 1) {
        if let Some(action) = parse(files, path, reader, &mut found, yaml::parse) {
            actions.insert(path.to_owned(), action);
        }
    }
    let config = parse(files, CONFIG_SCHEMA_FILE, reader, &mut found, config_schema).unwrap_or_default();
    let requirements = parse_requirements(files, reader, &mut found);
    let contents = Contents { pack, actions, config, requirements };
    let (checked, more) = check(&contents, files);
    let unread = !found.is_empty();
    found.extend(more);
    (Some(contents), (checked.filter(|_| !unread), found))
}

/// Returns the Python requirements; each invalid line is a finding.
fn parse_requirements(files: &[PackEntry], reader: &mut dyn FileReader, found: &mut Vec<Finding>) -> Vec<Requirement> {
    let mut wrong = Vec::new();
    let read = parse(files, REQUIREMENTS_FILE, reader, found, |text| {
        Ok(requirements(text).unwrap_or_else(|errors| {
            wrong = errors;
            Vec::new()
        }))
    });
    let shown = wrong.iter().take(MAX_SHOWN);
    found.extend(shown.map(|e| Finding::error("bad_requirement", REQUIREMENTS_FILE, e.to_string())));
    read.unwrap_or_default()
}

/// True for `actions/<file>.yaml` or `.yml`, directly in the directory.
fn is_action_file(path: &str) -> bool {
    path.strip_prefix(ACTIONS_DIRECTORY)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|file| !file.contains('/') && (file.ends_with(".yaml") || file.ends_with(".yml")))
}

/// Returns the parsed file; `None` if it is absent, or cannot be parsed, which is a finding.
fn parse<T>(
    files: &[PackEntry],
    path: &str,
    reader: &mut dyn FileReader,
    found: &mut Vec<Finding>,
    mut parser: impl FnMut(&str) -> Result<T, DocumentError>,
) -> Option<T> {
    let file = files.iter().find(|f| f.path == path)?;
    let mut stop = |code, message: String| {
        found.push(Finding::error(code, path, message));
        None
    };
    if file.kind != EntryKind::File {
        return stop("not_a_file", "it is not a regular file".to_owned());
    }
    if file.size > MAX_YAML {
        return stop("too_large", format!("it has {} bytes, more than the maximum of {MAX_YAML}", file.size));
    }
    match reader.text(path).and_then(|text| parser(&text).map_err(|e| e.to_string())) {
        Ok(parsed) => Some(parsed),
        Err(message) => stop("unreadable", message),
    }
}
