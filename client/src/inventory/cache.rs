//! Answers of sources, kept for seconds: consecutive commands do not ask again.
//!
//! A file for each source in `$XDG_CACHE_HOME/bolt/inventory`, named by the hash of the source's configuration and of the AWS
//! environment, so that another configuration, profile or region never gets these instances. Directory and files belong to
//! the user and are accessible to no one else; a file of another owner or mode is ignored. What is read is checked like any
//! other answer. A cache that cannot be read or written is no error.

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entry::{self, Entry, Found};
use super::source::Source;
use crate::files;
use crate::show::when;

/// Version of the format.
const FORMAT: u32 = 1;
/// Maximum size of a file, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Maximum number of files.
const MAX_FILES: usize = 256;
/// Age after which a file is removed.
const MAX_KEPT: Duration = Duration::from_secs(24 * 3600);

#[derive(Deserialize)]
struct Stored {
    format: u32,
    at_ms: u64,
    instances: Vec<Entry>,
}

#[derive(Serialize)]
struct ToStore {
    format: u32,
    /// Time of the answer, in milliseconds since 1970.
    at_ms: u64,
    instances: Vec<Entry>,
}

/// Directory of cached answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Returns the cache in `$XDG_CACHE_HOME/bolt/inventory`, else `~/.cache/bolt/inventory`.
    pub(super) fn of_user() -> Option<Cache> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
        Some(Cache::at(&base.join("bolt/inventory")))
    }

    pub(super) fn at(directory: &Path) -> Cache {
        Cache { directory: directory.to_owned() }
    }

    /// Returns the answer of `source` if it is at most `max_age` old. An answer of the future is not used: the clock was
    /// set back.
    pub(super) fn read(&self, source: &dyn Source, max_age: Duration) -> Option<Vec<Found>> {
        if max_age.is_zero() || !is_private(&self.directory.symlink_metadata().ok()?) {
            return None;
        }
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(self.path(source)).ok()?;
        let metadata = file.metadata().ok()?;
        if !is_private(&metadata) || !metadata.is_file() || metadata.len() > MAX_FILE {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        let stored: Stored = serde_json::from_slice(&bytes).ok()?;
        let age = Duration::from_millis(when::now_ms().checked_sub(stored.at_ms)?);
        if stored.format != FORMAT || age > max_age {
            return None;
        }
        let found: Vec<Found> = stored.instances.into_iter().map(Found::from).collect();
        found.iter().all(|one| entry::check(&one.facts).is_ok()).then_some(found)
    }

    /// Keeps the answer of `source`.
    pub(super) fn write(&self, source: &dyn Source, found: &[Found]) {
        if source.max_age().is_zero() {
            return;
        }
        let instances = found.iter().map(|one| Entry::of(&one.facts, one.address.as_ref())).collect();
        let stored = ToStore { format: FORMAT, at_ms: when::now_ms(), instances };
        let Ok(bytes) = serde_json::to_vec(&stored) else { return };
        if bytes.len() as u64 > MAX_FILE || files::create_dir(&self.directory).is_err() {
            return;
        }
        if self.directory.symlink_metadata().is_ok_and(|metadata| is_private(&metadata)) {
            // Commands work without a cache.
            let _ = files::replace_private(&self.path(source), &bytes);
            self.prune();
        }
    }

    fn path(&self, source: &dyn Source) -> PathBuf {
        let mut hash = Sha256::new();
        let mut add = |text: &[u8]| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(source.cache_key().as_bytes());
        let mut variables: Vec<_> =
            std::env::vars_os().filter(|(name, _)| is_relevant(&name.to_string_lossy())).collect();
        variables.sort();
        for (name, value) in &variables {
            add(name.as_encoded_bytes());
            add(value.as_encoded_bytes());
        }
        let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.directory.join(format!("{digest}.json"))
    }

    /// Removes files that are old or surplus.
    fn prune(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let json = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut files: Vec<(std::time::SystemTime, PathBuf)> =
            json.filter_map(|path| Some((path.symlink_metadata().ok()?.modified().ok()?, path))).collect();
        files.sort();
        let surplus = files.len().saturating_sub(MAX_FILES);
        for (at, (modified, path)) in files.into_iter().enumerate() {
            if at < surplus || modified.elapsed().is_ok_and(|age| age > MAX_KEPT) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// True for variables that decide which instances AWS, or a program that asks it, returns.
fn is_relevant(name: &str) -> bool {
    name.starts_with("AWS_") || matches!(name, "HOME" | "PATH")
}

/// True if the file or directory belongs to this user, and no other account has access to it.
fn is_private(metadata: &fs::Metadata) -> bool {
    metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o077 == 0 && !metadata.is_symlink()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::source::{Fetched, SourceError};
    use packs_schema::base::name::InstanceId;
    use packs_schema::delivery::facts::Facts;
    use serde_json::Value;
    use std::os::unix::fs::PermissionsExt as _;

    const AGE: Duration = Duration::from_secs(60);

    #[derive(Debug)]
    struct Keyed(&'static str);

    #[async_trait::async_trait]
    impl Source for Keyed {
        fn name(&self) -> &str {
            self.0
        }
        fn cache_key(&self) -> String {
            self.0.to_owned()
        }
        fn max_age(&self) -> Duration {
            AGE
        }
        async fn fetch(&self) -> Result<Fetched, SourceError> {
            Err(SourceError::new("not asked"))
        }
    }

    fn found(id: &str) -> Vec<Found> {
        vec![Found { facts: Facts::of(InstanceId::new(id).unwrap()), address: Some("a:1".parse().unwrap()) }]
    }

    #[test]
    fn an_answer_is_used_for_its_time_and_its_configuration_only() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(&home.path().join("bolt/inventory"));
        assert_eq!(cache.read(&Keyed("a"), AGE), None);
        cache.write(&Keyed("a"), &found("i-1"));
        assert_eq!(cache.read(&Keyed("a"), AGE), Some(found("i-1")));
        assert_eq!(cache.read(&Keyed("b"), AGE), None);
        assert_eq!(cache.read(&Keyed("a"), Duration::ZERO), None);
        let path = cache.path(&Keyed("a"));
        let at = |at_ms: u64| {
            let text = fs::read_to_string(&path).unwrap();
            let mut stored: Value = serde_json::from_str(&text).unwrap();
            stored["at_ms"] = at_ms.into();
            fs::write(&path, stored.to_string()).unwrap();
            cache.read(&Keyed("a"), AGE).is_some()
        };
        let now = when::now_ms();
        assert!(at(now - 30_000));
        assert!(!at(now - 61_000), "too old");
        assert!(!at(now + 3_600_000), "the clock was set back");
    }

    #[test]
    fn files_that_others_could_have_written_are_ignored() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("inventory");
        let cache = Cache::at(&directory);
        cache.write(&Keyed("a"), &found("i-1"));
        let path = cache.path(&Keyed("a"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&path)), (0o700, 0o600));
        let set = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for (of, wrong, right) in [(&path, 0o644, 0o600), (&directory, 0o777, 0o700), (&directory, 0o755, 0o700)] {
            set(of, wrong);
            assert_eq!(cache.read(&Keyed("a"), AGE), None, "{} {wrong:o}", of.display());
            set(of, right);
        }
        assert!(cache.read(&Keyed("a"), AGE).is_some());
        let elsewhere = home.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(cache.read(&Keyed("a"), AGE), None, "a link");
        fs::remove_file(&path).unwrap();
        for text in ["", "{}", r#"{"format": 1, "at_ms": 0, "instances": [{"id": "../x"}]}"#] {
            files::replace_private(&path, text.as_bytes()).unwrap();
            assert_eq!(cache.read(&Keyed("a"), Duration::MAX), None, "{text}");
        }
    }

    #[test]
    fn old_and_surplus_files_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().join("inventory").as_path());
        cache.write(&Keyed("a"), &found("i-1"));
        for n in 0..MAX_FILES + 10 {
            fs::write(cache.directory.join(format!("{n}.json")), "").unwrap();
        }
        let old = cache.directory.join("old.json");
        fs::write(&old, "").unwrap();
        let modified = std::time::SystemTime::now() - MAX_KEPT * 2;
        fs::File::options().write(true).open(&old).unwrap().set_modified(modified).unwrap();
        cache.write(&Keyed("a"), &found("i-1"));
        assert!(!old.exists());
        assert!(fs::read_dir(&cache.directory).unwrap().count() <= MAX_FILES);
        assert!(cache.read(&Keyed("a"), AGE).is_some());
    }
}
