//! Pack archives: nothing is written outside the directory, and what is there is what the archive says, within its limits.
//!
//! The first byte chooses: an archive as it is, or a tar that is compressed here, so that mutations reach what is inside.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use bolt_agent::fuzz::unpack_archive;
use flate2::Compression;
use flate2::write::GzEncoder;
use packs_schema::pack::contents::{check_path, unpacked_limit};

use crate::scratch;

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let archive = if choice % 2 == 0 { bytes.to_vec() } else { gzip(bytes) };
    scratch::with_directory(|outer| {
        let top = outer.join("top");
        fs::create_dir(&top).expect("a directory");
        let unpacked = unpack_archive(&archive, &top);
        let outside: Vec<_> = fs::read_dir(outer).expect("a directory").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(outside, ["top"], "something was written outside");
        let mut found = BTreeSet::new();
        let size = walk(&top, "", &mut found);
        assert!(size <= unpacked_limit(archive.len() as u64), "{size} bytes of {} were unpacked", archive.len());
        match unpacked {
            Ok(files) => {
                let named: BTreeSet<String> = files.iter().map(|file| file.path.clone()).collect();
                assert_eq!(found, named);
                assert!(named.iter().all(|path| check_path(path).is_ok()));
            }
            Err(message) => assert!(message.len() <= 1024 && !message.contains(char::is_control), "{message:?}"),
        }
    });
}

/// Collects the paths of files below a directory, which holds nothing but files and directories; returns their size.
fn walk(at: &Path, prefix: &str, found: &mut BTreeSet<String>) -> u64 {
    let mut size = 0;
    for entry in fs::read_dir(at).expect("a directory").flatten() {
        let stat = entry.path().symlink_metadata().expect("an entry");
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if stat.is_dir() {
            size += walk(&entry.path(), &format!("{path}/"), found);
        } else {
            assert!(stat.is_file(), "{path} is no regular file");
            size += stat.len();
            found.insert(path);
        }
    }
    size
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let entry = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut block = [header.as_bytes(), content].concat();
        block.resize(block.len().next_multiple_of(512), 0);
        block
    };
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let good = [
        entry("pack.yaml", Regular, 0o644, b"name: x\n"),
        entry("actions/", Directory, 0o755, b""),
        entry("actions/a.sh", Regular, 0o755, b"#!/bin/sh\n"),
        vec![0; 1024],
    ]
    .concat();
    let link = [entry("x", Symlink, 0o777, b""), entry("x/y", Regular, 0o644, b"out"), vec![0; 1024]].concat();
    let up = [entry("../up", Regular, 0o644, b"out"), entry("/abs", Link, 0o644, b""), vec![0; 1024]].concat();
    let mut seeds: Vec<Vec<u8>> = [&good, &link, &up].iter().map(|tar| [&[1], tar.as_slice()].concat()).collect();
    seeds.push([&[0], gzip(&good).as_slice()].concat());
    seeds
}
