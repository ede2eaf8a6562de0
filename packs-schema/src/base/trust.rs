//! Rules for owners and modes of trust anchors (files that decide what is trusted) and of files with secrets.
//!
//! A file is only as safe as the directories above it: a user who may write to one of them can replace the file. The
//! path is therefore walked from `/`, symbolic links included, and each step is checked. Callers provide access to the
//! file system.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Use of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Trust anchor: certificate authorities, grants, the repository's root, `agent.toml`.
    Anchor,
    /// Secret: a private key.
    Secret,
}

/// Metadata of a file or directory, as from lstat(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathMetadata {
    /// Owner.
    pub owner: u32,
    /// Group.
    pub group: u32,
    /// Permission bits, including set-id bits and the sticky bit.
    pub mode: u32,
    /// Target, if it is a symbolic link.
    pub link: Option<PathBuf>,
}

/// Credentials of the process that uses the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderIds {
    /// Effective user id.
    pub user: u32,
    /// Primary group id.
    pub group: u32,
    /// All group ids.
    pub groups: Vec<u32>,
    /// True if the launcher runs as another user, root. Then the reader's own account must not own a trust anchor: an
    /// attacker who takes over the process would decide what it trusts.
    pub separated: bool,
}

/// Error returned when a file must not be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError<E: std::error::Error + 'static> {
    /// Metadata of a part of the path cannot be read.
    #[error("cannot examine {}", .0.display())]
    Metadata(PathBuf, #[source] E),
    /// The path has too many symbolic links.
    #[error("{} has more than 40 symbolic links on its path", .0.display())]
    Links(PathBuf),
    /// Another user owns it.
    #[error(
        "{path} belongs to user {owner}, who could change what the agent trusts: run `chown root {path}`",
        path = path.display()
    )]
    Owner {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Other users may write to it.
    #[error("{path} may be changed by others (mode {mode:04o}): run `chmod go-w {path}`", path = path.display())]
    Writable {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Owner, group or mode of a secret do not fit the process that reads it.
    #[error(
        "{path} {why} (owner {owner}, group {group}, mode {mode:04o}): run `{fix}`",
        path = path.display()
    )]
    Secret {
        /// The file.
        path: PathBuf,
        /// The problem.
        why: String,
        /// Its owner.
        owner: u32,
        /// Its group.
        group: u32,
        /// Its mode.
        mode: u32,
        /// Command after which the reader, and no other account, can read it.
        fix: String,
    },
}

