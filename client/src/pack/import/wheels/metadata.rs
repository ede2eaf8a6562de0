//! Name, version and requirements of a wheel, from its bytes: file name, zip archive and `METADATA` must agree. Nothing of
//! it is unpacked to a disk or run.

use packs_schema::base::strict::shorten;

use super::dependency::{Dependency, is_name, normalized};
use super::version::{Version, meets};
use super::zip::{self, ZipError};

/// Maximum size of `METADATA`, which contains the description of the project, in bytes.
const MAX_METADATA: u64 = 1 << 20;
/// Maximum number of requirements of a wheel.
const MAX_REQUIRED: usize = 2000;

/// Error returned for a file that is no wheel, or one that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::pack::import) enum WheelError {
    #[error("a wheel is called NAME-VERSION-PYTHON-ABI-PLATFORM.whl")]
    FileName,
    #[error(transparent)]
    Zip(#[from] ZipError),
    #[error("it must have one directory {0:?} with METADATA at its top, and no other .dist-info")]
    DistInfo(String),
    #[error("its METADATA cannot be read: {0}")]
    Metadata(String),
    #[error("its METADATA says {field} {inside:?}, and its file name {outside:?}")]
    Differs { field: &'static str, inside: String, outside: String },
    #[error("it is for Python 2 ({0}); build it with Python 3")]
    Python2(String),
}

/// Parts of a wheel's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pack::import) struct FileName {
    /// Normalised name of the distribution.
    pub(in crate::pack::import) name: String,
    /// Version.
    pub(in crate::pack::import) version: String,
    /// Name and version as its directory has them.
    directory: String,
    /// Pythons, ABIs and platforms that it is for: `py2.py3-none-any`.
    pub(in crate::pack::import) tags: String,
}

impl FileName {
    /// Parses the name of a file.
    pub(in crate::pack::import) fn parse(file: &str) -> Result<FileName, WheelError> {
        let stem = file.strip_suffix(".whl").ok_or(WheelError::FileName)?;
        let parts: Vec<&str> = stem.split('-').collect();
        let ([name, version, _, _, _] | [name, version, _, _, _, _]) = parts[..] else {
            return Err(WheelError::FileName);
        };
        let build = if parts.len() == 6 { parts[2] } else { "0" };
        let tag =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b));
        let tags = parts[parts.len() - 3..].iter().all(tag);
        if !is_name(name)
            || Version::parse(version).is_none()
            || !tags
            || !build.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(WheelError::FileName);
        }
        Ok(FileName {
            name: normalized(name),
            version: version.replace('_', "-"),
            directory: format!("{name}-{version}"),
            tags: parts[parts.len() - 3..].join("-"),
        })
    }

    /// True if some Python 3 may install it.
    pub(in crate::pack::import) fn is_for_python3(&self) -> bool {
        let three = |tag: &str| tag.trim_start_matches(|c: char| c.is_ascii_alphabetic()).starts_with('3');
        self.tags.split('-').next().unwrap_or_default().split('.').any(three)
    }
}

/// Facts about a wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pack::import) struct Metadata {
    /// Name, as the wheel writes it.
    pub(in crate::pack::import) name: String,
    /// Version.
    pub(in crate::pack::import) version: String,
    /// Distributions that it needs.
    pub(in crate::pack::import) requires: Vec<Dependency>,
}

/// Reads the wheel `file` from its bytes.
pub(in crate::pack::import) fn read(file: &str, bytes: &[u8]) -> Result<Metadata, WheelError> {
    let outside = FileName::parse(file)?;
    if !outside.is_for_python3() {
        return Err(WheelError::Python2(outside.tags));
    }
    let archive = zip::open(bytes)?;
    let top =
        |name: &str| name.split_once('/').map(|(top, _)| top.to_owned()).filter(|top| top.ends_with(".dist-info"));
    let mut tops: Vec<String> = archive.entries.iter().filter_map(|entry| top(&entry.name)).collect();
    tops.sort_unstable();
    tops.dedup();
    let expected = format!("{}.dist-info", outside.directory);
    let [directory] = &tops[..] else { return Err(WheelError::DistInfo(expected)) };
    let entry = archive.entries.iter().find(|entry| entry.name == format!("{directory}/METADATA"));
    let (Some(entry), true) = (entry, same(directory, &expected)) else { return Err(WheelError::DistInfo(expected)) };
    let text = String::from_utf8(archive.read(entry, MAX_METADATA)?);
    let found = parse(&text.map_err(|_| WheelError::Metadata("it is not UTF-8".to_owned()))?)?;
    if normalized(&found.name) != outside.name {
        return Err(WheelError::Differs { field: "Name", inside: found.name, outside: outside.name });
    }
    if !found.version.eq_ignore_ascii_case(&outside.version) {
        return Err(WheelError::Differs { field: "Version", inside: found.version, outside: outside.version });
    }
    Ok(found)
}

/// True for names of a directory that differ in case and in how `-`, `_` and `.` are written.
fn same(a: &str, b: &str) -> bool {
    normalized(a) == normalized(b)
}

/// Reads the headers of `METADATA`.
fn parse(text: &str) -> Result<Metadata, WheelError> {
    let refused = |problem: String| WheelError::Metadata(shorten(&problem, 200));
    let (mut name, mut version, mut python, mut requires) = (None, None, None, Vec::new());
    for header in headers(text).map_err(refused)? {
        let (key, value) = header;
        let once = |known: &mut Option<String>| match known.replace(value.clone()) {
            None => Ok(()),
            Some(_) => Err(refused(format!("it has {key} twice"))),
        };
        match key.to_ascii_lowercase().as_str() {
            "name" => once(&mut name)?,
            "version" => once(&mut version)?,
            "requires-python" => once(&mut python)?,
            "requires-dist" => {
                let one = Dependency::parse(&value);
                requires.push(one.ok_or_else(|| refused(format!("{value:?} is no requirement")))?);
            }
            _ => {}
        }
    }
    if requires.len() > MAX_REQUIRED {
        return Err(refused(format!("it has more than {MAX_REQUIRED} requirements")));
    }
    let name =
        name.filter(|name| is_name(name)).ok_or_else(|| refused("it has no Name, or an invalid one".to_owned()))?;
    let good = |version: &String| Version::parse(version).is_some();
    let version = version.filter(good).ok_or_else(|| refused("it has no Version, or an invalid one".to_owned()))?;
    let conditions = python.unwrap_or_default();
    // A release of Python 3 that is far away meets what has no upper bound.
    if !(0..=30).chain([999]).any(|minor| meets(&format!("3.{minor}.0"), &conditions)) {
        return Err(WheelError::Python2(shorten(&conditions, 100)));
    }
    Ok(Metadata { name, version, requires })
}

/// Returns keys and values up to the first empty line; continued values in one line.
fn headers(text: &str) -> Result<Vec<(&str, String)>, String> {
    let mut headers: Vec<(&str, String)> = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            break;
        }
        // Python ends lines at more characters than these.
        if line.contains(|c: char| (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}')) {
            return Err(format!("line {} has a control character", index + 1));
        }
        if line.starts_with([' ', '\t']) {
            let (_, value) = headers.last_mut().ok_or("it begins with a blank")?;
            *value = format!("{value} {}", line.trim());
            continue;
        }
        let (key, value) = line.split_once(':').ok_or_else(|| format!("line {} is no header", index + 1))?;
        headers.push((key, value.trim().to_owned()));
    }
    Ok(headers)
}
