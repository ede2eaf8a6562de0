//! Facts about the Python sources of a tree, from a Python process that parses and never runs them.
//!
//! The process gets the texts on standard input, imports nothing of the pack, and has limits of memory, processor time
//! and output. A source that makes it fail is one that was not checked.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::pack::import::source::SourceTree;

const CHECK: &str = include_str!("python_facts/check.py");
/// Maximum size of a source that is checked, in bytes.
const MAX_SOURCE: usize = 1 << 20;
/// Maximum size of the answer, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// Processor time of the process, in seconds.
const MAX_SECONDS: u64 = 60;
/// Memory of the process, in bytes.
const MAX_MEMORY: u64 = 2 << 30;

/// An import of a source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Import(
    /// Number of leading dots.
    pub(super) usize,
    /// The module.
    pub(super) String,
    /// Names imported from it.
    pub(super) Vec<String>,
    /// Line.
    pub(super) usize,
    /// True inside a block that expects it to fail.
    pub(super) bool,
);

/// Facts about one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct SourceFacts {
    pub(super) imports: Vec<Import>,
    /// Lines and names of Python 2.
    pub(super) python2: Vec<(usize, String)>,
    /// Classes at the top level.
    pub(super) classes: Vec<String>,
    /// Line and message, if Python 3 cannot read it.
    pub(super) error: Option<(usize, String)>,
}

/// Facts by path; `None` if Python could not be asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts(pub(super) Option<BTreeMap<String, SourceFacts>>);

/// Asks Python about the sources of `tree` whose names end in `.py`.
pub(super) fn facts(tree: &SourceTree) -> Facts {
    let small = tree.files.iter().filter(|(path, file)| path.ends_with(".py") && file.bytes.len() <= MAX_SOURCE);
    let texts: BTreeMap<&String, &str> = small.filter_map(|(path, file)| Some((path, file.text()?))).collect();
    if texts.is_empty() {
        return Facts(Some(BTreeMap::new()));
    }
    let question = serde_json::to_vec(&texts).unwrap_or_default();
    Facts(ask(&question))
}

fn ask(question: &[u8]) -> Option<BTreeMap<String, SourceFacts>> {
    // A shell sets the limits before it becomes the interpreter. Isolated, without site packages: nothing but the
    // interpreter's own library is imported.
    let limits = format!("ulimit -t {MAX_SECONDS}; ulimit -v {}; ulimit -c 0; exec \"$@\"", MAX_MEMORY >> 10);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &limits, "sh", "python3", "-I", "-S", "-c", CHECK]).current_dir("/").process_group(0);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let (mut stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
    let mut answer = Vec::new();
    let read = std::thread::scope(|scope| {
        // The process may end before it has read everything.
        scope.spawn(move || drop(stdin.write_all(question)));
        stdout.take(MAX_ANSWER).read_to_end(&mut answer)
    });
    let status = child.wait().ok()?;
    read.ok().filter(|_| status.success())?;
    serde_json::from_slice(&answer).ok()
}

/// Returns the place and the sign of Python 2 in a source.
pub(super) fn python2(facts: &SourceFacts) -> Option<(usize, String)> {
    const MOVED: [&str; 16] = [
        "urlparse",
        "urllib2",
        "httplib",
        "StringIO",
        "cStringIO",
        "ConfigParser",
        "Queue",
        "cPickle",
        "cookielib",
        "HTMLParser",
        "commands",
        "xmlrpclib",
        "__builtin__",
        "exceptions",
        "SocketServer",
        "BaseHTTPServer",
    ];
    if let Some((line, message)) = &facts.error {
        return Some((*line, format!("Python 3 cannot read it ({message})")));
    }
    let moved = facts
        .imports
        .iter()
        .find(|import| !import.4 && import.0 == 0 && MOVED.contains(&import.1.split('.').next().unwrap_or_default()));
    moved
        .map(|import| (import.3, format!("imports {}, a module of Python 2", import.1)))
        .or_else(|| facts.python2.first().map(|(line, name)| (*line, format!("uses {name}, which is Python 2"))))
}
