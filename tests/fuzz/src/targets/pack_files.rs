//! Files of a pack: `pack.yaml`, one action, `config.schema.yaml`, `requirements.txt`. A pack without errors is complete, and its
//! definitions are the same after they were stored for the launcher.

use std::collections::BTreeMap;

use packs_schema::base::finding::is_runnable;
use packs_schema::pack::action::Action;
use packs_schema::pack::contents::{EntryKind, FileReader, HEAD_BYTES, PackEntry, lint, read};

use crate::{join, parts, repository};

struct Files(BTreeMap<String, String>);

impl FileReader for Files {
    fn text(&mut self, path: &str) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }
}

pub(super) fn run(data: &[u8]) {
    let [pack, action, schema, requirements, script] = parts(data);
    let named = [
        ("pack.yaml", pack),
        ("actions/a.yaml", action),
        ("config.schema.yaml", schema),
        ("requirements.txt", requirements),
        ("actions/a.sh", script),
    ];
    let given = named.iter().filter(|(_, bytes)| !bytes.is_empty());
    let mut files = Files(
        given.filter_map(|(path, bytes)| Some(((*path).to_owned(), String::from_utf8(bytes.to_vec()).ok()?))).collect(),
    );
    let entries: Vec<PackEntry> = files
        .0
        .iter()
        .map(|(path, text)| PackEntry {
            path: path.clone(),
            kind: EntryKind::File,
            size: text.len() as u64,
            executable: true,
            head: text.bytes().take(HEAD_BYTES).collect(),
        })
        .collect();
    let (contents, (checked, findings)) = read(&entries, &mut files);
    assert_eq!(checked.is_some(), is_runnable(&findings), "{findings:?}");
    for finding in &findings {
        assert!(finding.message.len() <= 8192, "a finding of {} bytes", finding.message.len());
    }
    if let (Some(contents), Some(checked)) = (&contents, &checked) {
        lint(contents, checked, &mut |path| files.0.get(path).cloned());
    }
    for action in checked.iter().flat_map(|pack| &pack.actions) {
        let stored = serde_json::to_vec(action).expect("an action serialises");
        assert_eq!(serde_json::from_slice::<Action>(&stored).expect("it reads back"), *action);
        assert!(action.entry_point.components().all(|part| !matches!(part, "" | "." | "..")));
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let read = |path: &str| repository::read(&format!("packs-schema/examples/{path}"));
    let mut seeds = Vec::new();
    for pack in ["linux", "cassandra", "bolt_engine"] {
        let at = format!("packs-schema/examples/{pack}/actions");
        let actions = repository::below(&at, &[".yaml"]);
        let scripts = repository::below(&at, &[".sh", ".py"]);
        for (action, script) in actions.iter().zip(scripts.iter().cycle()) {
            let action = String::from_utf8_lossy(action).to_string();
            let entry = action.lines().map(|line| if line.starts_with("entry_point:") { "entry_point: a.sh" } else { line });
            let action = entry.map(|line| format!("{line}\n")).collect::<String>();
            let schema = read(&format!("{pack}/config.schema.yaml"));
            let script = &script[..script.len().min(1500)];
            seeds.push(join(&[&read(&format!("{pack}/pack.yaml")), action.as_bytes(), &schema, b"six==1.16.0\n", script]));
        }
    }
    seeds.retain(|seed| seed.len() <= 8192);
    seeds
}
