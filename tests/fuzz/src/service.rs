//! The interface of an agent in this process, for the targets that send requests: an instance with one pack, whose caller may do
//! everything, and whose launcher never answers.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use bolt_agent::fuzz::Service;
use packs_schema::agent::config::Config;
use packs_schema::agent::store::{ACTIONS, CURRENT, META, PACK, StoredPack};
use packs_schema::base::name::Digest;
use packs_schema::pack::contents::{EntryKind, FileReader, PackEntry, read};

use crate::{certificates, scratch};

/// Principal of the caller.
pub(crate) const CALLER: &str = "spiffe://example/ann";

/// Starts it.
pub(crate) fn start() -> Service {
    let directory = scratch::keep_directory();
    let at = |name: &str| directory.join(name).display().to_string();
    let (issuer, authority) = certificates::authority();
    let (certificate, key) = certificates::caller(&issuer);
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    };
    write("server.pem", &certificate);
    write("server.key", &key);
    write("ca.pem", &authority.pem());
    let verbs = r#"["read", "run", "kill", "sync", "push", "metrics"]"#;
    write("grants.toml", &format!("[[grant]]\nprincipal = \"{CALLER}\"\nverbs = {verbs}\nactions = [\"*\"]\n"));
    DirBuilder::new().mode(0o700).create(directory.join("state")).expect("a directory");
    install(&directory.join("packs"));
    let text = format!(
        "[instance]\nid = \"i-1\"\n[api]\nlisten = \"127.0.0.1:0\"\n[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
         [paths]\nstate = {:?}\npacks = {:?}\nruntime = {:?}\ngrants = {:?}\n\
         [repository]\nurl = \"file:///nowhere\"\nroot = {:?}\nchannel = \"dev\"\n[execution]\nmax_running = 1\nmax_queued = 4\n",
        at("server.pem"),
        at("server.key"),
        at("ca.pem"),
        at("state"),
        at("packs"),
        at("run"),
        at("grants.toml"),
        at("root.json"),
    );
    Service::start(&Config::parse(&text).expect("a configuration"), CALLER)
}

const FILES: [(&str, &str); 3] = [
    ("pack.yaml", "name: linux\nversion: 1.0.0\ndescription: For tests\n"),
    (
        "actions/run.yaml",
        "name: run\ndescription: Runs\nrunner_type: local-shell-script\nentry_point: run.sh\nparameters:\n  n: {type: integer, \
         minimum: 1, maximum: 5}\n  name: {type: string, pattern: '^[a-z]+$', required: true}\n  token: {type: string, secret: true}\n  \
         list: {type: array, items: {type: string}}\nbolt: {class: diagnostic, noop: true}\n",
    ),
    ("actions/run.sh", "#!/bin/sh\n"),
];

struct Texts;

impl FileReader for Texts {
    fn text(&mut self, path: &str) -> Result<String, String> {
        let found = FILES.iter().find(|(known, _)| *known == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| "no such file".to_owned())
    }
}

/// Writes the store as the sync does, as far as the api reads it.
fn install(packs: &Path) {
    let entry = |(path, text): &(&str, &str)| PackEntry {
        path: (*path).to_owned(),
        kind: EntryKind::File,
        size: text.len() as u64,
        executable: true,
        head: text.as_bytes().to_vec(),
    };
    let entries: Vec<PackEntry> = FILES.iter().map(entry).collect();
    let (_, (checked, findings)) = read(&entries, &mut Texts);
    let checked = checked.unwrap_or_else(|| panic!("{findings:?}"));
    let version = "1.0.0-aaaaaaaaaaaa";
    let meta = packs.join("linux").join(version).join(META);
    fs::create_dir_all(meta.join(ACTIONS)).expect("a directory");
    let digest = Digest::new("a".repeat(64)).expect("a digest");
    let stored = StoredPack { format: 1, digest, pack: checked.pack, dev: None };
    fs::write(meta.join(PACK), serde_json::to_vec(&stored).expect("a record serialises")).expect("a file");
    for action in checked.actions {
        let path = meta.join(ACTIONS).join(format!("{}.json", action.name));
        fs::write(path, serde_json::to_vec(&action).expect("an action serialises")).expect("a file");
    }
    symlink(version, packs.join("linux").join(CURRENT)).expect("a link");
}
