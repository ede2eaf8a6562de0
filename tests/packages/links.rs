//! Shared libraries of the programs in the packages, which the packages must declare.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{built, package, root, rpm};

/// Versions of symbols that a program needs, by library.
fn needed(program: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new("objdump").arg("-p").arg(program).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut library = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("NEEDED ") {
            found.entry(name.trim().to_owned()).or_default();
        } else if let Some(name) = line.strip_prefix("required from ") {
            library = name.trim_end_matches(':').to_owned();
        } else if let [_, _, _, version] = line.split_whitespace().collect::<Vec<_>>()[..]
            && line.starts_with("0x")
            && let Some(versions) = found.get_mut(&library)
        {
            versions.insert(version.to_owned());
        }
    }
    found
}

/// Debian's package of a library.
fn owner(library: &str) -> &'static str {
    match library {
        "libc.so.6" | "libm.so.6" => "libc6",
        "libgcc_s.so.1" => "libgcc-s1",
        loader if loader.starts_with("ld-linux") => "libc6",
        other => panic!("{other} is new: the papers say that nothing but the C library and libgcc is needed"),
    }
}

fn is_at_least(version: &str, least: &str) -> bool {
    Command::new("dpkg").args(["--compare-versions", version, "ge", least]).status().unwrap().success()
}

#[test]
fn packages_declare_the_libraries_and_the_c_library_that_their_programs_need() {
    let Some(built) = built("packages_declare_the_libraries_and_the_c_library_that_their_programs_need") else {
        return;
    };
    let paper = fs::read_to_string(root().join("systemd/README.md")).unwrap();
    let (_, promised) = paper.split_once("glibc ").expect("the paper says which C library is needed");
    let promised = promised.split(' ').next().unwrap();
    let mut programs = 0;
    for name in ["bolt-agent", "bolt-client"] {
        let tree = TempDir::new().unwrap();
        let deb = package(built.first.path(), name, "deb");
        let unpacked = Command::new("dpkg-deb").arg("-x").arg(&deb).arg(tree.path()).status().unwrap();
        assert!(unpacked.success());
        let depends = Command::new("dpkg-deb").arg("-f").arg(&deb).arg("Depends").output().unwrap();
        let depends = String::from_utf8(depends.stdout).unwrap();
        let declared: BTreeMap<&str, &str> = depends
            .split(", ")
            .map(|one| one.trim().split_once(" (>= ").unwrap_or((one.trim(), "0")))
            .map(|(package, least)| (package, least.trim_end_matches(')')))
            .collect();
        let file = package(built.first.path(), name, "rpm");
        let requires = rpm(&[OsStr::new("-qp"), OsStr::new("--requires"), file.as_os_str()]);
        for directory in ["usr/lib/bolt", "usr/bin"] {
            for entry in fs::read_dir(tree.path().join(directory)).into_iter().flatten() {
                let program = entry.unwrap().path();
                programs += 1;
                for (library, versions) in needed(&program) {
                    let least = declared.get(owner(&library)).copied();
                    let least = least.unwrap_or_else(|| panic!("{name} needs {library}, and depends on {depends}"));
                    for version in &versions {
                        let wanted = format!("{library}({version})(64bit)");
                        assert!(requires.contains(&wanted), "{}: {wanted} is not in {requires}", program.display());
                        if let Some(number) = version.strip_prefix("GLIBC_") {
                            assert!(is_at_least(least, number), "{}: {version}, and {depends}", program.display());
                            assert!(is_at_least(promised, number), "{}: {version}", program.display());
                        }
                    }
                }
            }
        }
    }
    assert_eq!(programs, 4);
}
