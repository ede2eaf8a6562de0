//! Jobs of Rundeck.
//!
//! ```text
//!  *.xml ── xml ──┐             ┌─ options ─▶ schemas, environment variables RD_OPTION_<NAME>
//!  *.yaml, *.json ┴▶ job ───────┼─ steps ───▶ scripts; @option.name@ and ${option.name} become "${RD_OPTION_NAME}"
//!                               └─ rest ────▶ described in the report: node filters, schedules, notifications
//! ```
//!
//! All jobs below a directory are one pack. An action does on its instance what the job does on one node: its steps in
//! order, error handlers, `keepgoing`. References to jobs, plugins and scripts at an address are named, and not run.

mod context;
mod interpreter;
mod job;
mod leftover;
mod options;
mod powershell;
mod steps;
mod xml;

use packs_schema::base::name::{ActionName, PackVersion};
use packs_schema::pack::contents::MAX_YAML;
use serde_json::{Map, Value};

use super::converted::Converted;
use super::names::{self, ActionNames, pack_name, part, short};
use super::plan::{Plan, PlannedFile};
use super::report::{Effect, ImportFinding, LeftOut, Report};
use super::source::{SourceFile, SourceTree, is_licence, large_documents, licence_finding};
use super::{Format, ImportError, documents, steps as steps_of_action};

/// True for a name that a file with jobs may have.
pub(super) fn may_be_document(path: &str) -> bool {
    [".xml", ".yaml", ".yml", ".json"].iter().any(|end| path.ends_with(end))
}

/// True for a name that a script of a step may have.
pub(super) fn may_be_script(path: &str) -> bool {
    [".sh", ".bash", ".py", ".pl", ".rb"].iter().any(|end| path.ends_with(end))
}

/// True for a file that looks like jobs, without reading it as such.
pub(super) fn looks_like_document(file: &SourceFile) -> bool {
    let Some(text) = file.text().filter(|text| text.len() as u64 <= MAX_YAML) else { return false };
    let list = text.lines().any(|line| line.starts_with("- ") || line == "-") || text.trim_start().starts_with('[');
    text.contains("<joblist") || list && text.contains("sequence") && text.contains("commands")
}

/// Converts the jobs of a tree.
pub(super) fn convert(tree: &SourceTree) -> Result<Plan, ImportError> {
    let pack = pack_name(&tree.name)?;
    let version = PackVersion::new("0.1.0").expect("a semantic version");
    let kept = |(path, file): (&String, &SourceFile)| {
        (path.clone(), PlannedFile { bytes: file.bytes.clone(), executable: false })
    };
    let mut plan = Plan {
        pack: pack.clone(),
        files: tree.files.iter().filter(|(path, _)| is_licence(path)).map(kept).collect(),
        report: Report {
            format: Format::Rundeck,
            pack: pack.to_string(),
            version: version.to_string(),
            actions: Vec::new(),
            findings: licence_finding(tree).into_iter().collect(),
            left_out: tree.left_out.iter().cloned().chain(large_documents(tree, may_be_document)).collect(),
        },
    };
    let (mut registry, mut names) = (Map::new(), ActionNames::default());
    let candidates = tree.files.iter().filter(|(path, file)| may_be_document(path) && looks_like_document(file));
    for (path, _) in candidates {
        plan.report.findings.extend(documents::duplicate_keys(tree, path));
        match read(tree, path)? {
            Ok(jobs) => {
                let (jobs, others): (Vec<&Value>, Vec<&Value>) =
                    jobs.iter().partition(|job| job.get("sequence").is_some());
                if jobs.is_empty() || !others.is_empty() {
                    let why = match jobs.len() {
                        0 => "it has no job with steps (sequence)".to_owned(),
                        some => {
                            format!("{} of its {} jobs have no steps (sequence)", others.len(), others.len() + some)
                        }
                    };
                    plan.report.left_out.push(LeftOut { file: path.clone(), why });
                }
                for job in jobs {
                    let (name, twin) = action_name(path, job, &mut names)?;
                    let mut converted = job::convert(tree, path, &name, job);
                    converted.report.findings.extend(twin.map(|twin| names::renamed(path, &name, &twin)));
                    converted.add_to(&mut plan, &mut registry);
                }
            }
            Err(finding) => {
                let [extension, stem] = ends(path);
                let name = ActionName::new(short(&stem)).map_or_else(|_| "unreadable".to_owned(), String::from);
                let (name, _) = names.give(path, &name, &[extension]);
                Converted::not_runnable(&name, path, "", vec![finding]).add_to(&mut plan, &mut registry);
            }
        }
    }
    if !registry.is_empty() {
        plan.files.extend(steps_of_action::files(&registry));
    }
    let head = super::emit::pack_head(&pack, &version, "Jobs of Rundeck");
    plan.files.insert("pack.yaml".to_owned(), PlannedFile::text(head));
    Ok(plan)
}

