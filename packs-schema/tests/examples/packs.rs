//! Static checks of the example packs: no findings for agents or authors.

use std::process::Command;

use packs_schema::pack::action::Class;
use packs_schema::pack::contents::{self, EntryKind};

use crate::driver::{Files, directory, have, read};

/// Returns the names of the example packs: the directories.
fn packs() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory(""))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    names
}

#[test]
fn the_example_packs_have_no_findings() {
    for pack in &packs() {
        let (contents, checked, found) = read(pack);
        assert_eq!(found, [], "{pack}");
        let (contents, checked) = (contents.unwrap(), checked.unwrap());
        let mut script = |path: &str| std::fs::read_to_string(directory(pack).join(path)).ok();
        assert_eq!(contents::lint(&contents, &checked, &mut script), [], "{pack}");
    }
}

#[test]
fn every_path_of_an_example_pack_is_allowed() {
    for pack in &packs() {
        for file in (Files { root: directory(pack) }).list() {
            assert_eq!(contents::check_path(&file.path), Ok(()));
            assert_ne!(file.kind, EntryKind::Other, "{}", file.path);
            let script = file.head.starts_with(b"#!");
            assert_eq!(
                script,
                file.executable && file.kind == EntryKind::File,
                "{}: run bit and shebang agree",
                file.path
            );
        }
    }
}

#[test]
fn actions_are_described_and_limited() {
    for pack in packs() {
        for action in read(&pack).1.unwrap().actions {
            let name = action.reference();
            assert!(action.output_schema.is_some(), "{name}: no output_schema");
            assert!(action.concurrency.is_some(), "{name}: any number of it at once");
            assert!(!action.new_privileges, "{name}");
            let memory = if name.to_string() == "bolt_engine.upgrade" { 1 << 30 } else { 256 << 20 };
            assert!(action.limits.memory.0 <= memory && action.limits.pids <= 64, "{name}: {:?}", action.limits);
            assert_eq!(action.noop, action.class != Class::Diagnostic, "{name}: what changes something knows noop");
            assert_eq!(
                action.rate.is_some(),
                action.class != Class::Diagnostic,
                "{name}: what changes something has a rate"
            );
            for (parameter, schema) in &action.parameters {
                assert!(schema.description.is_some(), "{name}: {parameter} has no description");
                let patterns = schema.pattern.iter().chain(match &schema.items {
                    Some(packs_schema::pack::param::Items::All(items)) => items.pattern.as_ref(),
                    _ => None,
                });
                for pattern in patterns.map(packs_schema::pack::param::Pattern::as_str) {
                    assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{name}: {parameter}: {pattern}");
                }
            }
        }
    }
}

#[test]
fn the_table_lists_every_action() {
    let text = std::fs::read_to_string(directory("README.md")).unwrap();
    let mut listed = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [pack, action, class, run_as, needs] = cells[..] else { panic!("{line}") };
        assert!(!needs.is_empty(), "{line}");
        listed.push([pack.trim_matches('`'), action.trim_matches('`'), class, run_as].join(" "));
    }
    let mut real = Vec::new();
    for pack in &packs() {
        for action in read(pack).1.unwrap().actions {
            let class = match action.class {
                Class::Diagnostic => "diagnostic",
                Class::Remediation => "remediation",
                Class::Maintenance => "maintenance",
            };
            let run_as = action.run_as.as_ref().map_or("own", |account| account.as_str());
            real.push([pack, action.name.as_str(), class, run_as].join(" "));
        }
    }
    assert_eq!(listed, real);
}

#[test]
fn an_error_fits_every_result() {
    for pack in packs() {
        for action in read(&pack).1.unwrap().actions {
            let schema = action.output_schema.as_ref().unwrap();
            let error = serde_json::json!({"error": "this host has no program"});
            assert_eq!(packs_schema::pack::param::check::check(schema, &error), [], "{}", action.reference());
        }
    }
}

/// Modules that several packs share. A pack is a directory of its own, so each has a copy.
const SHARED: [&str; 6] = ["bolt_action.py", "tool.py", "units.py", "proc.py", "x509.py", "web.py"];

#[test]
fn the_copies_of_shared_modules_are_identical() {
    for module in SHARED {
        let copy = |pack: &str| std::fs::read(directory(pack).join("actions/lib").join(module)).ok();
        let first = packs().iter().find_map(|pack| copy(pack));
        for pack in &packs() {
            let found = copy(pack);
            assert!(found.is_some() || module != "bolt_action.py", "{pack} has no {module}");
            assert!(found.is_none() || found == first, "{module} of {pack} differs from the others; copy the newer");
        }
    }
}

#[test]
fn python_compiles_without_a_warning() {
    if !have("python_compiles_without_a_warning", "python3") {
        return;
    }
    let check = "import ast,sys\nfor path in sys.argv[1:]:\n  compile(open(path,encoding='utf-8').read(),path,'exec',dont_inherit=True)\n  ast.parse(open(path,encoding='utf-8').read(),feature_version=(3,7))";
    for pack in &packs() {
        let files = Files { root: directory(pack) };
        let scripts = files.list().into_iter().filter(|f| f.path.ends_with(".py")).map(|f| files.root.join(f.path));
        let output = Command::new("python3").args(["-W", "error", "-c", check]).args(scripts).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn shell_has_no_finding_of_shellcheck() {
    if !have("shell_has_no_finding_of_shellcheck", "shellcheck") {
        return;
    }
    for pack in &packs() {
        let files = Files { root: directory(pack) };
        for file in files.list().iter().filter(|f| f.path.ends_with(".sh")) {
            let output = Command::new("shellcheck").arg(files.root.join(&file.path)).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}
