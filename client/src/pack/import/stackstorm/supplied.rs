//! Files that Bolt supplies to imported packs, below `actions/bolt_st2`.

use crate::pack::import::plan::PlannedFile;

/// Files by path, and true for those that are run.
const FILES: [(&str, bool, &str); 6] = [
    ("actions/bolt_st2/run_python.py", true, include_str!("supplied/run_python.py")),
    ("actions/bolt_st2/run_script.py", true, include_str!("supplied/run_script.py")),
    ("actions/bolt_st2/bolt_common.py", false, include_str!("supplied/bolt_common.py")),
    ("actions/bolt_st2/bolt_values.py", false, include_str!("supplied/bolt_values.py")),
    ("actions/bolt_st2/bolt_modules.py", false, include_str!("supplied/bolt_modules.py")),
    ("actions/bolt_st2/README.txt", false, include_str!("supplied/readme.txt")),
];

/// Returns the files.
pub(super) fn files() -> impl Iterator<Item = (String, PlannedFile)> {
    FILES.into_iter().map(|(path, executable, text)| {
        let file = if executable { PlannedFile::program(text) } else { PlannedFile::text(text) };
        (path.to_owned(), file)
    })
}
