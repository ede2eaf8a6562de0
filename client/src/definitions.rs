//! Definitions of actions, as instances have described them, kept between runs: one request for each version of a pack serves a
//! whole fleet, since every execution says by its digest which version it ran.
//!
//! ```text
//!  find(action) ──▶ checks before the start ──▶ run ──▶ digests of its executions ──▶ confirm, or one GET and keep
//! ```
//!
//! A definition from here is a claim of one instance, possibly an outdated one. So nothing may depend on it that an instance does
//! not check itself: parameters are checked again there, and the class is sent along (`?class=`), so that an action that is not
//! what it was starts nowhere. Definitions of pushed versions are not kept, nor those that contain values of secrets.

use std::path::PathBuf;

use packs_schema::agent::rest::ActionView;
use packs_schema::base::name::{ActionRef, Digest, PackVersion};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache;
use crate::config::Config;

/// Version of the file's format.
const FORMAT: u32 = 1;
/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Maximum number of definitions; beyond it, those that were not seen for the longest time are dropped.
const MAX_KEPT: usize = 256;
/// Time after which a definition that no execution has confirmed is not used, in milliseconds.
const MAX_AGE_MS: u64 = 7 * 24 * 3600 * 1000;
/// Age of a confirmation up to which another one is not written, in milliseconds.
const CONFIRMED_MS: u64 = 3600 * 1000;

/// Definitions, and the file that holds them.
#[derive(Debug, Default)]
pub struct Definitions {
    path: Option<PathBuf>,
    kept: Vec<Kept>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    /// Last time that an instance answered with this version, in milliseconds since 1970.
    seen_ms: u64,
    view: ActionView,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    kept: Vec<Kept>,
}

impl Kept {
    fn is(&self, action: &ActionRef, digest: &Digest) -> bool {
        self.view.digest == *digest && self.view.action.reference() == *action
    }
}

impl Definitions {
    /// Reads the definitions of a client configuration; none without a cache directory.
    pub fn open(config: &Config) -> Definitions {
        Definitions::open_at(cache::path(config, "definitions"))
    }

    fn open_at(path: Option<PathBuf>) -> Definitions {
        let file = path.as_deref().and_then(|path| cache::read::<File>(path, MAX_FILE));
        let kept = file.filter(|file| file.format == FORMAT).map_or(Vec::new(), |file| file.kept);
        Definitions { path, kept }
    }

    /// Returns the definition of an action, of this version if one is named, that was seen last; at `now_ms` not too long ago.
    pub fn find(&self, action: &ActionRef, version: Option<&PackVersion>, now_ms: u64) -> Option<&ActionView> {
        let matches = |kept: &&Kept| {
            kept.view.action.reference() == *action
                && version.is_none_or(|version| *version == kept.view.version)
                && kept.seen_ms <= now_ms
                && now_ms - kept.seen_ms <= MAX_AGE_MS
        };
        self.kept.iter().filter(matches).max_by_key(|kept| kept.seen_ms).map(|kept| &kept.view)
    }

    /// True if the definition of this version is here.
    pub fn contains(&self, action: &ActionRef, digest: &Digest) -> bool {
        self.kept.iter().any(|kept| kept.is(action, digest))
    }

    /// Keeps a definition that an instance has sent, if it may be kept.
    pub fn keep(&mut self, view: ActionView, now_ms: u64) {
        if view.dev.is_some() || holds_secret_values(&view) {
            return;
        }
        let action = view.action.reference();
        self.kept.retain(|kept| !kept.is(&action, &view.digest));
        self.kept.push(Kept { seen_ms: now_ms, view });
        self.kept.sort_by_key(|kept| std::cmp::Reverse(kept.seen_ms));
        self.kept.truncate(MAX_KEPT);
        self.save();
    }

    /// Notes that an execution of this version was seen.
    pub fn confirm(&mut self, action: &ActionRef, digest: &Digest, now_ms: u64) {
        let newest = self.find(action, None, now_ms).is_some_and(|view| view.digest == *digest);
        let Some(kept) = self.kept.iter_mut().find(|kept| kept.is(action, digest)) else { return };
        let is_recent = kept.seen_ms <= now_ms && now_ms - kept.seen_ms < CONFIRMED_MS;
        if !(newest && is_recent) {
            kept.seen_ms = now_ms;
            self.save();
        }
    }

    /// Removes all definitions of an action: instances refuse what was made by them.
    pub fn forget(&mut self, action: &ActionRef) {
        let before = self.kept.len();
        self.kept.retain(|kept| kept.view.action.reference() != *action);
        if self.kept.len() < before {
            self.save();
        }
    }

