//! Replays the corpus through the targets, without instrumentation: the inputs that were bred (`corpus/<target>.tar.gz`), those that
//! found a fault once (`corpus/<target>/`), and the seeds.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

use std::fs::{self, File};
use std::io::Read;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use bolt_fuzz::{TARGETS, Target};
use flate2::read::GzDecoder;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Returns the files of a directory, sorted by name; none if it does not exist.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Returns the bred inputs of a target, by name.
fn bred(target: &Target) -> Vec<(String, Vec<u8>)> {
    let path = corpus().join(format!("{}.tar.gz", target.name));
    let file = File::open(&path).unwrap_or_else(|error| panic!("{} has no corpus: {error}", target.name));
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let read = |mut entry: tar::Entry<'_, _>| {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut input = Vec::new();
        entry.read_to_end(&mut input).unwrap();
        (name, input)
    };
    archive.entries().unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// Returns the inputs of a target that found a fault, by name.
fn faults(target: &Target) -> Vec<(String, Vec<u8>)> {
    let all = files(&corpus().join(target.name));
    all.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_input_of_the_corpus_holds_what_its_target_promises() {
    let mut broken = Vec::new();
    for target in TARGETS {
        let seeds = (target.seeds)().into_iter().enumerate().map(|(number, seed)| (format!("seed {number}"), seed));
        for (name, input) in seeds.chain(faults(target)).chain(bred(target)) {
            if input.len() > target.max_len {
                broken.push(format!("{}: {name} has {} bytes", target.name, input.len()));
            }
            if catch_unwind(|| (target.run)(&input)).is_err() {
                broken.push(format!("{}: {name}", target.name));
            }
        }
    }
    bolt_fuzz::clean_up();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_corpus_is_small_and_belongs_to_targets() {
    let mut bytes = 0;
    for path in files(&corpus()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let name = name.strip_suffix(".tar.gz").unwrap_or(&name);
        assert!(bolt_fuzz::find(name).is_some(), "{name} is no target");
        let all = if path.is_dir() { files(&path) } else { vec![path] };
        bytes += all.iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
    }
    assert!(bytes < 2 << 20, "the corpus has {bytes} bytes");
    for target in TARGETS {
        assert!(bred(target).len() > 1, "{}", target.name);
    }
}
