//! `--output-dir`: a file for each instance and stream, and an index of outcomes.
//!
//! ```text
//!  <id>.stdout  <id>.stderr  <id>.result.json    complete; of an execution that printed nothing or has no result there is none
//!  index.json                                    the run, and of each instance its state and the names of its files
//! ```
//!
//! A file is written under another name first and then renamed, below the handle of the directory; a link is never followed. When
//! one cannot be written (a full disk), this is said once, and the run goes on.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use packs_schema::base::name::{InstanceId, RunId};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cli::failure::{Exit, Failure};
use crate::confined_dir::ConfinedDir;
use crate::errln;
use crate::fleet::{Ending, Run, Stopped};
use crate::show::{self, Mask};

/// Maximum number of bytes of each output stream that is fetched for a file.
pub(super) const COMPLETE: usize = 64 << 20;
/// Maximum size of a file, whose output may have been cut with a line that says so.
const MAX_FILE: u64 = COMPLETE as u64 + 4096;
/// Name of the index.
const INDEX: &str = "index.json";
/// Maximum size of the index of an earlier client, in bytes.
const MAX_INDEX: u64 = 64 << 20;
/// Beginning of the name of a file that is being written.
const PARTIAL: &str = ".bolt-partial-";
/// Longest id that is a file's name as it is.
const LONGEST: usize = 100;

/// Directory that the output of a run is written to.
#[derive(Debug)]
pub(super) struct OutputDir {
    path: PathBuf,
    directory: ConfinedDir,
    /// Entry of the index for each instance that has ended.
    entries: BTreeMap<String, Value>,
    /// Number of files that could not be written.
    failed: usize,
}

impl OutputDir {
    /// Opens `path`, or makes it. Refuses a directory that is not empty, unless it has files of this run, or with `force`.
    pub(super) fn open(path: &Path, run: &Run, force: bool) -> Result<OutputDir, Failure> {
        let shown = show::path(path);
        let failed =
            |what: &str, error: &io::Error| Failure::new(Exit::Storage, format!("cannot {what} {shown}: {error}"));
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700)
            .create(path)
            .map_err(|e| failed("make", &e))?;
        let path = path.canonicalize().map_err(|e| failed("open", &e))?;
        let directory = ConfinedDir::open(&path).map_err(|e| failed("open", &e))?;
        let names = directory.entries(Path::new("")).map_err(|e| failed("read", &e))?;
        let mut entries = BTreeMap::new();
        if !names.is_empty() {
            match earlier(&directory, &run.id) {
                Some(earlier) => entries = earlier,
                None if force => {}
                None => {
                    let message = format!("{shown} is not empty, and has no output of run {}", run.id);
                    return Err(Failure::new(Exit::Usage, message)
                        .hint("name a new directory, or add --force: files of the same name are replaced"));
                }
            }
        }
        for name in names.keys().filter(|name| name.starts_with(PARTIAL)) {
            directory.remove_file(Path::new(name)).map_err(|e| failed("remove an unfinished file of", &e))?;
        }
        let mut made = OutputDir { path, directory, entries, failed: 0 };
        made.write_index(run, None).map_err(|e| failed("write into", &e))?;
        Ok(made)
    }

    /// Writes the files of an instance that has ended.
    pub(super) fn write(&mut self, instance: &InstanceId, ending: &Ending) {
        let name = file_name(instance);
        let mut entry = json!({ "instance": instance, "state": ending.state() });
        if let Some(id) = ending.execution() {
            entry["execution_id"] = json!(id);
        }
        if let Ending::Ended(execution, output) = ending {
            entry["exit_status"] = json!(execution.exit_status);
            entry["truncated"] = json!(output.truncated);
            let result = execution.result.as_ref().map(|result| show::json(result) + "\n").unwrap_or_default();
            let mut files = serde_json::Map::new();
            for (kind, extension, bytes) in [
                ("stdout", "stdout", output.stdout.as_slice()),
                ("stderr", "stderr", output.stderr.as_slice()),
                ("result", "result.json", result.as_bytes()),
            ] {
                let file = format!("{name}.{extension}");
                if !bytes.is_empty() && self.replace(&file, bytes) {
                    files.insert(kind.to_owned(), json!(file));
                }
            }
            entry["files"] = files.into();
        }
        if let Ending::Unreachable { error, .. } | Ending::Refused(error) = ending {
            entry["error"] = json!(error.kind.to_string());
        }
        self.entries.insert(instance.to_string(), entry);
    }

    /// Masks values in the files that are there, and that become known as secret after they were written.
    pub(super) fn mask(&mut self, mask: &Mask) {
        if mask.is_empty() {
            return;
        }
        let of_entry = |entry: &Value| entry["files"].as_object().cloned().unwrap_or_default();
        let names: Vec<Value> =
            self.entries.values().flat_map(|entry| of_entry(entry).into_iter().map(|(_, name)| name)).collect();
        for name in names.iter().filter_map(Value::as_str) {
            let Ok(bytes) = self.directory.read(Path::new(name), MAX_FILE) else { continue };
            let mut stream = mask.stream();
            let mut masked = stream.push(&bytes);
            masked.extend(stream.finish());
            if masked != bytes && !self.replace(name, &masked) {
                // Rather no file than one with a secret.
                let _ = self.directory.remove_file(Path::new(name));
            }
        }
    }

    /// Writes the index. Returns the exit code for a run whose files are not all there.
    pub(super) fn finish(&mut self, run: &Run, stopped: Option<Stopped>) -> Option<Exit> {
        if let Err(error) = self.write_index(run, Some(stopped)) {
            self.failed(INDEX, &error);
        }
        (self.failed > 0).then(|| {
            let count = show::counted(self.failed, "file");
            errln!("bolt: {count} of the run could not be written to {}", show::path(&self.path));
            Exit::Storage
        })
    }

    fn write_index(&mut self, run: &Run, end: Option<Option<Stopped>>) -> io::Result<()> {
        let index = json!({
            "run": run.id,
            "action": run.request.action,
            "complete": end.is_some(),
            "stopped": end.flatten().map(Stopped::code),
            "instances": self.entries.values().collect::<Vec<_>>(),
        });
        self.put(INDEX, (show::json(&index) + "\n").as_bytes())
    }

    /// Writes a file; true if it is there. The first error is printed.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> bool {
        match self.put(name, bytes) {
            Ok(()) => true,
            Err(error) => {
                self.failed(name, &error);
                false
            }
        }
    }

    fn failed(&mut self, name: &str, error: &io::Error) {
        if self.failed == 0 {
            let path = show::path(&self.path.join(name));
            errln!("bolt: cannot write {path}: {error}; the run goes on, and counts the files that are missing");
        }
        self.failed += 1;
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let partial = format!("{PARTIAL}{}", short_hash(name));
        let written = self.directory.create(Path::new(&partial), bytes, 0o600);
        let done = written.and_then(|()| self.directory.rename(Path::new(&partial), Path::new(name)));
        if done.is_err() {
            // Makes room for others on a full disk.
            let _ = self.directory.remove_file(Path::new(&partial));
        }
        done
    }
}