    /// Writes the file; runs work without it.
    fn save(&self) {
        if let Some(path) = &self.path {
            let _ = cache::write(path, &File { format: FORMAT, kept: self.kept.clone() }, MAX_FILE);
        }
    }
}

/// True if a definition may contain a value of a secret parameter: a default, or the values that it may have.
fn holds_secret_values(view: &ActionView) -> bool {
    fn has_values(schema: &Value) -> bool {
        match schema {
            Value::Object(keys) => {
                ["default", "enum", "const"].iter().any(|key| keys.contains_key(*key)) || keys.values().any(has_values)
            }
            Value::Array(items) => items.iter().any(has_values),
            _ => false,
        }
    }
    let secret = view.action.parameters.values().filter(|schema| schema.holds_secret());
    secret.map(serde_json::to_value).any(|schema| schema.map_or(true, |schema| has_values(&schema)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(version: &str, digest: char, parameters: Value) -> ActionView {
        serde_json::from_value(json!({"version": version, "digest": digest.to_string().repeat(64), "pack": "linux",
            "name": "true", "description": "", "runner_type": "local-shell-script", "entry_point": "x.sh", "enabled": true,
            "parameters": parameters, "tags": [], "class": "diagnostic", "timeout": "30s", "grace": "5s",
            "start_within": "1m", "output_max": "1MiB", "noop": false, "new_privileges": false,
            "limits": {"memory": "256MiB", "cpu": "100%", "pids": 64, "open_files": 256}}))
        .unwrap()
    }

    fn action() -> ActionRef {
        ActionRef::new("linux.true").unwrap()
    }

    fn found(definitions: &Definitions, version: Option<&str>, now_ms: u64) -> Option<String> {
        let version = version.map(|version| PackVersion::new(version).unwrap());
        definitions.find(&action(), version.as_ref(), now_ms).map(|view| view.version.to_string())
    }

    #[test]
    fn the_definition_that_was_seen_last_is_found_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = Some(temp.path().join("definitions-0.json"));
        let mut definitions = Definitions::open_at(path.clone());
        assert_eq!(found(&definitions, None, 1), None);
        definitions.keep(view("1.0.0", 'a', json!({})), 1_000);
        definitions.keep(view("2.0.0", 'b', json!({})), 2_000);
        let mut definitions = Definitions::open_at(path.clone());
        assert_eq!(found(&definitions, None, 3_000).as_deref(), Some("2.0.0"));
        assert_eq!(found(&definitions, Some("1.0.0"), 3_000).as_deref(), Some("1.0.0"));
        assert_eq!(found(&definitions, Some("3.0.0"), 3_000), None);
        // An execution of the first version: a rollback.
        let first = view("1.0.0", 'a', json!({})).digest;
        definitions.confirm(&action(), &first, 3_000);
        let mut definitions = Definitions::open_at(path.clone());
        assert_eq!(found(&definitions, None, 4_000).as_deref(), Some("1.0.0"));
        assert_eq!(found(&definitions, None, 4_000 + MAX_AGE_MS), None, "too old");
        assert_eq!(found(&definitions, None, 500), None, "a clock that was set back");
        definitions.forget(&action());
        assert_eq!(found(&Definitions::open_at(path), None, 4_000), None);
    }

    #[test]
    fn no_value_of_a_secret_is_kept() {
        let mut definitions = Definitions::default();
        for (parameters, is_kept) in [
            (json!({"token": {"type": "string", "secret": true}}), true),
            (json!({"n": {"type": "integer", "default": 1}}), true),
            (json!({"token": {"type": "string", "secret": true, "default": "hunter2"}}), false),
        ] {
            definitions.forget(&action());
            definitions.keep(view("1.0.0", 'a', parameters.clone()), 1);
            assert_eq!(found(&definitions, None, 1).is_some(), is_kept, "{parameters}");
        }
    }

    #[test]
    fn a_file_of_another_format_is_not_used_and_the_number_is_bounded() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("definitions-0.json");
        std::fs::write(&path, r#"{"format": 2, "kept": []}"#).unwrap();
        let mut definitions = Definitions::open_at(Some(path.clone()));
        for number in 0..MAX_KEPT + 5 {
            let mut one = view("1.0.0", 'a', json!({}));
            one.digest = Digest::new(format!("{number:064x}")).unwrap();
            definitions.kept.push(Kept { seen_ms: number as u64, view: one });
        }
        definitions.keep(view("2.0.0", 'b', json!({})), 1_000);
        assert_eq!(Definitions::open_at(Some(path)).kept.len(), MAX_KEPT);
    }
}
