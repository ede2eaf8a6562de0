//! Debian's own package `bolt`, for Thunderbolt devices, which can be installed beside ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use bolt_tests::skip;
use tempfile::TempDir;

use crate::{built, deb, have, package, root};

/// Returns the paths of the files of a package, by the directories into which Debian has merged the old ones.
fn files(path: &Path) -> BTreeSet<String> {
    let (entries, _) = deb(path);
    let files = entries.into_iter().filter(|(_, entry)| !entry.is_directory);
    files.map(|(path, _)| merged(&path)).collect()
}

fn merged(path: &str) -> String {
    let is_merged = ["/bin/", "/sbin/", "/lib/"].iter().any(|top| path.starts_with(top));
    if is_merged { format!("/usr{path}") } else { path.to_owned() }
}

/// Returns the links that `update-alternatives` makes when the client's package is installed.
fn alternatives() -> BTreeSet<String> {
    let script = fs::read_to_string(root().join("systemd/packages/client/deb/postinst")).unwrap();
    let words: Vec<&str> = script.split_whitespace().collect();
    let links = words.windows(2).filter(|pair| ["--install", "--slave"].contains(&pair[0]));
    links.map(|pair| pair[1].to_owned()).collect()
}

#[test]
fn debians_package_bolt_shares_no_file_with_ours() {
    let test = "debians_package_bolt_shares_no_file_with_ours";
    let Some(built) = built(test) else { return };
    if !have("apt-get") {
        return skip(test, "apt-get is not installed");
    }
    let directory = TempDir::new().unwrap();
    let mut download = Command::new("apt-get");
    download.args(["-qq", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20", "download", "bolt"]);
    let output = download.current_dir(directory.path()).output().unwrap();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return skip(test, &format!("Debian's package cannot be downloaded: {}", why.trim()));
    }
    let theirs = files(&package(directory.path(), "bolt", "deb"));
    assert!(theirs.contains("/usr/bin/boltctl"), "{theirs:?}");
    let mut ours = alternatives();
    assert!(ours.len() == 5 && ours.contains("/usr/bin/bolt"), "{ours:?}");
    for name in ["bolt-agent", "bolt-client"] {
        ours.extend(files(&package(built.first.path(), name, "deb")));
    }
    let both: Vec<&String> = ours.intersection(&theirs).collect();
    assert!(both.is_empty(), "{both:?}");
}

#[test]
fn a_path_in_a_merged_directory_is_that_below_usr() {
    assert_eq!(merged("/lib/systemd/system/bolt.service"), "/usr/lib/systemd/system/bolt.service");
    assert_eq!(merged("/usr/bin/boltctl"), "/usr/bin/boltctl");
}
