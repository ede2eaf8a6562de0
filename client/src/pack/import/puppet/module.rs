//! Module around its tasks: name and version, aliases of types, files of other modules.

use std::collections::BTreeMap;

use packs_schema::base::name::{PackName, PackVersion};
use serde_json::{Value, json};

use super::known::Aliases;
use super::supplied;
use crate::pack::import::documents::{read_json, read_yaml};
use crate::pack::import::lines::line_of;
use crate::pack::import::names::version;
use crate::pack::import::report::{Effect, ImportFinding};
use crate::pack::import::source::{SourceFile, SourceTree};
use crate::pack::import::{ImportError, emit};

/// Description of a module.
pub(super) const FILE: &str = "metadata.json";
/// Description of a Bolt project, which is a module as well.
pub(super) const PROJECT_FILE: &str = "bolt-project.yaml";
/// Directories of a module from which a task may name files.
pub(super) const MOUNTS: [&str; 4] = ["files", "lib", "scripts", "tasks"];

/// A module.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) pack: PackName,
    pub(super) version: PackVersion,
    pub(super) aliases: Aliases,
    head: Value,
}

/// Reads what describes the module.
pub(super) fn read(tree: &SourceTree, findings: &mut Vec<ImportFinding>) -> Result<Module, ImportError> {
    let head = match tree.files.contains_key(FILE) {
        true => read_json(tree, FILE)?.map_err(|error| ImportError::refused(FILE, error.message))?.value,
        false => {
            read_yaml(tree, PROJECT_FILE)?.map_err(|error| ImportError::refused(PROJECT_FILE, error.to_string()))?
        }
    };
    let file = if tree.files.contains_key(FILE) { FILE } else { PROJECT_FILE };
    let wanted = head.get("name").and_then(Value::as_str);
    // Without a name, the directory has it, with or without an author.
    let full = wanted.unwrap_or(&tree.name);
    let name = short_name(full);
    let pack =
        PackName::new(name.unwrap_or(full)).map_err(|source| ImportError::Name { file: file.to_owned(), source })?;
    let Some(name) = name else {
        return Err(ImportError::refused(
            file,
            format!("{full:?} is not the name of a Puppet module, such as author-name"),
        ));
    };
    let given = head.get("version").and_then(Value::as_str).unwrap_or_default();
    let version = version(given);
    if version.to_string() != given {
        let message = format!("the version is not semantic; it is {version} in Bolt");
        let at = line_of(tree.text(file).unwrap_or_default(), &["version"]);
        findings.push(ImportFinding::new("version", Effect::Note, file, message).at(at));
    }
    let mut aliases = Aliases::default();
    for (path, file) in &tree.files {
        if let (true, Some(text)) = (path.starts_with("types/") && path.ends_with(".pp"), file.text()) {
            aliases.add(text);
        }
    }
    let name = name.to_owned();
    Ok(Module { name, pack, version, aliases, head })
}

/// Returns the name of a module without its author; `None` if it is no name of a module.
pub(super) fn short_name(full: &str) -> Option<&str> {
    let (author, name) = full.split_once(['-', '/']).map_or((None, full), |(author, name)| (Some(author), name));
    let good_author =
        author.is_none_or(|author| !author.is_empty() && author.bytes().all(|b| b.is_ascii_alphanumeric()));
    (good_author && is_name(name)).then_some(name)
}

/// True for a name of a module or a task.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl Module {
    /// Returns the text of `pack.yaml`.
    pub(super) fn text(&self) -> String {
        let text = |key: &str| json!(self.head.get(key).and_then(Value::as_str).unwrap_or_default().trim());
        let tags = self.head.get("tags").and_then(Value::as_array).into_iter().flatten();
        let words: Vec<&str> = tags.filter_map(Value::as_str).collect();
        emit::document(
            &[
                ("name", json!(self.name)),
                ("ref", json!(self.pack)),
                ("version", json!(self.version.to_string())),
                ("description", text("summary")),
                ("author", text("author")),
                ("keywords", json!(words)),
            ],
            0,
        )
    }

    /// Returns the files that `spec` of a task names, by their path below the directory of modules; the error says why
    /// there are none.
    pub(super) fn files(&self, tree: &SourceTree, spec: &str) -> Result<BTreeMap<String, SourceFile>, String> {
        let parts: Vec<&str> = spec.split('/').collect();
        let valid = parts.len() > 2
            && is_name(parts[0])
            && MOUNTS.contains(&parts[1])
            && parts[2..].iter().enumerate().all(|(at, part)| match *part {
                "" => at > 0 && at + 3 == parts.len() || at == 0 && parts.len() == 3,
                part => !part.starts_with('.'),
            });
        if !valid {
            let shown = packs_schema::base::strict::shorten(spec, 120);
            return Err(format!("{shown:?} is no file of a module, such as module/files/name"));
        }
        let own = spec.strip_prefix(&format!("{}/", self.name));
        let known = match own {
            Some(path) => below(&tree.files, path),
            None => below(&tree.neighbours, spec),
        };
        let prefix = if own.is_some() { format!("{}/", self.name) } else { String::new() };
        let mut files: BTreeMap<String, SourceFile> =
            known.map(|(path, file)| (format!("{prefix}{path}"), file.clone())).collect();
        if files.is_empty() {
            files.extend(supplied::helper(spec));
        }
        match files.is_empty() {
            false => Ok(files),
            true if own.is_some() => Err(format!("{spec} is not in the module")),
            true => Err(format!("{spec} is in another module; put the module {} beside this one", parts[0])),
        }
    }
}

/// Returns the file at `path`, or all below it if it ends in `/`.
fn below<'a>(
    files: &'a BTreeMap<String, SourceFile>,
    path: &'a str,
) -> impl Iterator<Item = (&'a String, &'a SourceFile)> {
    files
        .range(path.to_owned()..)
        .take_while(move |(known, _)| *known == path || path.ends_with('/') && known.starts_with(path))
}
