//! Tests of `linux.disk_usage`.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Ended, action};
use crate::python::altered;

fn look(path: &Path, more: &[(&str, Value)]) -> Ended {
    let mut parameters = json!({"path": path, "deleted_files": false});
    for (name, value) in more {
        parameters[name] = value.clone();
    }
    action("linux.disk_usage", parameters).go().well()
}

fn size_of(ended: &Ended, path: &Path) -> Option<u64> {
    let rows = ended.result["directories"].as_array().unwrap();
    rows.iter().find(|r| r["path"] == path.to_str().unwrap()).and_then(|r| r["bytes"].as_u64())
}

#[test]
fn directories_are_summed_and_links_not_followed() {
    let top = TempDir::new().unwrap();
    let (big, deep) = (top.path().join("big"), top.path().join("big/a/b/c"));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(top.path().join("small")).unwrap();
    fs::write(big.join("one"), vec![1; 100_000]).unwrap();
    fs::write(deep.join("two"), vec![1; 200_000]).unwrap();
    fs::hard_link(big.join("one"), deep.join("again")).unwrap();
    symlink("/", top.path().join("small/root")).unwrap();
    let ended = look(top.path(), &[("depth", json!(1))]);
    let bytes = size_of(&ended, &big).unwrap();
    assert!((300_000..400_000).contains(&bytes), "{bytes}: the hard link counts once");
    assert!(size_of(&ended, &top.path().join("small")).unwrap() < 50_000);
    assert_eq!(size_of(&ended, &big.join("a")), None, "deeper than asked");
    assert_eq!(ended.result["directories"][0]["path"], top.path().to_str().unwrap(), "largest first");
    assert_eq!(ended.result["complete"], true);
}

#[test]
fn the_fullest_file_systems_are_listed_among_hundreds_of_mounts() {
    let place = TempDir::new().unwrap();
    let mount = |n: u32, point: &str, kind: &str| format!("{n} 1 0:{n} / {point} rw,relatime - {kind} source rw\n");
    let mut mounts = mount(1, "/", "xfs") + &mount(2, "/snap/core20/1", "squashfs");
    for n in 10..200 {
        mounts += &mount(n, &format!("/run/pod{n}"), if n % 2 == 0 { "tmpfs" } else { "overlay" });
    }
    mounts += &mount(900, "/data\\040base", "ext4");
    fs::write(place.path().join("mountinfo"), mounts).unwrap();
    let known = format!(
        "import os\nopened = os.open\nclass Space:\n  f_blocks, f_frsize, f_files, f_ffree = 100, 4096, 10, 5\n\
         \x20 def __init__(self, free):\n    self.f_bfree = self.f_bavail = free\n\
         os.statvfs = lambda path: Space({{b'/': 40, b'/data base': 1, b'/snap/core20/1': 0}}.get(path, 90))\n\
         os.open = lambda path, *rest, **more: opened('{}/mountinfo' if path == '/proc/self/mountinfo' else path, *rest, **more)",
        place.path().display()
    );
    let run = action("linux.disk_usage", json!({"path": place.path(), "deleted_files": false}));
    let ended = run.programs(altered(&known).path()).go().well();
    let rows = ended.result["filesystems"].as_array().unwrap();
    let row = |n: usize| (rows[n]["mount"].as_str().unwrap(), rows[n]["used_percent"].as_f64().unwrap());
    assert_eq!((row(0), row(1), rows.len()), (("/data base", 99.0), ("/", 60.0), 64));
    assert!(rows.iter().all(|row| row["type"] != "overlay" && row["type"] != "squashfs"));
}

#[test]
fn only_the_largest_are_listed() {
    let top = TempDir::new().unwrap();
    for n in 0..30 {
        fs::create_dir(top.path().join(format!("d{n}"))).unwrap();
        fs::write(top.path().join(format!("d{n}/x")), vec![1; 8192 * n]).unwrap();
    }
    let ended = look(top.path(), &[("top", json!(4))]);
    let names: Vec<String> = ended.result["directories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(names[1..], ["d29", "d28", "d27"]);
}

#[test]
fn a_deleted_file_that_is_still_open_is_found() {
    let top = TempDir::new().unwrap();
    let path = top.path().join("old\n\u{1b}[31m.log");
    let mut file = File::create(&path).unwrap();
    // Larger than other deleted files on the host.
    file.write_all(&vec![7; 3 << 20]).unwrap();
    fs::remove_file(&path).unwrap();
    let ended = look(top.path(), &[("deleted_files", json!(true)), ("top", json!(100))]);
    let rows = ended.result["deleted_open_files"].as_array().unwrap();
    let shown = format!("{}/old\\x0a\\x1b[31m.log", top.path().display());
    let row = rows.iter().find(|r| r["path"] == shown.as_str()).unwrap_or_else(|| panic!("{rows:?}"));
    assert!(row["bytes"].as_u64().unwrap() >= 3 << 20);
    assert_eq!(row["holders"][0]["pid"], std::process::id());
    drop(file);
}

#[test]
fn a_tree_deeper_than_any_path_is_survived() {
    let top = TempDir::new().unwrap();
    let mut path = top.path().to_owned();
    for _ in 0..300 {
        path.push("deeper");
    }
    fs::create_dir_all(&path).unwrap();
    let ended = look(top.path(), &[]);
    assert_eq!(ended.result["unreadable_directories"], 1);
}

#[test]
fn an_exceeded_deadline_is_reported() {
    let top = TempDir::new().unwrap();
    let ended = action("linux.disk_usage", json!({"path": top.path()})).deadline(1).go().well();
    assert_eq!(ended.result["complete"], false);
    assert!(ended.stdout.contains("INCOMPLETE"));
}

#[test]
fn a_path_that_is_not_a_directory_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    action("linux.disk_usage", json!({"path": file.path()})).go().refused(2, "is not a directory");
    action("linux.disk_usage", json!({"path": "/nonexistent/x"})).go().refused(3, "cannot be opened");
}

#[test]
fn a_result_that_is_too_large_is_shortened_and_marked() {
    let top = TempDir::new().unwrap();
    for n in 0..99 {
        let long = format!("{n:0>200}");
        fs::create_dir_all(top.path().join(&long).join(&long).join(&long)).unwrap();
    }
    // The driver checks that every result is below the limit.
    let ended = look(top.path(), &[("top", json!(100)), ("depth", json!(8))]);
    assert!(!ended.result["directories"].as_array().unwrap().is_empty());
}
