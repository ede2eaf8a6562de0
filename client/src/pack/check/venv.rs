//! A virtual environment that versions run in: its record, its files against its manifest, and its links.

use std::io;
use std::path::{Component, Path};

use packs_schema::agent::python;
use packs_schema::agent::store::{MANIFEST, META, Manifest, StoredVenv, VENV, VENVS};
use packs_schema::base::name::Digest;
use packs_schema::pack::contents::{MAX_YAML, REQUIREMENTS_FILE};

use super::{Look, kind};

impl Look {
    /// Checks the environment `venv`, in which the versions at `versions` run.
    pub(super) fn venv(&mut self, packs: &Path, venv: &Digest, versions: &[std::path::PathBuf]) -> io::Result<()> {
        let root = packs.join(VENVS).join(venv.as_str());
        let Ok(meta) = self.store.metadata(&root) else {
            for version in versions {
                let message =
                    format!("names the environment {venv}, which does not exist: the next poll makes it again");
                self.problem(&version.join(META).join(VENV), message);
            }
            return Ok(());
        };
        if !self.directory(&root, &meta) {
            return Ok(());
        }
        for (name, entry) in self.store.entries(&root.join(META)).unwrap_or_default() {
            let path = root.join(META).join(&name);
            match name.as_str() {
                VENV | MANIFEST => drop(self.file(&path, &entry, 0o644)),
                _ => self.problem(&path, format!("is {} that does not belong there", kind(&entry))),
            }
        }
        let Some(record) = self.record::<StoredVenv>(&root.join(META).join(VENV)) else { return Ok(()) };
        for version in versions {
            let file = version.join(REQUIREMENTS_FILE);
            if self.store.read(&file, MAX_YAML).is_ok_and(|needed| needed != record.requirements.as_bytes()) {
                self.problem(&file, format!("is not what its environment {venv} was made from"));
            }
        }
        let Some(manifest) = self.record::<Manifest>(&root.join(META).join(MANIFEST)) else { return Ok(()) };
        // `python` is what actions are run with; `venv` makes others, such as `python3.11`, to it or to the same program.
        let link = |path: &str, target: &Path| {
            target == record.interpreter.executable || (path != python::VENV_PYTHON && is_beside(target))
        };
        self.files(&root, &manifest, &link)?;
        Ok(())
    }
}

/// True for a link into the same directory.
fn is_beside(target: &Path) -> bool {
    let mut parts = target.components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}
