//! Checks that the files of a pack fit together: names match and entry points exist.

use std::collections::BTreeMap;

use crate::base::finding::{Finding, is_runnable};
use crate::base::name::ParamName;
use crate::base::strict::shorten;
use crate::pack::action::Action;
use crate::pack::param::Parameters;

use super::{
    ACTIONS_DIRECTORY, CONFIG_SCHEMA_FILE, CheckOutcome, CheckedPack, Contents, EntryKind, MAX_ACTIONS, PACK_FILE,
    PackEntry,
};

/// Byte order mark of UTF-8, which editors of other systems write.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Checks the parsed files of a pack against each other and against the listing of its files.
pub fn check(contents: &Contents, files: &[PackEntry]) -> CheckOutcome {
    let (pack, mut found) = contents.pack.check(PACK_FILE);
    let Some(pack) = pack else { return (None, found) };
    if contents.actions.len() > MAX_ACTIONS {
        let message = format!("a pack has at most {MAX_ACTIONS} actions; split it");
        found.push(Finding::error("too_many_actions", ACTIONS_DIRECTORY, message));
    }
    let by_path: BTreeMap<&str, &PackEntry> = files.iter().map(|f| (f.path.as_str(), f)).collect();
    let mut actions: BTreeMap<String, Action> = BTreeMap::new();
    for (path, file) in &contents.actions {
        let (action, more) = file.check(&pack.name, path);
        found.extend(more);
        let Some(action) = action else { continue };
        check_file_name(path, &action, &mut found);
        check_entry_point(path, &action, &by_path, &mut found);
        let name = action.name.to_string();
        if actions.insert(name.clone(), action).is_some() {
            found.push(Finding::error(
                "duplicate_action",
                format!("{path}: name"),
                format!("another file also defines {name}; rename one"),
            ));
        }
    }
    let config = config(contents, &mut found);
    if !is_runnable(&found) {
        return (None, found);
    }
    let requirements = contents.requirements.clone();
    (Some(CheckedPack { pack, actions: actions.into_values().collect(), config, requirements }), found)
}

fn check_file_name(path: &str, action: &Action, found: &mut Vec<Finding>) {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.strip_suffix(".yaml").or_else(|| file.strip_suffix(".yml")).unwrap_or(file);
    if stem != action.name.as_str() {
        let message = format!("the action is called {}, so its file must be {}.yaml", action.name, action.name);
        found.push(Finding::error("file_name", path, message));
    }
}

fn check_entry_point(path: &str, action: &Action, files: &BTreeMap<&str, &PackEntry>, found: &mut Vec<Finding>) {
    let place = format!("{path}: entry_point");
    let script = format!("{ACTIONS_DIRECTORY}/{}", action.entry_point.as_str());
    let mut stop = |code, message| found.push(Finding::error(code, place.clone(), message));
    let Some(file) = files.get(script.as_str()) else {
        return stop("entry_point_missing", format!("{script} is not in the pack"));
    };
    if file.kind != EntryKind::File {
        return stop("entry_point_not_a_file", format!("{script} is not a regular file"));
    }
    if !file.executable {
        stop("entry_point_not_executable", format!("{script} is not executable; run chmod +x on it"));
    }
    let first_line = file.head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if file.head.starts_with(BOM) {
        let message = format!(
            "{script} starts with a byte order mark, which hides #! from the kernel; save it as UTF-8 without one"
        );
        stop("entry_point_bom", message);
    } else if file.head.starts_with(b"#!") && first_line.ends_with(b"\r") {
        let interpreter = String::from_utf8_lossy(&first_line[2..]).trim().to_owned();
        let message = format!(
            "the first line of {script} ends in CRLF, so that the interpreter would be looked for as \"{}\\r\"; save it with LF \
             line ends (dos2unix)",
            shorten(&interpreter, 80)
        );
        stop("entry_point_crlf", message);
    } else if !file.head.starts_with(b"#!") {
        let message = format!("{script} has no shebang; start its first line with the interpreter, such as #!/bin/sh");
        stop("entry_point_no_shebang", message);
    }
}

/// Returns the schema of the site configuration.
fn config(contents: &Contents, found: &mut Vec<Finding>) -> Parameters {
    let mut config = Parameters::new();
    for (name, schema) in &contents.config {
        let place = format!("{CONFIG_SCHEMA_FILE}: {name}");
        found.extend(schema.findings(&place));
        match ParamName::new(name) {
            Ok(name) => drop(config.insert(name, schema.clone())),
            Err(e) => found.push(Finding::error("bad_config_name", place, e.to_string())),
        }
    }
    config
}