/// Reads the jobs of a file, all in the shape that they have in YAML.
fn read(tree: &SourceTree, path: &str) -> Result<Result<Vec<Value>, ImportFinding>, ImportError> {
    let unreadable = |message: String, line: Option<usize>| {
        ImportFinding::new("unreadable", Effect::Blocks, path, format!("Bolt does not read it: {message}")).at(line)
    };
    if path.ends_with(".xml") {
        let text = tree.text(path).unwrap_or_default();
        return match xml::read(text) {
            Ok(root) => Ok(job::of_xml(&root).map_err(|problem| unreadable(problem, None))),
            Err(xml::XmlError::Limit(problem)) => Err(ImportError::refused(path, problem)),
            Err(xml::XmlError::Syntax(problem)) => Ok(Err(unreadable(problem, None))),
        };
    }
    Ok(match documents::read(tree, path)? {
        Ok(Value::Array(jobs)) => Ok(jobs),
        Ok(_) => Ok(Vec::new()),
        Err(error) => Err(unreadable(error.message, error.line)),
    })
}

/// Returns the name of a job's action: of its group and name, where the name alone is taken, and of the notation or name of its
/// file or a number, where that is taken as well, by an action of the file that is returned.
fn action_name(path: &str, job: &Value, names: &mut ActionNames) -> Result<(String, Option<String>), ImportError> {
    let text = |key: &str| job.get(key).and_then(Value::as_str).unwrap_or_default().trim();
    let mut name = short(&word(text("name")));
    // The error shows the name as the job has it.
    ActionName::new(name.as_str()).map_err(|error| {
        let source = ActionName::new(text("name")).err().unwrap_or(error);
        ImportError::Name { file: path.to_owned(), source }
    })?;
    if names.is_taken(&name) {
        let group = Some(part(&word(text("group")))).filter(|group| !group.is_empty());
        name = group.map_or(name.clone(), |group| short(&format!("{group}_{name}")));
    }
    Ok(names.give(path, &name, &ends(path)))
}

/// Returns the notation and the name of a file, as ends of names.
fn ends(path: &str) -> [String; 2] {
    let file = path.rsplit('/').next().unwrap_or(path);
    let (stem, extension) = file.rsplit_once('.').unwrap_or((file, ""));
    [extension, stem].map(|end| part(&word(end)))
}

/// Blanks and punctuation of titles become `_`; `$`, braces and paths that lead elsewhere do not, and are refused.
fn word(text: &str) -> String {
    let leads_elsewhere = text.starts_with('/') || text.contains("..");
    let blank = |c: char| title_character(c) || c == '/' && !leads_elsewhere;
    let mapped: String = text.chars().map(|c| if blank(c) { '_' } else { plain(c) }).collect();
    let parts: Vec<&str> = mapped.split('_').filter(|part| !part.is_empty()).collect();
    parts.join("_")
}

fn title_character(c: char) -> bool {
    c.is_whitespace() || ".,:;'\"()[]?!&+#’–—".contains(c) || !c.is_ascii() && !c.is_alphabetic()
}

/// Letters of other alphabets than ASCII lose their accents, or become `x`.
fn plain(c: char) -> char {
    match c {
        'à' | 'á' | 'â' | 'ä' | 'å' => 'a',
        'ç' => 'c',
        'è' | 'é' | 'ê' | 'ë' | 'É' => 'e',
        'î' | 'ï' | 'í' => 'i',
        'ñ' => 'n',
        'ô' | 'ö' | 'ó' => 'o',
        'ù' | 'û' | 'ü' | 'ú' => 'u',
        c if !c.is_ascii() => 'x',
        c => c,
    }
}
