//! `bolt pack import`: packs, tasks and documents of other systems become ordinary Bolt packs.
//!
//! ```text
//!  directory ──source──▶ SourceTree ──┐
//!                         │           ├─ <format>::convert ──▶ Plan: files and report ──plan::check──▶ write
//!                         └─ facts ───┘   (pure)                                          (temporary directory, rename)
//! ```
//!
//! Each format is a module beside `stackstorm` with one pure function from a source tree to a `plan::Plan`;
//! [`Format`] lists them. Reading is bounded (`source`), writing is one rename (`write`): after an error nothing was
//! written. A plan is checked by the code that agents use, and actions that it refuses are reported as not runnable, so
//! that every imported pack builds. Nothing of a source is executed.

mod any_command;
mod clients;
mod code_lines;
mod converted;
mod documents;
mod emit;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod lines;
mod names;
mod plan;
mod processes;
mod program;
mod puppet;
mod python_facts;
mod report;
mod rundeck;
mod schema;
mod scripted;
mod secrets;
mod shell;
mod source;
mod ssm;
mod stackstorm;
mod steps;
mod subtree;
mod wheels;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use packs_schema::base::name::{NameError, PackName};

pub use format::Format;
pub use report::{ActionReport, Effect, ImportFinding, LeftOut, Report, Totals, Verdict};
pub use wheels::Wheels;

use super::PackError;

/// Error returned when a source could not be imported. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or directory cannot be read or written.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The directory holds nothing that can be imported.
    #[error(
        "{} is not a source that can be imported: expected a StackStorm pack, a directory with pack.yaml and actions/, a Puppet \
         module, a directory with metadata.json and tasks/, documents of Systems Manager, or jobs of Rundeck",
        crate::show::path(.0)
    )]
    UnknownFormat(PathBuf),
    /// No pack was found below the directory.
    #[error(
        "there is no source below {}: expected directories with pack.yaml and actions/, or with metadata.json and tasks/, or documents \
         of Systems Manager, or jobs of Rundeck{}",
        crate::show::path(root),
        too_large(skipped)
    )]
    NothingFound {
        /// The directory.
        root: PathBuf,
        /// Files that are too large to be documents, or not UTF-8.
        skipped: Vec<LeftOut>,
    },
    /// The collection is a document.
    #[error("{} is no directory; leave --all out to import one document", crate::show::path(.0))]
    NotACollection(PathBuf),
    /// The directory in which the pack is to be made does not exist.
    #[error(
        "cannot make {}: there is no directory {}; make it first, or choose another place for the pack",
        crate::show::path(to),
        crate::show::path(parent)
    )]
    NoParent {
        /// The pack's directory.
        to: PathBuf,
        /// The directory that is missing.
        parent: PathBuf,
    },
    /// A wheel cannot be used.
    #[error("{} cannot be used: {problem}", crate::show::path(path))]
    Wheel {
        /// The wheel.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// The source is of a format without Python requirements.
    #[error("{} is no pack of StackStorm, and only those have requirements to be met by wheels; leave --wheels out", crate::show::path(.0))]
    NoRequirements(PathBuf),
    /// The source exceeds a limit.
    #[error("{} of the source is refused: {}", crate::show::visible(file), crate::show::visible(problem))]
    Refused {
        /// The file, relative to the source.
        file: String,
        /// The limit.
        problem: String,
    },
    /// A name of the source cannot be a name of Bolt.
    #[error("{} of the source has a name that cannot be used", crate::show::visible(file))]
    Name {
        /// The file, relative to the source.
        file: String,
        /// The rule that it breaks.
        #[source]
        source: NameError,
    },
    /// No action of the pack can run.
    #[error("no action of {pack} can run, so nothing is written:\n{}", report.reasons())]
    NothingRuns {
        /// The pack.
        pack: String,
        /// The reasons.
        report: Box<Report>,
    },
}

fn too_large(skipped: &[LeftOut]) -> String {
    match skipped {
        [] => String::new(),
        [first, rest @ ..] => {
            let others = if rest.is_empty() { String::new() } else { format!(", and {} other files", rest.len()) };
            crate::show::visible(&format!("; not looked at: {} ({}){others}", first.file, first.why))
        }
    }
}

impl ImportError {
    fn refused(file: impl Into<String>, problem: impl Into<String>) -> ImportError {
        let shorten = |text: String| packs_schema::base::strict::shorten(&text, 300);
        ImportError::Refused { file: shorten(file.into()), problem: shorten(problem.into()) }
    }
}

