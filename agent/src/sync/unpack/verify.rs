//! Compares the staged tree with the content of the archive: the same files with the same bytes and modes, the same
//! directories, and nothing else. A difference would be a bug of the unpacking, which must not reach an action.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use packs_schema::agent::store::ManifestFile;
use sha2::{Digest as _, Sha256};

/// Compares the tree below `top` with `files` and `directories`.
pub(super) fn verify(top: &Path, files: &[ManifestFile], directories: &[String]) -> io::Result<()> {
    let mut files: BTreeMap<&str, &ManifestFile> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut directories: Vec<&str> = directories.iter().map(String::as_str).collect();
    directories.sort_unstable();
    let mut found = Vec::new();
    walk(top, "", &mut files, &mut found)?;
    found.sort_unstable();
    match files.keys().next() {
        Some(missing) => Err(io::Error::other(format!("{missing} was unpacked and is missing"))),
        None if found != directories => Err(io::Error::other("other directories are there than were unpacked")),
        None => Ok(()),
    }
}

/// Removes the files found from `files`, and collects directories.
fn walk(at: &Path, prefix: &str, files: &mut BTreeMap<&str, &ManifestFile>, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(at)? {
        let full = entry?.path();
        let name = full.file_name().unwrap_or_default().to_string_lossy();
        let path = format!("{prefix}{name}");
        let meta = fs::symlink_metadata(&full)?;
        if meta.is_dir() {
            walk(&full, &format!("{path}/"), files, found)?;
            found.push(path);
            continue;
        }
        let other = |what: &str| Err(io::Error::other(format!("{path} {what}")));
        let Some(file) = files.remove(path.as_str()) else { return other("is there and was not unpacked") };
        let mode = if file.executable { 0o755 } else { 0o644 };
        if !meta.is_file() || meta.nlink() != 1 || meta.mode() & 0o7777 != mode || meta.len() != file.size_bytes {
            return other("is not the file that was unpacked");
        }
        if hash(&full)? != file.sha256.as_str() {
            return other("has other bytes than were unpacked");
        }
    }
    Ok(())
}

fn hash(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use packs_schema::base::name::Digest;

    use super::*;

    #[test]
    fn every_difference_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let (a, lib) = (temp.path().join("lib/a"), temp.path().join("lib"));
        fs::create_dir(&lib).unwrap();
        let write = |text: &str| {
            let _ = fs::remove_file(&a);
            fs::write(&a, text).unwrap();
            fs::set_permissions(&a, fs::Permissions::from_mode(0o644)).unwrap();
        };
        write("one");
        let sha256 = Digest::new(hash(&a).unwrap()).unwrap();
        let file = ManifestFile { path: "lib/a".to_owned(), sha256, size_bytes: 3, executable: false };
        let check = || verify(temp.path(), std::slice::from_ref(&file), &["lib".to_owned()]).map_err(|e| e.to_string());
        assert_eq!(check(), Ok(()));
        let found = |words: &str| assert!(check().unwrap_err().contains(words), "{words}: {:?}", check());
        write("two");
        found("other bytes");
        write("four");
        found("not the file");
        write("one");
        fs::set_permissions(&a, fs::Permissions::from_mode(0o755)).unwrap();
        found("not the file");
        write("one");
        fs::hard_link(&a, temp.path().join("name")).unwrap();
        found("name is there and was not unpacked");
        fs::rename(temp.path().join("name"), temp.path().parent().unwrap().join("bolt-verify-name")).unwrap();
        found("not the file");
        fs::remove_file(temp.path().parent().unwrap().join("bolt-verify-name")).unwrap();
        fs::remove_file(&a).unwrap();
        found("lib/a was unpacked and is missing");
        symlink("/etc/passwd", &a).unwrap();
        found("not the file");
        write("one");
        fs::create_dir(temp.path().join("more")).unwrap();
        found("other directories");
    }
}
