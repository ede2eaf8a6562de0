//! The packs that the demo publishes, carried in the binary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use include_dir::{Dir, include_dir};

use crate::failure::{Exit, Failure};

// Not every example: the agents of a demo come from no package that bolt_engine could upgrade.
static LINUX: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../packs-schema/examples/linux");
static CASSANDRA: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../packs-schema/examples/cassandra");
static DEMO: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/demo/pack");

/// Writes the packs below `directory`; gives their names.
pub(super) fn unpack(directory: &Path) -> Result<Vec<String>, Failure> {
    let packs = [("cassandra", &CASSANDRA), ("linux", &LINUX), ("demo", &DEMO)];
    for (name, pack) in packs {
        write(pack, Path::new(""), &directory.join(name))?;
    }
    Ok(packs.map(|(name, _)| name.to_owned()).to_vec())
}

fn write(from: &Dir<'_>, root: &Path, to: &Path) -> Result<(), Failure> {
    let fail =
        |path: &Path, e: std::io::Error| Failure::new(Exit::Storage, format!("cannot write {}: {e}", path.display()));
    fs::create_dir_all(to).map_err(|e| fail(to, e))?;
    for file in from.files() {
        let relative = file.path().strip_prefix(root).expect("a file of the pack");
        let path = to.join(relative);
        // A binary carries no modes: what has a shebang is run.
        let mode = if file.contents().starts_with(b"#!") { 0o755 } else { 0o644 };
        fs::write(&path, file.contents()).map_err(|e| fail(&path, e))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(|e| fail(&path, e))?;
    }
    for directory in from.dirs() {
        let relative = directory.path().strip_prefix(root).expect("a directory of the pack");
        let below = to.join(relative);
        fs::create_dir_all(&below).map_err(|e| fail(&below, e))?;
        write_files(directory, root, to)?;
    }
    Ok(())
}

fn write_files(from: &Dir<'_>, root: &Path, to: &Path) -> Result<(), Failure> {
    let relative = from.path().strip_prefix(root).expect("a directory of the pack");
    write(from, from.path(), &to.join(relative))
}
