//! Circles of imports between the modules of a crate.
//!
//! Read from `use` declarations and from paths that begin with `crate::`; `mod` declarations and imports of the crate's root are
//! not imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{root, sources};

/// Crates, each with the modules in which circles are accepted.
const CRATES: [(&str, &[&str]); 6] = [
    // Binding, checking and delivering a parameter are one algorithm in several files; `deliver` puts the site configuration
    // beside the parameters, and both are bound in the same way.
    ("packs-schema", &["pack::param", "pack::site_config"]),
    ("agent", &["api"]),
    ("agent/aws", &[]),
    ("agent/launcher", &[]),
    // The error type of the library names the errors of its connection; a repository's state and its trust refer to each other.
    ("client", &["connection", "error", "repo"]),
    ("tests", &[]),
];

/// Imports of each module, by paths such as `shim::watch`.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_import_without_circles() {
    for (of, accepted) in CRATES {
        let imports = imports(of);
        let is_accepted = |module: &str| {
            accepted.iter().any(|prefix| module == *prefix || module.starts_with(&format!("{prefix}::")))
        };
        let circles: Vec<String> = imports
            .iter()
            .flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)))
            .filter(|(from, to)| {
                reachable(&imports, to).contains(from.as_str()) && !(is_accepted(from) && is_accepted(to))
            })
            .map(|(from, to)| format!("{from} -> {to}"))
            .collect();
        assert!(circles.is_empty(), "{of}: modules import each other: {circles:?}");
    }
}

#[test]
fn imports_are_read_from_nested_trees() {
    let text =
        "use super::{Job, result::{self, name}};\nuse crate::sys;\nfn f() { crate::log::warn(1) }\nuse std::fs;\n";
    let found = paths("shim::child", text);
    let expected = ["shim::Job", "shim::result", "shim::result::name", "sys", "log::warn"].map(str::to_owned);
    assert_eq!(found, expected.into());
}

/// Returns all modules that a module imports, directly and indirectly.
fn reachable<'a>(imports: &'a Imports, from: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::from([from]);
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        next.extend(imports.get(module).into_iter().flatten().map(String::as_str).filter(|to| found.insert(to)));
    }
    found
}

fn imports(of: &str) -> Imports {
    let directory = root().join(of).join("src");
    assert!(fs::exists(&directory).unwrap(), "{of} has no src");
    let texts: BTreeMap<String, String> = sources(&format!("{of}/src"))
        .into_iter()
        .filter_map(|(path, text)| {
            let module = path.strip_prefix(&directory).unwrap().with_extension("");
            let module: Vec<String> =
                module.iter().map(|part| part.to_string_lossy().into_owned()).filter(|part| part != "lib").collect();
            let is_test = module.iter().any(|part| part == "tests");
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
            (!is_test && module != ["main"]).then(|| (module.join("::"), code))
        })
        .collect();
    let module_of = |path: &str| {
        let mut path = path;
        while !texts.contains_key(path) {
            path = path.rsplit_once("::").map_or("", |(parent, _)| parent);
            if path.is_empty() {
                break;
            }
        }
        path.to_owned()
    };
    texts
        .iter()
        .map(|(module, text)| {
            let targets = paths(module, text).iter().map(|path| module_of(path)).collect::<BTreeSet<_>>();
            (module.clone(), targets.into_iter().filter(|to| to != module && !to.is_empty()).collect())
        })
        .collect()
}

/// Returns the paths inside the crate that a module's text names, without the leading `crate::`.
fn paths(module: &str, text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') && !rest.starts_with('{') {
            found.insert(rest.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).next().unwrap_or_default());
        }
    }
    let mut found: BTreeSet<String> = found.into_iter().map(|path| path.trim_end_matches(':').to_owned()).collect();
    for declaration in code.split(';').filter_map(|part| part.rsplit_once("use ").map(|(_, tree)| tree.trim())) {
        let (mut base, mut tree) = (module, declaration);
        if let Some(rest) = tree.strip_prefix("crate::") {
            (base, tree) = ("", rest);
        } else if !tree.starts_with("super::") {
            continue;
        }
        while let Some(rest) = tree.strip_prefix("super::") {
            base = base.rsplit_once("::").map_or("", |(parent, _)| parent);
            tree = rest;
        }
        for path in expand(tree) {
            let parts: Vec<&str> = base.split("::").chain(path.split("::")).filter(|part| !part.is_empty()).collect();
            found.insert(parts.join("::"));
        }
    }
    found
}

/// Expands a tree such as `a::{b, c::{self, d}}` into its paths.
fn expand(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return vec![path.strip_suffix("self").unwrap_or(path).trim_end_matches(':').to_owned()];
    };
    let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut start, mut items) = (0_u32, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&inner[start..]);
    let items = items.into_iter().filter(|item| !item.trim().is_empty());
    items.flat_map(|item| expand(&format!("{}{}", prefix.trim(), item.trim()))).collect()
}
