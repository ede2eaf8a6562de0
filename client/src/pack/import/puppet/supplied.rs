//! Files that Bolt supplies to imported modules.

use crate::pack::import::plan::PlannedFile;
use crate::pack::import::source::SourceFile;

/// Directory of the runner and its registry.
pub(super) const DIRECTORY: &str = "actions/bolt_puppet";
/// Entry point of every imported task, relative to `actions`.
pub(super) const RUNNER: &str = "bolt_puppet/run_task.py";

/// Helper modules that many tasks need, for where they are not beside the imported one.
const HELPERS: [(&str, &str); 2] = [
    ("python_task_helper/files/task_helper.py", include_str!("supplied/task_helper.py")),
    ("ruby_task_helper/files/task_helper.rb", include_str!("supplied/task_helper.rb")),
];

/// Returns the runner.
pub(super) fn files() -> [(String, PlannedFile); 2] {
    [
        (format!("actions/{RUNNER}"), PlannedFile::program(include_str!("supplied/run_task.py"))),
        (format!("{DIRECTORY}/README.txt"), PlannedFile::text(include_str!("supplied/readme.txt"))),
    ]
}

/// Returns the file of a helper module that `spec` names, with its path.
pub(super) fn helper(spec: &str) -> Option<(String, SourceFile)> {
    let named = |path: &str| path == spec || spec.ends_with('/') && path.starts_with(spec);
    let (path, text) = HELPERS.iter().find(|(path, _)| named(path))?;
    Some(((*path).to_owned(), SourceFile { bytes: text.as_bytes().to_vec(), executable: false }))
}
