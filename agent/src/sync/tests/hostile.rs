//! Hostile archives, made byte by byte and signed with the right keys. Each is refused with one line that names the problem, or
//! gives exactly the expected files; nothing outside staging is touched, and nothing is left over.

mod cases;
mod raw;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{Bench, tree};
use cases::{Case, Expected, all};

/// The fewest cases that there are to be.
const LEAST: usize = 120;

type Tree = Vec<(PathBuf, Vec<u8>)>;

/// Files that must not change: everything of the instance but the sync's own records.
fn around(bench: &Bench) -> Tree {
    let own = [bench.store().join(".tuf"), bench.store().join(".status.json"), bench.temp.path().join("repo")];
    let mut found = tree(bench.temp.path());
    found.retain(|(path, _)| !own.iter().any(|own| path.starts_with(own)));
    found
}

/// The files of the active version, without Bolt's own.
fn active(bench: &Bench) -> Vec<String> {
    let current = fs::canonicalize(bench.store().join("demo/current")).unwrap();
    let paths = tree(&current).into_iter().map(|(path, _)| path.strip_prefix(&current).unwrap().display().to_string());
    paths.filter(|path| !path.starts_with(".bolt/")).collect()
}

/// Describes the deviation of a case.
fn judge(bench: &mut Bench, case: &Case, version: &str) -> Result<(), String> {
    let before = around(bench);
    bench.offer_bytes("demo", version, (case.archive)(version), "");
    bench.repository.publish();
    bench.poll().unwrap();
    let status = bench.status();
    let failed = status.failed.first().map(|(_, failed)| failed);
    if fs::read_dir(bench.store().join(".staging")).unwrap().count() != 0 {
        return Err("staging is left".to_owned());
    }
    if Path::new("/tmp/bolt-evil").exists() {
        return Err("it came out".to_owned());
    }
    match (&case.expected, failed) {
        (Expected::Refused(_), None) => Err("it was activated".to_owned()),
        (Expected::Refused(words), Some(failed)) => {
            let said = &failed.message;
            if failed.step != "unpack" || !said.contains(words) {
                return Err(format!("{}: {said:?} does not say {words:?}", failed.step));
            }
            if said.contains(char::is_control) || said.len() > 400 {
                return Err(format!("{said:?} is not one short line"));
            }
            if around(bench) == before { Ok(()) } else { Err("it left something".to_owned()) }
        }
        (Expected::Harmless(_), Some(failed)) => Err(format!("it was refused: {}", failed.message)),
        (Expected::Harmless(more), None) => {
            let mut wanted = vec!["actions/hello.sh", "actions/hello.yaml", "pack.yaml"];
            wanted.extend(more);
            wanted.sort_unstable();
            let there = active(bench);
            if there != wanted {
                return Err(format!("{there:?} came out, not {wanted:?}"));
            }
            let home = bench.store().join("demo");
            let outside = |tree: Tree| tree.into_iter().filter(|(path, _)| !path.starts_with(&home)).collect::<Tree>();
            if outside(around(bench)) == outside(before) { Ok(()) } else { Err("it left something".to_owned()) }
        }
    }
}

#[test]
fn no_archive_does_harm() {
    let mut bench = Bench::active();
    let canary = bench.temp.path().join("canary");
    fs::create_dir_all(canary.join("deep")).unwrap();
    for name in ["evil", "deep/file"] {
        fs::write(canary.join(name), "as it was").unwrap();
    }
    let cases = all(canary.to_str().unwrap());
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let version = format!("1.1.{number}");
        if let Err(why) = judge(&mut bench, case, &version) {
            wrong.push(format!("{}: {why}", case.name));
        }
        bench.repository.remove(&format!("packs/demo/{version}.tar.gz"));
    }
    let harmless = cases.iter().filter(|case| matches!(case.expected, Expected::Harmless(_))).count();
    let refused = cases.len() - harmless;
    let said = format!("hostile archives: {} tried, {refused} refused, {harmless} harmless\n", cases.len());
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= LEAST, "{said}");
}
