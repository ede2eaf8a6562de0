//! The invariants of ARCHITECTURE.md, held against the source itself.

mod circles;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above")
}

fn manifest(of: &str) -> toml::Table {
    let path = root().join(of).join("Cargo.toml");
    toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn dependencies(of: &str) -> BTreeSet<String> {
    manifest(of)["dependencies"].as_table().unwrap().keys().cloned().collect()
}

/// The Rust files of a module: `<name>.rs` and all below `<name>/`.
fn sources(of: &str) -> Vec<(PathBuf, String)> {
    let base = root().join(of);
    let mut found = Vec::new();
    let mut places = vec![base.clone(), base.with_extension("rs")];
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
        } else if place.extension().is_some_and(|e| e == "rs") && place.exists() {
            found.push((place.clone(), fs::read_to_string(&place).unwrap()));
        }
    }
    assert!(!found.is_empty(), "{of} has no source");
    found
}

fn must_not_say(of: &str, words: &[&str]) {
    for (path, text) in sources(of) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for word in words {
                assert!(!line.contains(word), "{}:{}: {word} in {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_privileged_half_has_few_dependencies() {
    let few = ["nix", "packs-schema", "serde", "serde_json", "thiserror"].map(str::to_owned);
    assert_eq!(dependencies("agent/launcher"), few.into());
}

/// Checks that agent and client share one reader, in `packs-schema` behind a feature that the launcher does not enable.
#[test]
fn the_launcher_reads_no_yaml() {
    let features = |of: &str| {
        let schema = manifest(of)["dependencies"]["packs-schema"].clone();
        schema.get("features").and_then(|features| features.as_array().cloned()).unwrap_or_default()
    };
    assert!(!features("agent/launcher").contains(&"yaml".into()));
    for of in ["agent", "client"] {
        assert!(features(of).contains(&"yaml".into()), "{of}");
        for parser in ["granit-parser", "serde-saphyr"] {
            assert!(!dependencies(of).contains(parser), "{of} has a YAML reader of its own");
        }
    }
    let schema = manifest("packs-schema");
    assert_eq!(schema["dependencies"]["granit-parser"]["optional"].as_bool(), Some(true));
    assert!(schema["features"].get("default").is_none());
}

#[test]
fn agent_and_client_never_import_each_other() {
    assert!(!dependencies("agent").contains("bolt-client"));
    assert!(!dependencies("client").contains("bolt-agent"));
    // The shared crate for AWS knows neither of them.
    for other in ["bolt-agent", "bolt-client", "bolt-launch"] {
        assert!(!dependencies("agent/aws").contains(other), "{other}");
    }
    for crate_name in ["packs-schema", "agent", "agent/aws", "client"] {
        assert!(!dependencies(crate_name).contains("bolt-launch"), "{crate_name}");
    }
}

/// Checks that the Python package is a layer over the client library, without a protocol, planner or file format of its own, and
/// that its threads never call Python.
#[test]
fn the_python_package_only_calls_the_library() {
    let allowed = ["bolt-client", "nix", "packs-schema", "pyo3", "serde", "serde_json", "tokio"].map(str::to_owned);
    assert_eq!(dependencies("client/python"), allowed.into());
    must_not_say(
        "client/python/src",
        &["Python::attach", "with_gil", "std::fs", "std::net", "tokio::net", "fleet::run("],
    );
}

#[test]
fn the_formats_are_pure() {
    must_not_say(
        "packs-schema/src",
        &["std::fs", "std::process", "TcpStream", "UnixStream", "SystemTime::now", "Instant::now"],
    );
}

#[test]
fn data_flows_one_way_inside_the_agent() {
    must_not_say("agent/src/exec", &["hyper", "http_body", "crate::api"]);
    must_not_say("agent/src/history", &["hyper", "crate::api", "crate::exec", "crate::registry"]);
    must_not_say("agent/src/registry", &["hyper", "crate::api", "crate::exec", "crate::history"]);
    must_not_say("agent/src/sync", &["hyper", "crate::api", "crate::exec", "crate::history"]);
}

#[test]
fn unsafe_stands_in_two_modules() {
    for of in [
        "packs-schema/src",
        "agent/src",
        "agent/aws/src",
        "agent/launcher/src",
        "client/src",
        "client/python/src",
        "tests/src",
        "tests/fuzz/src",
    ] {
        for (path, text) in sources(of) {
            let says = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {"));
            let is_sys = path.ends_with("sys.rs") || path.parent().is_some_and(|parent| parent.ends_with("sys"));
            assert!(!says || is_sys, "{}", path.display());
        }
    }
}

/// The text between quotes that begins with `prefix`, as far as it is a variable's name.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let of_line = |line: &str| -> Vec<String> {
        let parts = line.split('"').filter(|part| part.starts_with(prefix));
        let name = |part: &str| {
            part.chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_').collect()
        };
        parts.map(name).collect()
    };
    lines.flat_map(of_line).collect()
}

#[test]
fn every_variable_of_our_own_is_in_the_one_list() {
    let mut found = BTreeSet::new();
    for of in ["packs-schema/src", "agent/src", "agent/aws/src", "agent/launcher/src", "client/src"] {
        for (path, text) in
            sources(of).into_iter().filter(|(path, _)| !path.ends_with("packs-schema/src/base/environment.rs"))
        {
            for name in names(text.split("#[cfg(test)]").next().unwrap(), "BOLT_") {
                let known = packs_schema::base::environment::owner(&name).is_some() || name == "BOLT_CONFIG";
                let is_test =
                    path.components().any(|part| ["tests", "tests.rs"].iter().any(|of| part.as_os_str() == *of));
                assert!(known || is_test, "{name} in {}", path.display());
                found.insert(name);
            }
        }
    }
    assert!(found.len() > 15, "{found:?}");
}

#[test]
fn every_variable_that_the_sync_is_given_is_checked_there() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let handed = read("agent/launcher/src/serve/inherited_env.rs");
    let checked = read("agent/aws/src/environment.rs") + &read("agent/aws/src/environment/authorities.rs");
    for prefix in ["AWS_", "HTTP", "ALL_", "NO_", "SSL_"] {
        let handed = names(&handed, prefix);
        assert!(!handed.is_empty(), "{prefix}");
        let checked = names(&checked, prefix);
        let missing: Vec<_> = handed.difference(&checked).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}

/// Runs `cargo tree` offline.
fn tree(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tree = std::process::Command::new(cargo);
    tree.args(["tree", "--locked", "--offline", "--prefix", "none"]).args(arguments).current_dir(root());
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Checks that what is private stays so outside of `tests/fuzz`, which has doors to readers of hostile bytes.
#[test]
fn no_program_that_ships_has_the_doors_of_the_fuzz_targets() {
    let has_doors = |arguments: &[&str]| tree(arguments).contains("feature \"fuzzing\"");
    let shipped = ["-p", "bolt-agent", "-p", "bolt-launch", "-p", "bolt-client", "-p", "bolt-fleet"];
    assert!(!has_doors(&[&shipped[..], &["--features", "bolt-client/kms", "--edges", "features"]].concat()));
    assert!(has_doors(&["-p", "bolt-fuzz", "--edges", "features"]));
    let members = manifest("")["workspace"]["default-members"].as_array().unwrap().clone();
    assert!(!members.contains(&"tests/fuzz".into()), "`cargo build` builds the doors");
    let mut doors = 0;
    for of in ["agent/src", "agent/aws/src", "client/src"] {
        for (path, text) in sources(of) {
            let lines: Vec<&str> = text.lines().collect();
            for at in (0..lines.len()).filter(|at| lines[*at].ends_with("mod fuzz;") || lines[*at].contains("fn fuzz_"))
            {
                let before = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
                assert!(before.into_iter().any(|line| *line == "#[cfg(feature = \"fuzzing\")]"), "{}", path.display());
                doors += 1;
            }
        }
    }
    assert!(doors >= 10, "{doors}");
}

/// Checks the dependencies of the shipped programs. The tests' own bucket has more.
#[test]
fn one_tls_provider_and_no_http_2() {
    let shipped = ["-p", "bolt-agent", "-p", "bolt-launch", "-p", "bolt-client"];
    let names = tree(&[&["--edges", "normal,build", "--format", "{p}"], &shipped[..]].concat());
    let names: BTreeSet<&str> = names.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("aws-lc-rs") && names.contains("aws-sdk-s3"), "{names:?}");
    for name in ["h2", "openssl", "openssl-sys", "native-tls", "ring", "aws-smithy-http-client"] {
        assert!(!names.contains(name), "{name}");
    }
}

/// The resident half must not carry what only a poll needs.
#[test]
fn the_api_does_not_carry_the_sdk() {
    bolt_tests::binaries();
    // A search of our own takes two minutes where it is not optimised: the programs have hundreds of megabytes.
    let holds = |program: &str| {
        let path = bolt_client::local::binary(program).unwrap();
        let found = Command::new("grep").args(["-qaF", "x-amz-content-sha256"]).arg(path).status().unwrap();
        found.code().filter(|code| *code < 2).unwrap_or_else(|| panic!("grep: {found}")) == 0
    };
    assert!(holds("bolt-sync"));
    for program in ["bolt-agent", "bolt-launch"] {
        assert!(!holds(program), "{program}");
    }
}

#[test]
fn the_top_level_is_what_was_agreed() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "agent",
        "client",
        "packs-schema",
        "systemd",
        "tests",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "LICENSE",
        "deny.toml",
        "target",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || agreed.contains(&name.as_str()), "{name}");
    }
}
