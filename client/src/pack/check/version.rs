//! Checks a version: its files against its manifest, its definitions against its files, its digest against the signed one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use packs_schema::agent::store::{
    self, ACTIONS, MANIFEST, META, Manifest, ManifestFile, PACK, StoredPack, VENV, VenvLink, version_directory,
};
use packs_schema::base::name::PackName;
use packs_schema::delivery::channel::pack_target;
use packs_schema::pack::action::Action;
use packs_schema::pack::contents::{self, EntryKind, HEAD_BYTES, PackEntry, check_path};
use sha2::{Digest as _, Sha256};

use super::{CheckedVersion, Look, kind, read_json};
use crate::confined_dir::ConfinedDir;
use crate::pack::lint::Files;

/// True if a link at this path may have this target.
type MayLink<'a> = dyn Fn(&str, &Path) -> bool + 'a;

/// Entries that may be in a tree.
struct Listing<'l, 'a> {
    wanted: &'l BTreeMap<&'a str, &'a ManifestFile>,
    link: &'l MayLink<'l>,
}

impl Look {
    /// Checks one version.
    pub(super) fn version(
        &mut self,
        pack: &PackName,
        name: &str,
        root: &Path,
        active: bool,
    ) -> io::Result<CheckedVersion> {
        let found = self.report.problems.len();
        let mut checked =
            CheckedVersion { pack: pack.clone(), directory: name.to_owned(), active, dev: false, files: 0 };
        let meta = root.join(META);
        let stored: Option<StoredPack> = self.record(&meta.join(PACK));
        if let Some(stored) = &stored {
            checked.dev = stored.dev.is_some();
            self.identity(pack, name, &meta.join(PACK), stored);
        }
        let Some(manifest) = self.record::<Manifest>(&meta.join(MANIFEST)) else { return Ok(checked) };
        for file in manifest.files.iter().filter(|file| check_path(&file.path).is_err()) {
            let message = format!("names {:?}, which no manifest of the sync's does", file.path);
            self.problem(&meta.join(MANIFEST), message);
        }
        checked.files = self.files(root, &manifest, &|_, _| false)?;
        let differs = self.report.problems.len() > found;
        self.definitions(root, &manifest, differs)?;
        Ok(checked)
    }

    /// Compares the tree below `root` with its manifest, and says how many files that has. `link` says of a link, by path
    /// and target, that it may be there.
    pub(super) fn files(&mut self, root: &Path, manifest: &Manifest, link: &MayLink<'_>) -> io::Result<usize> {
        let mut wanted: BTreeMap<&str, &ManifestFile> = BTreeMap::new();
        for file in &manifest.files {
            if wanted.insert(&file.path, file).is_some() {
                let message = format!("names {:?} twice, which no manifest of the sync's does", file.path);
                self.problem(&root.join(META).join(MANIFEST), message);
            }
        }
        let mut there = BTreeSet::new();
        self.walk(root, "", &Listing { wanted: &wanted, link }, &mut there)?;
        for (path, _) in wanted.iter().filter(|(path, _)| !there.contains(**path)) {
            self.problem(&root.join(path), "is missing");
        }
        Ok(wanted.len())
    }

