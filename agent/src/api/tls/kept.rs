//! Content of files that was valid when it was read last: a later content that cannot be used does not replace it.

use std::path::PathBuf;

use packs_schema::base::trust::Purpose;

use super::files::TlsError;
use crate::site_file::{Stamp, is_being_written};
use crate::trust;

/// File, and the rule for its owner and mode where there is one.
pub(super) type Watched = (PathBuf, Option<Purpose>);

/// Last valid content of one or more files that belong together.
#[derive(Debug)]
pub(super) struct Kept<T> {
    files: Vec<Watched>,
    stamps: Vec<Option<Stamp>>,
    /// Result of the last check of owners and modes.
    trusted: bool,
    value: T,
    /// Reason why the present content is not in effect.
    problem: Option<String>,
    /// True if the present content may be used later although it does not change.
    may_improve: bool,
}

impl<T> Kept<T> {
    /// Reads the files for the first time.
    pub(super) fn load(files: Vec<Watched>, read: impl FnOnce() -> Result<T, TlsError>) -> Result<Kept<T>, TlsError> {
        // Before the files are read, so that a change in between is seen.
        let stamps = stamps(&files);
        Ok(Kept { files, stamps, trusted: true, value: read()?, problem: None, may_improve: false })
    }

    /// Reads the files again if they changed; returns true if the value did. With `owners`, owners and modes are checked as well:
    /// those of directories may change while the files do not.
    pub(super) fn refresh(&mut self, owners: bool, read: impl FnOnce(&T) -> Result<T, TlsError>) -> bool {
        let stamps = stamps(&self.files);
        let trusted = owners.then(|| self.is_trusted());
        let try_again = owners && self.may_improve;
        if stamps == self.stamps && trusted.is_none_or(|trusted| trusted == self.trusted) && !try_again {
            return false;
        }
        let now_ms = crate::clock::now_ms();
        if stamps.iter().zip(&self.stamps).any(|(new, old)| is_being_written(*new, *old, now_ms)) {
            return false;
        }
        self.stamps = stamps;
        let read = read(&self.value);
        self.trusted = !matches!(read, Err(TlsError::Trust(_)));
        // Such as one that is not valid yet, or that could not be read because descriptors ran out.
        self.may_improve = matches!(read, Err(TlsError::Worse(..) | TlsError::Read(..)));
        match read {
            Ok(value) => {
                let paths: Vec<String> = self.files.iter().map(|(path, _)| path.display().to_string()).collect();
                tracing::info!(files = paths.join(","), "certificates read again");
                self.value = value;
                self.problem = None;
                true
            }
            Err(error) => {
                self.problem = Some(crate::log::chain(&error));
                false
            }
        }
    }

    /// Has the files read again at the next refresh: they may be valid beside other files that have changed.
    pub(super) fn read_again(&mut self) {
        self.stamps.iter_mut().for_each(|stamp| *stamp = None);
    }

    /// Returns the last valid content.
    pub(super) fn get(&self) -> &T {
        &self.value
    }

    /// Returns the paths of the files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|(path, _)| path)
    }

    /// Returns the reason why the present content of the files is not in effect.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn is_trusted(&self) -> bool {
        self.files.iter().all(|(path, purpose)| purpose.is_none_or(|purpose| trust::check(path, purpose).is_ok()))
    }
}

fn stamps(files: &[Watched]) -> Vec<Option<Stamp>> {
    files.iter().map(|(path, _)| Stamp::of(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn reader(path: PathBuf) -> impl Fn() -> Result<String, TlsError> {
        move || match fs::read_to_string(&path) {
            Ok(text) if text.ends_with("end\n") => Ok(text),
            _ => Err(TlsError::TooLarge(path.clone())),
        }
    }

    /// Refreshes until the content is `wanted`, with a deadline.
    fn refresh_until(kept: &mut Kept<String>, read: &dyn Fn() -> Result<String, TlsError>, wanted: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while kept.get() != wanted {
            kept.refresh(true, |_| read());
            assert!(std::time::Instant::now() < deadline, "{:?}", kept.problem());
            std::thread::yield_now();
        }
    }

    #[test]
    fn each_way_to_replace_a_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // As Kubernetes does: file -> ..data/file, ..data -> a directory.
        for (number, data) in ["one", "two"].iter().zip(["..1", "..2"]) {
            fs::create_dir(at(data)).unwrap();
            fs::write(at(data).join("f"), format!("{number} end\n")).unwrap();
        }
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/f", at("f")).unwrap();
        let read = reader(at("f"));
        let mut kept = Kept::load(vec![(at("f"), None)], &read).unwrap();
        assert!(!kept.refresh(true, |_| read()), "unchanged");
        std::os::unix::fs::symlink("..2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        assert!(kept.refresh(false, |_| read()), "a link to another directory is followed at once");
        assert_eq!(kept.get(), "two end\n");
        fs::write(at("new"), "three end\n").unwrap();
        fs::rename(at("new"), at("..2/f")).unwrap();
        assert!(kept.refresh(false, |_| read()), "a renamed file is read at once");
        fs::write(at("..2/f"), "four end\n").unwrap();
        refresh_until(&mut kept, &read, "four end\n");
    }

    #[test]
    fn a_broken_file_does_not_replace_the_last_valid_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one end\n").unwrap();
        let read = reader(path.clone());
        let mut kept = Kept::load(vec![(path.clone(), None)], &read).unwrap();
        let replace = |text: &str| crate::site_file::replace(&path, text);
        replace("broken");
        assert!(!kept.refresh(true, |_| read()));
        assert_eq!((kept.get().as_str(), kept.problem().is_some()), ("one end\n", true));
        fs::remove_file(&path).unwrap();
        assert!(!kept.refresh(true, |_| read()));
        assert!(kept.problem().is_some());
        replace("two end\n");
        assert!(kept.refresh(true, |_| read()));
        assert_eq!((kept.get().as_str(), kept.problem()), ("two end\n", None));
    }
    #[test]
    fn a_file_that_could_not_be_read_is_read_again_although_it_does_not_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one end\n").unwrap();
        let read = reader(path.clone());
        let mut kept = Kept::load(vec![(path.clone(), None)], &read).unwrap();
        crate::site_file::replace(&path, "two end\n");
        let no_descriptor = || TlsError::Read(path.clone(), nix::errno::Errno::EMFILE.into());
        assert!(!kept.refresh(false, |_| Err(no_descriptor())));
        assert_eq!((kept.get().as_str(), kept.problem().is_some()), ("one end\n", true));
        assert!(kept.refresh(true, |_| read()), "the watcher tries again");
        assert_eq!((kept.get().as_str(), kept.problem()), ("two end\n", None));
        assert!(!kept.refresh(true, |_| panic!("it is in effect")));
    }
}
