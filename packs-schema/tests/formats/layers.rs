//! Imports of the crate's modules: between layers they go downwards only, and within a layer there are no circles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Layers, lowest first.
const LAYERS: [&str; 4] = ["base", "pack", "delivery", "agent"];

/// Module as layer and name; items of the layer itself, such as `pack::Pack`, have the name "".
type Module = (String, String);

#[test]
fn imports_go_downwards_and_have_no_circles() {
    let imports = imports();
    assert!(imports.len() > 20, "{imports:?}");
    for (module, imported) in &imports {
        for other in imported.iter().filter(|other| other.0 != module.0) {
            assert!(rank(other) < rank(module), "{module:?} imports {other:?} of a higher layer");
        }
    }
    // Remove modules without remaining imports until none is left: those that stay are in a circle.
    let mut left = imports;
    left.values_mut().for_each(|of| of.retain(|module| !module.1.is_empty()));
    loop {
        let free: Vec<Module> = left.iter().filter(|(_, of)| of.is_empty()).map(|(module, _)| module.clone()).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|module, _| !free.contains(module));
        left.values_mut().for_each(|of| of.retain(|module| !free.contains(module)));
    }
    assert!(left.is_empty(), "circle of imports: {left:?}");
}

fn rank(module: &Module) -> usize {
    LAYERS.iter().position(|layer| *layer == module.0).unwrap_or_else(|| panic!("unknown layer of {module:?}"))
}

/// Returns the modules that each module imports.
fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut imports: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for path in sources(&src) {
        let relative = path.strip_prefix(&src).unwrap().with_extension("");
        let mut parts = relative.iter().map(|part| part.to_str().unwrap().to_owned());
        let layer = parts.next().unwrap();
        let module = (layer, parts.next().unwrap_or_default());
        let known = |name: &str| src.join(name).with_extension("rs").exists();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let imported = imports.entry(module.clone()).or_default();
        for place in code.flat_map(|line| line.split("crate::").skip(1)) {
            let end = place.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(place.len());
            let mut names = place[..end].split("::");
            let layer = names.next().unwrap_or_default();
            let name = names.next().filter(|name| known(&format!("{layer}/{name}"))).unwrap_or_default();
            imported.insert((layer.to_owned(), name.to_owned()));
        }
        imported.remove(&module);
    }
    // The file of a layer declares its modules and re-exports items: it is no module of its own.
    for layer in LAYERS {
        imports.remove(&(layer.to_owned(), String::new()));
    }
    imports.remove(&("lib".to_owned(), String::new()));
    imports
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