/// Imports a source, a directory or a document, as the pack directory `to`, which must not exist.
pub fn import(source: &Path, to: &Path) -> Result<Report, ImportError> {
    import_with(source, to, None)
}

/// Imports a source as [`import`] does, with wheels for what its requirements take from addresses.
pub fn import_with(source: &Path, to: &Path, wheels: Option<&Wheels>) -> Result<Report, ImportError> {
    if to.symlink_metadata().is_ok() {
        return Err(PackError::Exists(to.to_owned()).into());
    }
    let parent = write::parent(to);
    if !parent.is_dir() {
        return Err(ImportError::NoParent { to: to.to_owned(), parent: parent.to_owned() });
    }
    let source = source.canonicalize().map_err(PackError::file("read", source))?;
    let format = Format::detect(&source)?.ok_or_else(|| ImportError::UnknownFormat(source.clone()))?;
    let root = if source.is_dir() { source.as_path() } else { source.parent().unwrap_or(&source) };
    if wheels.is_some() && format != Format::StackStorm {
        return Err(ImportError::NoRequirements(source));
    }
    let mut plan = plan(&source, root, format, wheels)?;
    plan.report.left_out.extend(format.documents_of_others(&source));
    write::write(&plan, to)?;
    Ok(plan.report)
}

/// Result of [`import_all`] for one source.
#[derive(Debug)]
pub struct ImportedSource {
    /// The source, relative to the directory that was searched.
    pub directory: PathBuf,
    /// Its report, or why nothing of it was imported.
    pub outcome: Result<Report, ImportError>,
}

/// Result of [`import_all`].
#[derive(Debug)]
pub struct ImportedAll {
    /// The sources, sorted.
    pub sources: Vec<ImportedSource>,
    /// Files that may be documents by their names, and are too large for one or not UTF-8.
    pub skipped: Vec<LeftOut>,
}

/// Imports every source below `root`, each into a directory of `to` that is called like the pack; wheels as with
/// [`import_with`].
pub fn import_all(root: &Path, to: &Path, wheels: Option<&Wheels>) -> Result<ImportedAll, ImportError> {
    if root.is_file() {
        return Err(ImportError::NotACollection(root.to_owned()));
    }
    let subtree::Found { sources: found, skipped } = subtree::find(root)?;
    if found.is_empty() {
        return Err(ImportError::NothingFound { root: root.to_owned(), skipped });
    }
    let made = write::make_directory(to)?;
    let mut written: BTreeMap<PackName, PathBuf> = BTreeMap::new();
    let import = |(directory, format): (PathBuf, Format)| {
        let outcome = plan(&root.join(&directory), root, format, wheels).and_then(|plan| {
            let target = to.join(plan.pack.as_str());
            if let Some(first) = written.get(&plan.pack) {
                let (pack, shown) = (plan.pack, name_of(&directory).display().to_string());
                let problem = match *first == directory {
                    true => {
                        format!("it has documents of two systems, which would both be the pack {pack}; move one kind to another directory")
                    }
                    false => format!("it and {} would both be the pack {pack}; rename one of them", name_of(first).display()),
                };
                return Err(ImportError::refused(shown, problem));
            }
            if target.symlink_metadata().is_ok() {
                return Err(PackError::Exists(target).into());
            }
            write::write(&plan, &target)?;
            written.insert(plan.pack, directory.clone());
            Ok(plan.report)
        });
        ImportedSource { directory: name_of(&directory).to_owned(), outcome }
    };
    let sources: Vec<ImportedSource> = found.into_iter().map(import).collect();
    if written.is_empty() {
        write::remove_empty(&made);
    }
    Ok(ImportedAll { sources, skipped })
}

/// Returns the name of a source that is told: the directory that was searched may be one itself.
fn name_of(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

/// Reads and converts one source; a licence may lie above it, up to `root`.
fn plan(directory: &Path, root: &Path, format: Format, wheels: Option<&Wheels>) -> Result<plan::Plan, ImportError> {
    let mut tree = source::read(directory, format)?;
    source::add_licence(&mut tree, directory, root)?;
    format.add_neighbours(&mut tree, directory)?;
    let plan = plan::check(format.convert(&tree, wheels)?)?;
    match plan.report.actions.iter().any(|action| action.verdict() != Verdict::CannotRun) {
        true => Ok(plan),
        false => Err(ImportError::NothingRuns { pack: plan.pack.to_string(), report: Box::new(plan.report) }),
    }
}

#[cfg(test)]
mod tests;
