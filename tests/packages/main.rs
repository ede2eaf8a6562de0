//! The packages that `systemd/packages/build` makes: reproducible, complete, and without a name of another package.
#![expect(clippy::unwrap_used, reason = "a test that fails should fail where it stands")]

mod baking;
mod completions;
mod debian;
mod image_root;
mod links;
mod scriptlets;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bolt_client::local::binary;
use bolt_tests::{binaries, skip};
use tempfile::TempDir;

/// Packages that were built twice, under different circumstances.
struct Built {
    first: TempDir,
    second: TempDir,
}

/// An entry of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u64, u64),
    is_directory: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn have(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|path| path.join(program).is_file())
}

/// Builds the packages from the programs of this build, once for all tests. `None` where a tool is missing.
fn built(test: &str) -> Option<&'static Built> {
    static BUILT: OnceLock<Built> = OnceLock::new();
    for tool in ["cargo-deb", "cargo-generate-rpm", "dpkg-deb", "dpkg-shlibdeps", "rpm", "strip", "objdump", "git"] {
        if !have(tool) {
            skip(test, &format!("{tool} is not installed"));
            return None;
        }
    }
    Some(BUILT.get_or_init(|| {
        binaries();
        let [first, second] = [(); 2].map(|()| TempDir::new().unwrap());
        build(first.path(), "umask 022; TZ=UTC", "1700000000");
        build(second.path(), "umask 077; TZ=Asia/Tokyo LC_ALL=C.UTF-8", "1700000000");
        Built { first, second }
    }))
}

fn build(output: &Path, circumstances: &str, epoch: &str) {
    let programs = binary("bolt").unwrap().parent().unwrap().to_owned();
    let mut sh = Command::new("/bin/sh");
    sh.arg("-c").arg(format!("{circumstances} exec \"$@\"")).arg("sh").arg(root().join("systemd/packages/build"));
    sh.args([OsStr::new("--fast"), OsStr::new("--binaries"), programs.as_os_str(), output.as_os_str()]);
    let output = sh.env("SOURCE_DATE_EPOCH", epoch).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Builds packages of another version, whose agent has programs that only succeed.
fn build_version(version: &str) -> TempDir {
    let [programs, output] = [(); 2].map(|()| TempDir::new().unwrap());
    std::os::unix::fs::symlink(binary("bolt").unwrap(), programs.path().join("bolt")).unwrap();
    for name in ["bolt-launch", "bolt-agent", "bolt-sync"] {
        fs::copy("/bin/true", programs.path().join(name)).unwrap();
    }
    let mut build = Command::new(root().join("systemd/packages/build"));
    build.args(["--fast", "--version", version, "--binaries"]).arg(programs.path()).arg(output.path());
    let built = build.env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    output
}

fn package(directory: &Path, name: &str, extension: &str) -> PathBuf {
    let mut found = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is = |path: &PathBuf| {
        path.extension() == Some(OsStr::new(extension))
            && path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}{}", separator(extension)))
    };
    found.find(is).unwrap_or_else(|| panic!("there is no {name} as .{extension}"))
}

fn separator(extension: &str) -> &'static str {
    if extension == "deb" { "_" } else { "-" }
}

