//! Python whose functions a test replaces: for events that no test can time, such as a file that vanishes between two calls,
//! and for files of the kernel that are recorded.

use std::path::Path;

use tempfile::TempDir;

use crate::driver::python;
use crate::service::programs;

/// Runs the action that `env python3` was asked for, like Python itself.
const RUN: &str = "import os, runpy, sys\nsys.argv = sys.argv[1:]\n\
    sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))\nrunpy.run_path(sys.argv[0], run_name='__main__')\n";

/// Creates a directory with a `python3` that runs these statements before the action.
pub(crate) fn altered(statements: &str) -> TempDir {
    let text = format!("exec '{}' -c \"$(cat <<'END'\n{statements}\n{RUN}END\n)\" \"$@\"\n", python().display());
    programs(&[("python3", &text)])
}

/// Returns statements with which files are read from `directory` in place of those of the kernel: `/proc/net/dev` from
/// `before/dev`, and once the action has slept from `after/dev`.
pub(crate) fn recorded(directory: &Path, files: &[&str]) -> String {
    let names: Vec<String> = files.iter().map(|path| format!("'{path}'")).collect();
    format!(
        "import os, time\nopened, part = os.open, ['before']\n\
         def recorded(path, *rest, **more):\n\
         \x20 known = path in ({},)\n\
         \x20 return opened('{}/%s/%s' % (part[0], os.path.basename(path)) if known else path, *rest, **more)\n\
         os.open, time.sleep = recorded, lambda seconds: part.__setitem__(0, 'after')",
        names.join(", "),
        directory.display()
    )
}
