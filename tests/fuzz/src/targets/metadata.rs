//! Metadata of a repository, which decide what an instance installs: nothing is accepted that the keys have not signed, that has
//! ended, or that is older than what was seen.
//!
//! The first byte chooses: files as they are, or contents that are signed here, so that mutations reach what is inside.

use std::fs;
use std::path::Path;

use bolt_agent::fuzz::{Verified, verify_metadata};

use crate::signing::{FILES, ROLES, Signer};
use crate::{join, parts, scratch};

/// 2026-01-01, in milliseconds since 1970.
const NOW_MS: u64 = 1_767_225_600_000;
/// Versions that are signed in the inputs of which files are taken as they are.
const SIGNED: [u64; 2] = [1, 2];

pub(super) fn run(data: &[u8]) {
    let Some((choice, input)) = data.split_first() else { return };
    let signer = Signer::new();
    let given: [&[u8]; ROLES] = parts(input);
    let is_signed_here = choice % 2 == 1;
    let files: [Vec<u8>; ROLES] = std::array::from_fn(|at| match is_signed_here {
        true => signer.sign(at, given[at]).unwrap_or_else(|| given[at].to_vec()),
        false => given[at].to_vec(),
    });
    scratch::with_directory(|directory| {
        let place = Place::new(directory, &signer);
        let verified = match place.verify(&files) {
            Ok(verified) => verified,
            Err(message) => return assert!(message.len() <= 4 * data.len() + 8192, "{message}"),
        };
        assert!(verified.ends_ms >= NOW_MS, "it has ended: {verified:?}");
        assert!(verified.threshold <= 1, "there is one key: {verified:?}");
        assert_eq!(place.verify(&files), Ok(verified_again(&verified)), "another answer to the same files");
        if !is_signed_here {
            assert!(SIGNED.iter().any(|version| is_of(&verified, *version)), "not what was signed: {verified:?}");
        }
        let old = place.verify(&signed(&signer, 1));
        let [root, others @ ..] = verified.versions;
        if root == 1 && others.iter().any(|version| *version > 1) {
            assert!(old.is_err(), "older than what was seen: {verified:?}, and then {old:?}");
        }
    });
}

fn verified_again(verified: &Verified) -> Verified {
    Verified { targets: verified.targets.clone(), ..*verified }
}

/// True if the targets are those that were signed in that version.
fn is_of(verified: &Verified, version: u64) -> bool {
    let named: Vec<&str> = verified.targets.keys().map(String::as_str).collect();
    let digest = vec![version as u8; 32];
    named == ["channels/prod/linux.json", "packs/team/1.0.0.tar.gz"] && verified.targets.values().all(|of| *of == digest)
}

/// Returns the files of a repository in that version. There is no newer root than the pinned one in the first.
fn signed(signer: &Signer, version: u64) -> [Vec<u8>; ROLES] {
    let contents = signer.contents(version);
    std::array::from_fn(|at| match at == 0 && version == 1 {
        true => Vec::new(),
        false => signer.sign(at, &contents[at]).expect("the contents are valid"),
    })
}

/// A directory with a repository, its pinned root, and the marks of what was seen.
struct Place<'a> {
    directory: &'a Path,
}

impl Place<'_> {
    fn new<'a>(directory: &'a Path, signer: &Signer) -> Place<'a> {
        for name in ["repository/metadata", "repository/targets", "tuf"] {
            fs::create_dir_all(directory.join(name)).expect("a directory");
        }
        let root = signer.sign(0, &signer.contents(1)[0]).expect("the root is valid");
        fs::write(directory.join("root.json"), root).expect("a file");
        Place { directory }
    }

    fn verify(&self, files: &[Vec<u8>; ROLES]) -> Result<Verified, String> {
        let repository = self.directory.join("repository");
        for (name, content) in FILES.iter().zip(files) {
            let path = repository.join("metadata").join(name);
            match content.is_empty() {
                true => drop(fs::remove_file(path)),
                false => fs::write(path, content).expect("a file"),
            }
        }
        verify_metadata(&repository, &self.directory.join("root.json"), &self.directory.join("tuf"), NOW_MS)
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let signer = Signer::new();
    let seed = |choice: u8, files: &[Vec<u8>; ROLES]| {
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        [&[choice], join(&files).as_slice()].concat()
    };
    let mut seeds = Vec::new();
    for version in SIGNED {
        seeds.push(seed(0, &signed(&signer, version)));
        let mut contents = signer.contents(version);
        if version == 1 {
            contents[0].clear();
        }
        seeds.push(seed(1, &contents));
    }
    // Newer roles under the pinned root.
    let mut contents = signer.contents(3);
    contents[0].clear();
    seeds.push(seed(1, &contents));
    seeds
}
