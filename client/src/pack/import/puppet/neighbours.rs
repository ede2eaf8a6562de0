//! Files of other modules that tasks name. They are looked for in modules beside the imported one, as Puppet does with
//! the directory of modules; nothing else of those is read into a pack.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::metadata::words;
use super::module::{self, short_name};
use crate::pack::import::documents::read_json;
use crate::pack::import::source::{self, SourceTree};
use crate::pack::import::{Format, ImportError};

/// Maximum number of other modules that are read.
const MAX_MODULES: usize = 32;

/// Adds the files to `tree`, the module in `directory`. A module that cannot be read is one that is not there.
pub(in crate::pack::import) fn read(tree: &mut SourceTree, directory: &Path) -> Result<(), ImportError> {
    let wanted = wanted(tree)?;
    let Some(above) = directory.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned)) else {
        return Ok(());
    };
    let modules: BTreeSet<&str> = wanted.iter().filter_map(|spec| spec.split('/').next()).collect();
    for name in modules.into_iter().filter(|name| module::is_name(name)).take(MAX_MODULES) {
        let Some(other) = find(&above, name).and_then(|found| source::read(&found, Format::Puppet).ok()) else {
            continue;
        };
        for (path, file) in other.files {
            let full = format!("{name}/{path}");
            if wanted.iter().any(|spec| *spec == full || spec.ends_with('/') && full.starts_with(spec.as_str())) {
                tree.neighbours.insert(full, file);
            }
        }
    }
    Ok(())
}

/// Returns the files that tasks name, but for those of the module itself.
fn wanted(tree: &SourceTree) -> Result<BTreeSet<String>, ImportError> {
    let mut wanted = BTreeSet::new();
    let paths = tree.files.keys().filter(|path| path.starts_with("tasks/") && path.ends_with(".json"));
    for path in paths {
        let Ok(json) = read_json(tree, path)? else { continue };
        wanted.extend(words(&json.value, "files"));
        let implementations = json.value.get("implementations").and_then(Value::as_array).into_iter().flatten();
        wanted.extend(implementations.flat_map(|one| words(one, "files")));
    }
    Ok(wanted)
}

/// Returns the directory of the module `name` in `above`, with or without an author before its name.
fn find(above: &Path, name: &str) -> Option<PathBuf> {
    let names = source::names(above).ok()?;
    let called = |directory: &str| short_name(directory) == Some(name);
    let mut found = names.into_iter().filter(|(directory, is_directory)| *is_directory && called(directory));
    let found = found.find(|(directory, _)| describes(&above.join(directory), name))?;
    Some(above.join(found.0))
}

/// True if the directory is a module of this name by its own description, so that no other directory is read.
fn describes(directory: &Path, name: &str) -> bool {
    let head =
        source::read_one(directory, module::FILE).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let given = head.as_ref().and_then(|head| head.get("name")).and_then(Value::as_str);
    given.and_then(short_name) == Some(name)
}