    pub(super) fn record<T: serde::de::DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        match read_json(&self.store, path) {
            Ok(Some(record)) => return Some(record),
            Ok(None) => self.problem(path, "is missing"),
            Err(error) => self.problem(path, format!("cannot be read: {error}")),
        }
        None
    }

    /// Checks that the version is that of its directory, and its archive the signed one.
    fn identity(&mut self, pack: &PackName, name: &str, path: &Path, stored: &StoredPack) {
        let StoredPack { digest, pack: says, dev, .. } = stored;
        if says.name != *pack || version_directory(&says.version, digest) != name {
            let is = version_directory(&says.version, digest);
            self.problem(path, format!("says that this is {} {is}", says.name));
            return;
        }
        let target = pack_target(pack, &says.version);
        let signed =
            self.signed.as_ref().and_then(|t| t["signed"]["targets"][target.as_str()]["hashes"]["sha256"].as_str());
        if let Some(signed) = signed.filter(|signed| dev.is_none() && *signed != digest.as_str()) {
            let message = format!("has the digest {digest}, and the repository signed {signed} for {target}");
            self.problem(path, message);
        }
    }

    fn walk<'a>(
        &mut self,
        root: &Path,
        prefix: &str,
        listing: &Listing<'_, 'a>,
        there: &mut BTreeSet<&'a str>,
    ) -> io::Result<()> {
        for (name, meta) in self.store.entries(&root.join(prefix))? {
            let path = format!("{prefix}{name}");
            let full = root.join(&path);
            if path == META {
                self.directory(&full, &meta);
                continue;
            }
            if let Some((path, file)) = listing.wanted.get_key_value(path.as_str()) {
                there.insert(*path);
                if self.file(&full, &meta, if file.executable { 0o755 } else { 0o644 }) {
                    self.content(&full, file);
                }
            } else if meta.is_dir() {
                // Empty directories are in archives and not in manifests.
                self.directory(&full, &meta);
                self.walk(root, &format!("{path}/"), listing, there)?;
            } else if meta.is_symlink() && self.store.read_link(&full).is_ok_and(|to| (listing.link)(&path, &to)) {
                self.owner(&full, &meta);
            } else {
                self.problem(&full, format!("is {} that is not in the manifest", kind(&meta)));
            }
        }
        Ok(())
    }

    fn content(&mut self, path: &Path, wanted: &ManifestFile) {
        let read = || -> io::Result<(u64, String)> {
            // Reading one byte more shows whether the file has grown.
            let mut file = self.store.file(path)?.take(wanted.size_bytes.saturating_add(1));
            let (mut hash, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 64 << 10]);
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hash.update(&buffer[..count]);
                size += count as u64;
            }
            Ok((size, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
        };
        match read() {
            Err(error) => self.problem(path, format!("cannot be read: {error}")),
            Ok((size, _)) if size != wanted.size_bytes => {
                self.problem(path, format!("does not have the {} bytes that the manifest says", wanted.size_bytes));
            }
            Ok((_, digest)) if digest != wanted.sha256.as_str() => {
                self.problem(path, "does not have the content that the manifest says");
            }
            Ok(_) => {}
        }
    }

    /// Checks the directory of records, and the definitions against those that the files give.
    fn definitions(&mut self, root: &Path, manifest: &Manifest, differs: bool) -> io::Result<()> {
        let meta = root.join(META);
        let directory = meta.join(ACTIONS);
        for (name, entry) in self.store.entries(&meta)? {
            let path = meta.join(&name);
            match name.as_str() {
                PACK | MANIFEST | store::CONFIG => drop(self.file(&path, &entry, 0o644)),
                store::CONFIG_SECRETS => drop(self.file(&path, &entry, 0o600)),
                ACTIONS => drop(self.directory(&path, &entry)),
                VENV => {
                    if self.file(&path, &entry, 0o644)
                        && let Some(link) = self.record::<VenvLink>(&path)
                    {
                        self.venvs.entry(link.venv).or_default().push(root.to_owned());
                    }
                }
                _ => self.problem(&path, format!("is {} that does not belong there", kind(&entry))),
            }
        }
        let mut stored = BTreeMap::new();
        let is_there = self.store.metadata(&directory).is_ok_and(|meta| meta.is_dir());
        let there = if is_there { self.store.entries(&directory)? } else { BTreeMap::new() };
        for (name, entry) in there {
            let path = directory.join(&name);
            if self.file(&path, &entry, 0o644)
                && let Some(action) = self.record::<Action>(&path)
            {
                stored.insert(name, action);
            }
        }
        if differs {
            // The files give other definitions than those that were activated.
            return Ok(());
        }
        let (_, (checked, _)) =
            contents::read(&listing(&self.store, root, manifest)?, &mut Files { tree: &self.store, root });
        let Some(checked) = checked else {
            self.problem(
                &meta.join(store::MANIFEST),
                "is of files that are no pack that this version of bolt activates",
            );
            return Ok(());
        };
        for action in checked.actions {
            let name = format!("{}.json", action.name);
            let path = directory.join(&name);
            match stored.remove(&name) {
                None if self.store.metadata(&path).is_err() => self.problem(&path, "is missing"),
                Some(other) if other != action => self.problem(&path, "is not what the pack's own files say"),
                _ => {}
            }
        }
        for name in stored.into_keys() {
            self.problem(&directory.join(name), "is of an action that the pack does not have");
        }
        Ok(())
    }
}

/// The version's files as the check of packs wants them.
fn listing(store: &ConfinedDir, root: &Path, manifest: &Manifest) -> io::Result<Vec<PackEntry>> {
    let mut files = Vec::new();
    for file in &manifest.files {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        store.file(&root.join(&file.path))?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let (path, size, executable) = (file.path.clone(), file.size_bytes, file.executable);
        files.push(PackEntry { path, kind: EntryKind::File, size, executable, head });
    }
    Ok(files)
}
