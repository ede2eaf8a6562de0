//! Author of a change and source of a pack, as far as they can be found out. They are no proof: the signature is. They are
//! recorded beside the archive and never in it, so that a build stays the same to the byte.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User, gethostname};
use serde::{Deserialize, Serialize};
use url::Url;

/// Maximum length of an answer of git that is kept, in characters.
const LONGEST: usize = 300;

/// Author of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// Ids of the keys that signed it.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Account and host: `alice@laptop`.
    #[serde(default)]
    pub user: String,
    /// Name and address from git's configuration: `Alice <alice@example.org>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
}

impl By {
    /// Returns the user of this process, with these keys.
    pub(super) fn here(keys: Vec<String>) -> By {
        let uid = Uid::effective();
        let account = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let host = gethostname().map_or_else(|_| "unknown".to_owned(), |host| host.to_string_lossy().into_owned());
        let here = Path::new(".");
        let git = match (git(here, &["config", "user.name"]), git(here, &["config", "user.email"])) {
            (Some(name), Some(email)) => Some(format!("{name} <{email}>")),
            (name, email) => name.or(email),
        };
        By { keys, user: clean(&format!("{account}@{host}")), git }
    }
}

/// Work tree that a pack was built in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `git describe --always --dirty --tags`.
    pub describe: String,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Address that it was cloned from, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
}

impl Source {
    /// Asks git about a directory; `None` without git or a work tree.
    pub fn of(directory: &Path) -> Option<Source> {
        if !directory.is_dir() {
            return None;
        }
        let describe = git(directory, &["describe", "--always", "--dirty", "--tags"])?;
        let commit = git(directory, &["rev-parse", "HEAD"]);
        let remote = git(directory, &["config", "--get", "remote.origin.url"]).map(|url| without_credentials(&url));
        Some(Source { describe, commit, remote })
    }
}

/// Runs git and returns the first line of its output; `None` when it fails.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        // Reading must not run a hook of the work tree's configuration.
        .args(["-c", "core.fsmonitor=false"])
        .args(arguments)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = clean(text.lines().next().unwrap_or_default().trim());
    (output.status.success() && !line.is_empty()).then_some(line)
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

/// Removes the user name, the password and the query, which may be a token, from an address.
fn without_credentials(remote: &str) -> String {
    match Url::parse(remote) {
        Ok(mut url) if url.has_host() => {
            if url.set_username("").and(url.set_password(None)).is_err() {
                // Such an address has no user.
                return url.into();
            }
            url.set_query(None);
            url.set_fragment(None);
            url.into()
        }
        _ => match remote.rsplit_once('@') {
            // host:path, the form of ssh.
            Some((_, rest)) => rest.to_owned(),
            None => remote.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_at_home() {
        for (given, kept) in [
            ("https://alice:hunter2@git.example.org/packs.git", "https://git.example.org/packs.git"),
            ("https://ghp_token@git.example.org/packs.git", "https://git.example.org/packs.git"),
            ("https://git.example.org/packs.git?private_token=x#y", "https://git.example.org/packs.git"),
            ("ssh://git@git.example.org:22/packs.git", "ssh://git.example.org:22/packs.git"),
            ("git@git.example.org:ops/packs.git", "git.example.org:ops/packs.git"),
            ("alice:hunter2@git.example.org:ops/packs.git", "git.example.org:ops/packs.git"),
            ("/srv/packs.git", "/srv/packs.git"),
        ] {
            assert_eq!(without_credentials(given), kept);
        }
    }

    #[test]
    fn a_directory_outside_of_a_work_tree_has_no_source() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(Source::of(temp.path()), None);
        assert_eq!(Source::of(&temp.path().join("absent")), None);
    }
}