/// Returns what a .deb holds, and the content of its text files.
fn deb(path: &Path) -> (BTreeMap<String, Entry>, BTreeMap<String, String>) {
    let archive = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(path).output().unwrap();
    assert!(archive.status.success(), "{archive:?}");
    let (mut entries, mut texts) = (BTreeMap::new(), BTreeMap::new());
    for entry in tar::Archive::new(&archive.stdout[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name =
            format!("/{}", entry.path().unwrap().to_str().unwrap().trim_start_matches("./").trim_end_matches('/'));
        let header = entry.header();
        // cargo-deb leaves the fields empty, which dpkg reads as 0.
        let owner = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
        let is_directory = header.entry_type().is_dir();
        entries.insert(name.clone(), Entry { mode: header.mode().unwrap() & 0o7777, owner, is_directory });
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if let Ok(text) = String::from_utf8(content) {
            texts.insert(name, text);
        }
    }
    (entries, texts)
}

fn rpm(arguments: &[&OsStr]) -> String {
    let output = Command::new("rpm").args(arguments).output().unwrap();
    assert!(output.status.success(), "rpm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn packages_built_twice_are_equal() {
    let Some(built) = built("packages_built_twice_are_equal") else { return };
    let mut compared = 0;
    for entry in fs::read_dir(built.first.path()).unwrap().map(|entry| entry.unwrap()) {
        let second = built.second.path().join(entry.file_name());
        assert!(fs::read(entry.path()).unwrap() == fs::read(second).unwrap(), "{:?} differs", entry.file_name());
        compared += 1;
    }
    assert_eq!(compared, 4);
}

/// A checkout has the times of its clone; `tests/packages/reproduce` builds from two of them.
#[test]
fn times_in_a_package_are_not_those_of_a_checkout() {
    if built("times_in_a_package_are_not_those_of_a_checkout").is_none() {
        return;
    }
    // Later than any file: earlier ones would be replaced by it in any case.
    let (output, epoch) = (TempDir::new().unwrap(), "4000000000");
    build(output.path(), "", epoch);
    for name in ["bolt-agent", "bolt-client"] {
        let package = package(output.path(), name, "rpm");
        let format = OsStr::new("[%{FILEMTIMES} %{FILENAMES}\\n]");
        let files = rpm(&[OsStr::new("-qp"), OsStr::new("--qf"), format, package.as_os_str()]);
        let others: Vec<&str> = files.lines().filter(|line| !line.starts_with(epoch)).collect();
        assert!(files.lines().count() > 5 && others.is_empty(), "{others:?}");
    }
}

#[test]
fn packages_hold_what_their_units_and_papers_name_and_nothing_of_other_packages() {
    let Some(built) = built("packages_hold_what_their_units_and_papers_name_and_nothing_of_other_packages") else {
        return;
    };
    let (agent, texts) = deb(&package(built.first.path(), "bolt-agent", "deb"));
    let (client, _) = deb(&package(built.first.path(), "bolt-client", "deb"));
    for (path, entry) in agent.iter().chain(&client) {
        assert_eq!(entry.owner, (0, 0), "{path}");
        let is_program = path.starts_with("/usr/lib/bolt/") || path.starts_with("/usr/bin/");
        assert_eq!(entry.mode, if entry.is_directory || is_program { 0o755 } else { 0o644 }, "{path}");
        // Thunderbolt's package is called `bolt`; Puppet Bolt and others may have the command.
        let foreign = ["/usr/bin/bolt", "/usr/share/doc/bolt", "/usr/share/man/man1/bolt.1.gz"];
        assert!(!foreign.contains(&path.as_str()) && !path.ends_with("/bolt.service"), "{path}");
        assert!(!path.starts_with("/etc/systemd") && !path.starts_with("/usr/local"), "{path}");
    }
    let files = |of: &BTreeMap<String, Entry>| -> BTreeSet<String> {
        of.iter().filter(|(_, entry)| !entry.is_directory).map(|(path, _)| path.clone()).collect()
    };
    assert_eq!(files(&agent).intersection(&files(&client)).count(), 0, "both can be installed");

    let mut named = 0;
    for (path, text) in texts.iter().filter(|(path, _)| path.starts_with("/usr/lib/systemd/system/")) {
        for line in text.lines() {
            let program = line.strip_prefix("ExecStart=/usr/lib").map(|rest| format!("/usr/lib{rest}"));
            let program = program.map(|line| line.split(' ').next().unwrap().to_owned());
            let paper = line.strip_prefix("Documentation=file://").map(str::to_owned);
            for file in [program, paper].into_iter().flatten() {
                assert!(agent.contains_key(&file), "{path} names {file}, which is not in the package");
                named += 1;
            }
        }
    }
    assert!(named >= 4, "{named}");
    for package in ["bolt-agent", "bolt-client"] {
        let path = format!("/usr/share/doc/{package}/copyright");
        assert!(agent.contains_key(&path) || client.contains_key(&path), "{path}");
    }
    for page in ["bolt-client", "bolt-run", "bolt-repo-promote"] {
        assert!(client.contains_key(&format!("/usr/share/man/man1/{page}.1.gz")), "{page}");
    }
    for page in ["bolt-agent", "bolt-launch", "bolt-sync"] {
        assert!(agent.contains_key(&format!("/usr/share/man/man8/{page}.8.gz")), "{page}");
    }
    // The same in the .rpm, but for the licence, and the directory of zsh.
    for (name, of) in [("bolt-agent", &agent), ("bolt-client", &client)] {
        let path = package(built.first.path(), name, "rpm");
        let listed =
            rpm(&[OsStr::new("-qlp"), path.as_os_str()]).replace("zsh/site-functions", "zsh/vendor-completions");
        let listed: BTreeSet<String> =
            listed.lines().filter(|line| !line.starts_with("/usr/share/licenses/")).map(str::to_owned).collect();
        let expected: BTreeSet<String> = files(of).into_iter().filter(|file| !file.ends_with("/copyright")).collect();
        assert_eq!(listed, expected, "{name}");
    }
    let control = |field: &str| {
        let path = package(built.first.path(), "bolt-agent", "deb");
        let output = Command::new("dpkg-deb").arg("-I").arg(path).arg(field).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let conffiles = ["/etc/bolt/agent.toml", "/etc/bolt/grants.toml", "/etc/needrestart/conf.d/bolt-agent.conf"];
    assert_eq!(control("conffiles").lines().collect::<Vec<_>>(), conffiles);
}

#[test]
fn an_rpm_installs_into_a_root_of_its_own_and_keeps_changed_configuration() {
    let test = "an_rpm_installs_into_a_root_of_its_own_and_keeps_changed_configuration";
    let Some(built) = built(test) else { return };
    if !bolt_tests::is_root() {
        return skip(test, "it takes root");
    }
    let top = TempDir::new().unwrap();
    let path = package(built.first.path(), "bolt-agent", "rpm");
    let within = format!("--root={}", top.path().display());
    // The root has no shell: its scripts cannot run.
    let run = |arguments: &[&OsStr]| {
        let mut all = vec![OsStr::new(&within), OsStr::new("--nodeps"), OsStr::new("--noscripts")];
        all.extend(arguments);
        rpm(&all)
    };
    run(&[OsStr::new("-i"), path.as_os_str()]);
    for file in ["usr/lib/bolt/bolt-launch", "usr/lib/systemd/system/bolt-launch.service", "etc/bolt/agent.toml"] {
        assert!(top.path().join(file).is_file(), "{file}");
    }
    assert!(run(&[OsStr::new("-V"), OsStr::new("bolt-agent")]).trim().is_empty());
    let config = top.path().join("etc/bolt/agent.toml");
    fs::write(&config, "# changed\n").unwrap();
    run(&[OsStr::new("-U"), OsStr::new("--replacepkgs"), path.as_os_str()]);
    assert_eq!(fs::read_to_string(&config).unwrap(), "# changed\n");
    run(&[OsStr::new("-e"), OsStr::new("bolt-agent")]);
    assert_eq!(fs::read_to_string(config.with_extension("toml.rpmsave")).unwrap(), "# changed\n");
    assert!(!top.path().join("usr/lib/bolt/bolt-launch").exists());
}

#[test]
fn scripts_of_the_packages_are_posix_shell() {
    let mut scripts = vec![root().join("systemd/packages/build")];
    for package in ["agent", "client"] {
        for format in ["deb", "rpm"] {
            let directory = root().join("systemd/packages").join(package).join(format);
            scripts.extend(fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert_eq!(scripts.len(), 12);
    for script in &scripts {
        assert!(fs::read_to_string(script).unwrap().starts_with("#!/bin/sh\n"), "{}", script.display());
    }
    if !have("shellcheck") {
        return skip("scripts_of_the_packages_are_posix_shell", "shellcheck is not installed");
    }
    let output = Command::new("shellcheck").args(["--shell=sh"]).args(&scripts).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