/// Maximum number of symbolic links to follow, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;
const STICKY: u32 = 0o1000;
/// Write permission for group or others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Checks the file at the absolute `path`, and every directory and symbolic link on the way to it.
pub fn check<E: std::error::Error>(
    path: &Path,
    purpose: Purpose,
    reader: &ReaderIds,
    read_metadata: impl Fn(&Path) -> Result<PathMetadata, E>,
) -> Result<(), TrustError<E>> {
    let owns = |owner: u32| owner == 0 || (owner == reader.user && (purpose == Purpose::Secret || !reader.separated));
    let seen = |path: &Path| read_metadata(path).map_err(|source| TrustError::Metadata(path.to_owned(), source));
    let mut ahead: VecDeque<OsString> = components(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    let mut this = seen(&at)?;
    while let Some(name) = ahead.pop_front() {
        // More components follow: `at` is a directory.
        if !owns(this.owner) {
            return Err(TrustError::Owner { path: at, owner: this.owner });
        }
        if this.mode & WRITABLE_BY_OTHERS != 0 && this.mode & STICKY == 0 {
            return Err(TrustError::Writable { path: at, mode: this.mode });
        }
        if name == ".." {
            at.pop();
            this = seen(&at)?;
            continue;
        }
        let next = at.join(&name);
        let found = seen(&next)?;
        let Some(target) = &found.link else {
            (at, this) = (next, found);
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(TrustError::Links(path.to_owned()));
        }
        // In a sticky directory the link's owner may replace it.
        if !owns(found.owner) {
            return Err(TrustError::Owner { path: next, owner: found.owner });
        }
        if target.is_absolute() {
            at = PathBuf::from("/");
            this = seen(&at)?;
        }
        for name in components(target).into_iter().rev() {
            ahead.push_front(name);
        }
    }
    check_file(at, purpose, reader, this, owns)
}

fn check_file<E: std::error::Error>(
    path: PathBuf,
    purpose: Purpose,
    reader: &ReaderIds,
    seen: PathMetadata,
    owns: impl Fn(u32) -> bool,
) -> Result<(), TrustError<E>> {
    let PathMetadata { owner, group, mode, .. } = seen;
    if purpose == Purpose::Secret {
        let is_ours = reader.groups.contains(&group);
        let readable =
            (owner == reader.user && mode & 0o400 != 0) || (is_ours && mode & 0o040 != 0) || reader.user == 0;
        let why = if mode & 0o077 != 0 && !(mode & 0o037 == 0 && is_ours) {
            "can be read by others".to_owned()
        } else if !owns(owner) {
            format!("belongs to user {owner}, who could replace it")
        } else if !readable {
            format!("cannot be read by user {}, who needs it", reader.user)
        } else {
            return Ok(());
        };
        let fix = fix_of_secret(&path, owner, reader);
        return Err(TrustError::Secret { path, why, owner, group, mode, fix });
    }
    if !owns(owner) {
        return Err(TrustError::Owner { path, owner });
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(TrustError::Writable { path, mode });
    }
    Ok(())
}

/// Returns the command that makes a secret readable for the reader, and for no other account: mode 0600 where the reader owns it,
/// otherwise root's with the reader's group, so that the reader cannot replace it.
fn fix_of_secret(path: &Path, owner: u32, reader: &ReaderIds) -> String {
    let path = path.display();
    match (owner == reader.user, reader.separated) {
        (true, _) => format!("chmod 0600 {path}"),
        (false, true) => format!("chown root:{} {path} && chmod 0640 {path}", reader.group),
        (false, false) => format!("chown {} {path} && chmod 0600 {path}", reader.user),
    }
}

/// Returns the components of a path to walk.
fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io;

    const API: u32 = 64_100;

    fn reader() -> ReaderIds {
        ReaderIds { user: API, group: API, groups: vec![API], separated: true }
    }

    struct Tree(BTreeMap<PathBuf, PathMetadata>);

    impl Tree {
        /// Root's directories, and the file `/etc/bolt/f` of `owner` and `mode`.
        fn with(owner: u32, mode: u32) -> Tree {
            let mut tree = Tree(BTreeMap::new());
            for path in ["/", "/etc", "/etc/bolt"] {
                tree.put(path, 0, 0o755);
            }
            tree.put("/tmp", 0, 0o1777);
            tree.put("/etc/bolt/f", owner, mode);
            tree
        }

        fn put(&mut self, path: &str, owner: u32, mode: u32) -> &mut Tree {
            self.0.insert(path.into(), PathMetadata { owner, group: API, mode, link: None });
            self
        }

        fn link(&mut self, path: &str, owner: u32, target: &str) -> &mut Tree {
            self.0.insert(path.into(), PathMetadata { owner, group: API, mode: 0o777, link: Some(target.into()) });
            self
        }

        fn check(&self, path: &str, purpose: Purpose, reader: &ReaderIds) -> Result<(), String> {
            let read_metadata = |path: &Path| self.0.get(path).cloned().ok_or(io::Error::from(io::ErrorKind::NotFound));
            check(Path::new(path), purpose, reader, read_metadata).map_err(|e| e.to_string())
        }
    }

    fn file(owner: u32, mode: u32, purpose: Purpose) -> Result<(), String> {
        Tree::with(owner, mode).check("/etc/bolt/f", purpose, &reader())
    }

    #[test]
    fn only_root_may_write_a_trust_anchor() {
        assert!(file(0, 0o644, Purpose::Anchor).is_ok());
        for (owner, mode) in [(API, 0o644), (1000, 0o644), (0, 0o664), (0, 0o646), (0, 0o666)] {
            let said = file(owner, mode, Purpose::Anchor).unwrap_err();
            assert!(said.contains("/etc/bolt/f") && said.contains("run `ch"), "{said}");
        }
        let alone = ReaderIds { separated: false, ..reader() };
        assert!(Tree::with(API, 0o644).check("/etc/bolt/f", Purpose::Anchor, &alone).is_ok(), "without root");
    }

    #[test]
    fn a_secret_is_readable_by_its_owner_or_the_readers_group_only() {
        for (owner, mode) in [(API, 0o600), (0, 0o640), (0, 0o440), (API, 0o400)] {
            assert!(file(owner, mode, Purpose::Secret).is_ok(), "{owner} {mode:o}");
        }
        for (owner, mode) in [(0, 0o644), (0, 0o660), (API, 0o604), (1000, 0o640), (1000, 0o600)] {
            assert!(file(owner, mode, Purpose::Secret).is_err(), "{owner} {mode:o}");
        }
        let stranger = ReaderIds { groups: vec![7], ..reader() };
        assert!(Tree::with(0, 0o640).check("/etc/bolt/f", Purpose::Secret, &stranger).is_err());
    }

    #[test]
    fn the_command_for_a_secret_makes_it_readable_for_its_reader() {
        let alone = ReaderIds { separated: false, ..reader() };
        for (reader, owner, mode) in [
            (reader(), 0, 0o644),
            (reader(), 0, 0o600),
            (reader(), API, 0o644),
            (reader(), 1000, 0o600),
            (alone.clone(), API, 0o644),
            (alone, 1000, 0o644),
        ] {
            let mut tree = Tree::with(owner, mode);
            tree.put("/etc/bolt/f", owner, mode).0.get_mut(Path::new("/etc/bolt/f")).unwrap().group = 0;
            let said = tree.check("/etc/bolt/f", Purpose::Secret, &reader).unwrap_err();
            // Does what the message says.
            let (_, command) = said.split_once("run `").unwrap();
            let mut fixed = PathMetadata { owner, group: 0, mode, link: None };
            for step in command.trim_end_matches('`').split(" && ") {
                match step.split(' ').collect::<Vec<_>>()[..] {
                    ["chmod", mode, "/etc/bolt/f"] => fixed.mode = u32::from_str_radix(mode, 8).unwrap(),
                    ["chown", owner, "/etc/bolt/f"] => match owner.split_once(':') {
                        Some(("root", group)) => (fixed.owner, fixed.group) = (0, group.parse().unwrap()),
                        _ => fixed.owner = owner.parse().unwrap(),
                    },
                    _ => panic!("{said}"),
                }
            }
            let read_metadata = |path: &Path| match path == Path::new("/etc/bolt/f") {
                true => Ok(fixed.clone()),
                false => tree.0.get(path).cloned().ok_or(io::Error::from(io::ErrorKind::NotFound)),
            };
            check(Path::new("/etc/bolt/f"), Purpose::Secret, &reader, read_metadata)
                .unwrap_or_else(|error| panic!("{said}: {error}"));
        }
    }

    #[test]
    fn every_parent_directory_is_checked() {
        for (path, owner, mode) in [
            ("/etc/bolt", API, 0o755),
            ("/etc/bolt", 0, 0o775),
            ("/etc/bolt", 0, 0o757),
            ("/etc", 1000, 0o755),
            ("/", 0, 0o777),
        ] {
            let mut tree = Tree::with(0, 0o644);
            tree.put(path, owner, mode);
            let said = tree.check("/etc/bolt/f", Purpose::Anchor, &reader()).unwrap_err();
            assert!(said.contains(&format!("{path} ")), "{said}");
        }
        let mut tree = Tree::with(0, 0o644);
        tree.put("/tmp/f", 0, 0o644).put("/tmp/g", 1000, 0o644);
        assert!(tree.check("/tmp/f", Purpose::Anchor, &reader()).is_ok(), "a sticky directory keeps root's files");
        assert!(tree.check("/tmp/g", Purpose::Anchor, &reader()).is_err());
    }

    #[test]
    fn links_are_followed_step_by_step() {
        let mut tree = Tree::with(0, 0o644);
        tree.put("/lax", 0, 0o777).put("/lax/f", 0, 0o644);
        tree.link("/etc/bolt/good", 0, "../bolt/f").link("/etc/bolt/bad", 0, "/lax/f");
        tree.link("/tmp/theirs", 1000, "/etc/bolt/f").link("/etc/bolt/loop", 0, "loop");
        let check = |path| tree.check(path, Purpose::Anchor, &reader());
        assert!(check("/etc/bolt/good").is_ok());
        assert!(check("/etc/bolt/bad").unwrap_err().contains("/lax "));
        assert!(check("/tmp/theirs").unwrap_err().contains("user 1000"));
        assert!(check("/etc/bolt/loop").unwrap_err().contains("more than 40 symbolic links"));
        assert!(check("/etc/bolt/none").unwrap_err().contains("cannot examine"));
    }
}