/// Returns the entries of the index that an earlier client of this run has written.
fn earlier(directory: &ConfinedDir, run: &RunId) -> Option<BTreeMap<String, Value>> {
    let index: Value = serde_json::from_slice(&directory.read(Path::new(INDEX), MAX_INDEX).ok()?).ok()?;
    if index["run"].as_str() != Some(run.as_str()) {
        return None;
    }
    let entry = |entry: &Value| Some((entry["instance"].as_str()?.to_owned(), entry.clone()));
    Some(index["instances"].as_array()?.iter().filter_map(entry).collect())
}

/// Returns a name for the files of an instance: its id, if that is the same on all file systems, otherwise its beginning with a hash
/// after `=`, which no id has. Two ids have different names, also where capitals are not told apart.
fn file_name(instance: &InstanceId) -> String {
    let id = instance.as_str();
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let begins = id.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if begins && id.len() <= LONGEST && id.bytes().all(is_plain) && !id.ends_with('.') {
        return id.to_owned();
    }
    let begin: String = id.chars().filter(|c| c.is_ascii() && is_plain(*c as u8) && *c != '.').take(40).collect();
    format!("{begin}={}", short_hash(id))
}

fn short_hash(text: &str) -> String {
    Sha256::digest(text)[..10].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_becomes_known_as_secret_is_masked_in_files_that_are_there() {
        let temp = tempfile::tempdir().unwrap();
        let directory = ConfinedDir::open(temp.path()).unwrap();
        std::fs::write(temp.path().join("i-1.stdout"), "a token hunter2\n").unwrap();
        std::fs::write(temp.path().join("i-1.stderr"), "nothing\n").unwrap();
        let entry = json!({ "instance": "i-1", "files": { "stdout": "i-1.stdout", "stderr": "i-1.stderr" } });
        let entries = BTreeMap::from([("i-1".to_owned(), entry)]);
        let mut files = OutputDir { path: temp.path().to_owned(), directory, entries, failed: 0 };
        files.mask(&Mask::new(["hunter2"].into_iter()));
        let read = |name: &str| std::fs::read_to_string(temp.path().join(name)).unwrap();
        assert_eq!((read("i-1.stdout"), read("i-1.stderr")), ("a token ********\n".to_owned(), "nothing\n".to_owned()));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2);
    }

    #[test]
    fn every_instance_has_names_of_its_own_that_are_safe_everywhere() {
        let long = "x".repeat(128);
        let ids = [
            "i-0a11",
            "I-0A11",
            "i-0a11.",
            "i:0a11",
            "i@0a11",
            "a",
            "a.stdout",
            "_x",
            "+x",
            "con:",
            &long,
            &long[..127],
            "...",
        ];
        let ids: Vec<InstanceId> = ids.iter().filter_map(|id| InstanceId::new(*id).ok()).collect();
        assert_eq!(ids.len(), 12, "three dots are no id");
        let files: BTreeSet<String> = ids
            .iter()
            .flat_map(|id| ["stdout", "stderr"].map(|end| format!("{}.{end}", file_name(id)).to_lowercase()))
            .collect();
        assert_eq!(files.len(), 24);
        for file in &files {
            assert!(file.len() < 120 && !file.starts_with('.') && !file.contains(['/', ':', '@', '+']), "{file}");
            assert_ne!(file, INDEX);
        }
        assert_eq!(file_name(&ids[0]), "i-0a11");
    }
}
