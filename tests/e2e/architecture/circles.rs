//! Modules of a crate import one another in one direction.
//!
//! Compares siblings: for an import from `a::b` to `a::c::d` the modules below their common ancestor, `b` and `c`, get an edge.
//! A parent and its own child may name each other: the parent holds the types, the child a part of the work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{root, sources};

/// Circles that are allowed, as the modules in them, with the reason.
const EXCEPTIONS: &[(&str, &[&str], &str)] = &[];

type Module = Vec<String>;
/// For each parent module, the imports between its children, each with one place that shows it.
type Imports = BTreeMap<Module, BTreeMap<(String, String), String>>;

#[test]
fn modules_import_without_circles() {
    let mut unexpected = Vec::new();
    let mut allowed: BTreeSet<usize> = BTreeSet::new();
    for of in [
        "packs-schema/src",
        "agent/src",
        "agent/aws/src",
        "agent/launcher/src",
        "client/src",
        "client/python/src",
        "tests/src",
    ] {
        for (parent, edges) in imports(of) {
            for circle in circles(&edges) {
                let named: Vec<String> = circle.iter().map(|child| path(&parent, child)).collect();
                let exception = EXCEPTIONS.iter().position(|(source, modules, _)| {
                    *source == of && modules.iter().copied().eq(named.iter().map(String::as_str))
                });
                match exception {
                    Some(at) => drop(allowed.insert(at)),
                    None => unexpected.push(describe(of, &named, &circle, &edges)),
                }
            }
        }
    }
    assert!(unexpected.is_empty(), "{} circles of imports:\n{}", unexpected.len(), unexpected.join("\n"));
    assert_eq!(allowed.len(), EXCEPTIONS.len(), "an exception is no longer needed: remove it");
}

/// The detector finds what it is for.
#[test]
fn a_circle_of_imports_is_found() {
    let edges = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(a, b)| ((a.to_string(), b.to_string()), String::new())).collect::<BTreeMap<_, _>>()
    };
    assert!(circles(&edges(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let found = circles(&edges(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]));
    assert_eq!(found, [BTreeSet::from(["a", "b", "c"].map(str::to_owned))]);
    let text = "use super::{one::{self, Two}, three as four};\n// use crate::no;\nfn f() { crate::five::six(); }";
    assert_eq!(paths(text), ["super::one::self", "super::one::Two", "super::three", "crate::five::six"]);
}

fn path(parent: &Module, child: &str) -> String {
    parent.iter().map(String::as_str).chain([child]).collect::<Vec<_>>().join("::")
}

fn describe(
    of: &str,
    named: &[String],
    circle: &BTreeSet<String>,
    edges: &BTreeMap<(String, String), String>,
) -> String {
    let mut text = format!("{of}: {}", named.join(", "));
    for ((from, to), place) in edges.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to)) {
        text += &format!("\n    {from} -> {to}: {place}");
    }
    text
}

fn imports(of: &str) -> Imports {
    let base = root().join(of);
    let modules: BTreeMap<Module, String> =
        sources(of).into_iter().filter_map(|(file, text)| Some((module(&base, &file)?, text))).collect();
    let mut imports = Imports::new();
    for (from, text) in modules.iter().filter(|(module, _)| !module.iter().any(|part| part.contains("test"))) {
        for path in paths(text) {
            let to = target(from, &path, &modules);
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if common < from.len() && common < to.len() {
                let edge = (from[common].clone(), to[common].clone());
                let place = format!("{} imports {path}", from.join("::"));
                imports.entry(from[..common].to_vec()).or_default().entry(edge).or_insert(place);
            }
        }
    }
    imports
}

/// The module of a file; programs of their own are none.
fn module(base: &Path, file: &Path) -> Option<Module> {
    let relative = file.strip_prefix(base).ok()?.with_extension("");
    let parts: Module = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match parts.first()?.as_str() {
        "bin" => None,
        "lib" | "main" => Some(Module::new()),
        _ => Some(parts),
    }
}

/// The module that a path names: as far as there are files for it.
fn target(from: &Module, path: &str, modules: &BTreeMap<Module, String>) -> Module {
    let mut parts = path.split("::").peekable();
    let mut at = if parts.next_if_eq(&"crate").is_some() { Module::new() } else { from.clone() };
    while parts.next_if_eq(&"super").is_some() {
        at.pop();
    }
    for part in parts {
        at.push(part.to_owned());
        if !modules.contains_key(&at) {
            at.pop();
            break;
        }
    }
    at
}

/// Every path within the crate that a source names, in imports and elsewhere; unit tests at its end are left out.
fn paths(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
                expand("", &code[at..], &mut found);
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.starts_with("super")));
    found
}

/// Adds the paths of a tree such as `super::{a::{self, B}, c}`; returns what follows it.
fn expand<'a>(prefix: &str, tree: &'a str, found: &mut Vec<String>) -> &'a str {
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(tree.len());
    let (path, rest) = tree.split_at(end);
    if let Some(mut rest) = rest.strip_prefix('{').filter(|_| path.ends_with("::")) {
        loop {
            rest = expand(&format!("{prefix}{path}"), rest.trim_start_matches(|c: char| c.is_whitespace()), found);
            // Text up to the next comma renames: ` as other`.
            let Some(next) = rest.find([',', '}']) else { return "" };
            let closing = rest[next..].starts_with('}');
            rest = &rest[next + 1..];
            if closing || rest.trim_start().starts_with('}') {
                return if closing { rest } else { rest.trim_start().strip_prefix('}').unwrap_or_default() };
            }
        }
    }
    if !path.is_empty() {
        found.push(format!("{prefix}{}", path.trim_end_matches("::")));
    }
    rest
}

/// The strongly connected modules.
fn circles(edges: &BTreeMap<(String, String), String>) -> Vec<BTreeSet<String>> {
    let reached = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(at) = open.pop() {
            for (_, to) in edges.keys().filter(|(a, _)| *a == at) {
                if seen.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        seen
    };
    let nodes: BTreeSet<&String> = edges.keys().map(|(from, _)| from).collect();
    let reach: BTreeMap<&String, BTreeSet<String>> = nodes.iter().map(|node| (*node, reached(node))).collect();
    let circle = |node: &&String| -> BTreeSet<String> {
        reach[*node].iter().filter(|other| reach.get(other).is_some_and(|r| r.contains(*node))).cloned().collect()
    };
    let mut found: Vec<BTreeSet<String>> = nodes.iter().map(circle).filter(|circle| !circle.is_empty()).collect();
    found.dedup();
    found.sort();
    found.dedup();
    found
}

/// Files that the walk above must see, so that a moved directory does not pass unseen.
#[test]
fn every_crate_is_looked_through() {
    let count = |of: &str| imports(of).values().map(BTreeMap::len).sum::<usize>();
    for (of, least) in [("packs-schema/src", 40), ("agent/src", 100), ("agent/launcher/src", 40), ("client/src", 100)] {
        assert!(count(of) > least, "{of}: {}", count(of));
    }
    assert!(fs::exists(root().join("agent/aws/src/lib.rs")).unwrap());
}
