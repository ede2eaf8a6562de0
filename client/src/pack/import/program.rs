//! Scripts of a source made programs that the kernel runs.

use packs_schema::pack::contents::check_path;

use super::plan::PlannedFile;
use super::python_facts::{Facts, python2};
use super::report::Effect;
use super::schema::Sink;
use super::source::SourceFile;

/// Returns the script as it is written: executable, with a shebang that the kernel understands; `None` after a blocking
/// finding at `place`.
pub(super) fn prepare(
    path: &str,
    file: &SourceFile,
    facts: &Facts,
    place: &[&str],
    sink: &mut Sink<'_>,
) -> Option<PlannedFile> {
    let Some(text) = file.text() else {
        if file.bytes.starts_with(b"\x7fELF") {
            return Some(PlannedFile { bytes: file.bytes.clone(), executable: true });
        }
        sink.add("not_text", Effect::Blocks, place, format!("{path} is neither text nor a program of Linux"));
        return None;
    };
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let python = first.starts_with("#!") && first.contains("python") || path.ends_with(".py");
    if python && !runs_under_python3(path, facts, place, sink) {
        return None;
    }
    let shebang = match first.strip_prefix("#!").map(str::trim) {
        Some(given) if given.contains("powershell") || given.contains("pwsh") => {
            sink.add("powershell", Effect::Blocks, place, format!("{path} is a PowerShell script"));
            return None;
        }
        // `python` may be missing, or be Python 2.
        Some(given) if python && !given.contains("python3") => "#!/usr/bin/env python3".to_owned(),
        Some(given) => format!("#!{given}"),
        None => {
            let shebang = shebang_for(path);
            let message = format!("{path} has no shebang; {shebang} was added");
            sink.add("shebang", Effect::Note, place, message);
            let bytes = format!("{shebang}\n{}", text.replace("\r\n", "\n")).into_bytes();
            return Some(PlannedFile { bytes, executable: true });
        }
    };
    if shebang != first.trim_end() {
        sink.add("shebang", Effect::Note, place, format!("the shebang of {path} is {shebang} now"));
    }
    if text.contains("\r\n") {
        sink.add("line_ends", Effect::Note, place, format!("{path} has LF line ends now"));
    }
    let bytes = format!("{shebang}\n{}", rest.replace("\r\n", "\n")).into_bytes();
    Some(PlannedFile { bytes, executable: true })
}

/// True if a file of a pack may have this path; a blocking finding at `place` otherwise.
pub(super) fn has_plain_path(path: &str, place: &[&str], sink: &mut Sink<'_>) -> bool {
    let Err(error) = check_path(path) else { return true };
    sink.add("file_name", Effect::Blocks, place, format!("{error}; rename it in the source"));
    false
}

fn shebang_for(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("py") => "#!/usr/bin/env python3",
        Some("rb") => "#!/usr/bin/env ruby",
        Some("pl") => "#!/usr/bin/env perl",
        // StackStorm starts scripts from bash, which runs a file without a shebang itself.
        _ => "#!/bin/bash",
    }
}

fn runs_under_python3(path: &str, facts: &Facts, place: &[&str], sink: &mut Sink<'_>) -> bool {
    let Some(facts) = facts.0.as_ref().and_then(|facts| facts.get(path)) else { return true };
    match python2(facts) {
        Some((line, problem)) => {
            let message = format!("{path}:{line}: {problem}; port the script to Python 3");
            sink.add("python2", Effect::Blocks, place, message);
            false
        }
        None => true,
    }
}
