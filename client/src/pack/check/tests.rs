use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use packs_schema::agent::store::{
    ACTIONS, FORMAT, MANIFEST, META, Manifest, ManifestFile, PACK, StoredPack, version_directory,
};
use packs_schema::pack::Pack;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::pack::{Template, lint, scaffold};

/// A store with one active version of the pack `demo`, as the sync leaves it.
struct Bench {
    temp: tempfile::TempDir,
    version: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let source = temp.path().join("demo");
        let name = PackName::new("demo").unwrap();
        scaffold(&name, Template::Script, &source).unwrap();
        let checked = lint(&source).unwrap().checked.unwrap();
        let pack: Pack = checked.pack.clone();
        let built = crate::pack::build(&source).unwrap();
        let directory = version_directory(&pack.version, &built.digest);
        let home = temp.path().join("packs/demo");
        let version = home.join(&directory);
        fs::create_dir_all(version.join(META).join(ACTIONS)).unwrap();
        crate::pack::extract::extract(&built.archive, &version).unwrap();
        let mut files = Vec::new();
        for path in walk(&version) {
            let bytes = fs::read(version.join(&path)).unwrap();
            let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            let executable = fs::metadata(version.join(&path)).unwrap().mode() & 0o100 != 0;
            let sha256 = packs_schema::base::name::Digest::new(sha256).unwrap();
            files.push(ManifestFile { path, sha256, size_bytes: bytes.len() as u64, executable });
        }
        let put = |path: PathBuf, bytes: Vec<u8>| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        };
        let meta = version.join(META);
        let stored = StoredPack { format: FORMAT, digest: built.digest, pack, dev: None };
        put(meta.join(PACK), serde_json::to_vec(&stored).unwrap());
        put(meta.join(MANIFEST), serde_json::to_vec(&Manifest { format: FORMAT, files }).unwrap());
        for action in &checked.actions {
            put(meta.join(ACTIONS).join(format!("{}.json", action.name)), serde_json::to_vec(action).unwrap());
        }
        for directory in [temp.path().join("packs"), home.clone(), version.clone(), meta.clone(), meta.join(ACTIONS)] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(directory, home.join(CURRENT)).unwrap();
        Bench { temp, version }
    }

    fn packs(&self) -> PathBuf {
        self.temp.path().join("packs")
    }

    fn home(&self) -> PathBuf {
        self.packs().join("demo")
    }

    fn script(&self) -> PathBuf {
        let of = |path: &String| path.starts_with("actions/") && !path.ends_with(".yaml");
        self.version.join(walk(&self.version).into_iter().find(of).unwrap())
    }

    fn edit(&self, path: &Path, edit: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        edit(&mut value);
        fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
    }

    fn problems(&self) -> Vec<StoreProblem> {
        check(&self.packs(), None).unwrap().problems
    }
}

/// The files below `root` but for Bolt's own, sorted.
fn walk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut places = vec![root.to_owned()];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path != root.join(META) {
                places.push(path);
            } else if path.is_file() {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_store_as_it_was_made_has_no_problem() {
    let bench = Bench::new();
    let report = check(&bench.packs(), None).unwrap();
    assert_eq!(report.problems, []);
    let [version] = &report.versions[..] else { panic!("{report:?}") };
    assert!(version.active && !version.dev && version.files >= 3 && !report.held_against_signed, "{report:?}");
    assert!(check(&bench.packs(), Some(&PackName::new("other").unwrap())).is_err());
    assert!(check(&bench.temp.path().join("none"), None).is_err());
}

/// Changes to a store.
type Tamper = fn(&Bench);

/// `(what is done, the end of the file's path that is named, words of the problem)`
const TAMPERINGS: &[(Tamper, &str, &str)] = &[
    (
        |b| {
            let mut bytes = fs::read(b.script()).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(b.script(), bytes).unwrap();
        },
        "",
        "does not have the content",
    ),
    (
        |b| {
            let mut bytes = fs::read(b.script()).unwrap();
            bytes.push(b'\n');
            fs::write(b.script(), bytes).unwrap();
        },
        "",
        "bytes that the manifest says",
    ),
    (|b| fs::set_permissions(b.script(), fs::Permissions::from_mode(0o777)).unwrap(), "", "has mode 0777"),
    (|b| fs::set_permissions(b.script(), fs::Permissions::from_mode(0o4755)).unwrap(), "", "has mode 4755"),
    (|b| fs::set_permissions(b.script(), fs::Permissions::from_mode(0o644)).unwrap(), "", "should have 0755"),
    (
        |b| fs::set_permissions(b.version.join("actions"), fs::Permissions::from_mode(0o775)).unwrap(),
        "actions",
        "has mode 0775",
    ),
    (|b| fs::set_permissions(b.packs(), fs::Permissions::from_mode(0o777)).unwrap(), "packs", "has mode 0777"),
    (|b| fs::write(b.version.join("actions/extra.sh"), "").unwrap(), "actions/extra.sh", "not in the manifest"),
    (|b| fs::write(b.version.join(META).join("extra"), "").unwrap(), ".bolt/extra", "does not belong there"),
    (|b| fs::write(b.home().join("extra"), "").unwrap(), "demo/extra", "does not belong there"),
    (|b| fs::write(b.packs().join("Extra"), "").unwrap(), "packs/Extra", "not a pack"),
    (|b| fs::remove_file(b.script()).unwrap(), "", "is missing"),
    (|b| fs::remove_file(b.version.join("pack.yaml")).unwrap(), "pack.yaml", "is missing"),
    (|b| fs::remove_file(b.version.join(META).join(MANIFEST)).unwrap(), "manifest.json", "is missing"),
    (|b| fs::remove_dir_all(b.version.join(META)).unwrap(), "pack.json", "is missing"),
    (
        |b| {
            let aside = b.temp.path().join("aside");
            fs::rename(b.script(), &aside).unwrap();
            symlink(aside, b.script_was()).unwrap();
        },
        "",
        "is a link, and should be a file",
    ),
    (
        |b| {
            let aside = b.temp.path().join("aside");
            fs::rename(b.version.join("actions"), &aside).unwrap();
            symlink(aside, b.version.join("actions")).unwrap();
        },
        "actions",
        "is a link that is not in the manifest",
    ),
    (|b| fs::hard_link(b.script(), b.temp.path().join("name")).unwrap(), "", "another name"),
    (
        |b| {
            fs::remove_file(b.home().join(CURRENT)).unwrap();
            symlink(b.temp.path().join("demo"), b.home().join(CURRENT)).unwrap();
        },
        "demo/current",
        "no version beside it",
    ),
    (
        |b| {
            fs::remove_file(b.home().join(CURRENT)).unwrap();
            symlink("9.9.9-0123456789ab", b.home().join(CURRENT)).unwrap();
        },
        "demo/current",
        "no version beside it",
    ),
    (
        |b| {
            // Points to a version that is there and that the sync did not leave active.
            fs::create_dir(b.packs().join(".tuf")).unwrap();
            let seen = serde_json::json!({"active": {"demo": b.home().join("1.2.3-0123456789ab")}});
            fs::write(b.packs().join(".tuf/seen.json"), seen.to_string()).unwrap();
        },
        "demo/current",
        "the sync left 1.2.3-0123456789ab active",
    ),
    (
        |b| b.edit(&b.version.join(META).join(MANIFEST), |v| v["files"][0]["sha256"] = "a".repeat(64).into()),
        "",
        "does not have the content",
    ),
    (
        |b| b.edit(&b.version.join(META).join(MANIFEST), |v| drop(v["files"].as_array_mut().unwrap().pop())),
        "",
        "not in the manifest",
    ),
    (
        |b| b.edit(&b.version.join(META).join(MANIFEST), |v| v["files"][0]["path"] = "../../x".into()),
        "manifest.json",
        "which no manifest of the sync's does",
    ),
    (|b| fs::write(b.version.join(META).join(MANIFEST), "{").unwrap(), "manifest.json", "cannot be read"),
    (
        |b| b.edit(&b.version.join(META).join(PACK), |v| v["digest"] = "a".repeat(64).into()),
        "pack.json",
        "says that this is demo",
    ),
    (
        |b| {
            let action = fs::read_dir(b.version.join(META).join(ACTIONS)).unwrap().next().unwrap().unwrap().path();
            b.edit(&action, |v| v["run_as"] = "root".into());
        },
        ".json",
        "not what the pack's own files say",
    ),
    (
        |b| {
            let action = fs::read_dir(b.version.join(META).join(ACTIONS)).unwrap().next().unwrap().unwrap().path();
            fs::copy(&action, action.with_file_name("other.json")).unwrap();
        },
        "other.json",
        "an action that the pack does not have",
    ),
    (
        |b| {
            // The signed metadata, as the sync keeps them.
            fs::create_dir(b.packs().join(".tuf")).unwrap();
            let stored: StoredPack =
                serde_json::from_slice(&fs::read(b.version.join(META).join(PACK)).unwrap()).unwrap();
            let target = packs_schema::delivery::channel::pack_target(&stored.pack.name, &stored.pack.version);
            let targets = serde_json::json!({"signed": {"targets": {target: {"hashes": {"sha256": "b".repeat(64)}}}}});
            fs::write(b.packs().join(".tuf/targets.json"), targets.to_string()).unwrap();
        },
        "pack.json",
        "the repository signed bbbb",
    ),
    (
        |b| {
            let directory = b.version.file_name().unwrap().to_str().unwrap().to_owned();
            let ended = serde_json::json!({"format": 1, "ended": [{"directory": directory, "digest": "a".repeat(64),
                "size_bytes": 1, "in_use_until_boot_ms": 1, "boot": "x"}]});
            fs::write(b.home().join(".dev.json"), ended.to_string()).unwrap();
        },
        ".bolt",
        "the time of this pushed version is over",
    ),
];

impl Bench {
    /// Original path of the script.
    fn script_was(&self) -> PathBuf {
        let manifest: Manifest =
            serde_json::from_slice(&fs::read(self.version.join(META).join(MANIFEST)).unwrap()).unwrap();
        let file = manifest.files.into_iter().find(|f| f.executable).unwrap();
        self.version.join(file.path)
    }
}

#[test]
fn each_tampering_is_named_with_its_file() {
    for (tamper, end, words) in TAMPERINGS {
        let bench = Bench::new();
        let end = if end.is_empty() { "actions/" } else { end };
        tamper(&bench);
        let problems = bench.problems();
        let named = problems.iter().any(|problem| {
            let file = problem.file.display().to_string();
            (file.ends_with(end) || (end == "actions/" && file.starts_with(bench.version.to_str().unwrap())))
                && problem.problem.contains(words)
        });
        assert!(named, "{end} {words}: {problems:#?}");
    }
}

/// `.bolt` may be replaced while it is read: links are not followed, and a pipe does not block.
#[test]
fn neither_a_link_on_the_way_nor_a_pipe_is_read() {
    let bench = Bench::new();
    let elsewhere = bench.temp.path().join("elsewhere");
    fs::rename(bench.version.join(META), &elsewhere).unwrap();
    symlink(&elsewhere, bench.version.join(META)).unwrap();
    let manifest = bench.version.join(META).join(MANIFEST);
    let store = ConfinedDir::open(&bench.packs()).unwrap();
    assert!(store.file(&manifest).is_err(), "it is reached through a link");
    let problems = check(&bench.packs(), None).unwrap().problems;
    assert!(problems.iter().any(|p| p.file == manifest && p.problem.contains("cannot be read")), "{problems:?}");

    let bench = Bench::new();
    let script = bench.script();
    fs::remove_file(&script).unwrap();
    nix::unistd::mkfifo(&script, nix::sys::stat::Mode::from_bits_truncate(0o755)).unwrap();
    let (done, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(check(&bench.packs(), None)));
    let report = end.recv_timeout(std::time::Duration::from_secs(30)).expect("it waits for a pipe").unwrap();
    assert!(report.problems.iter().any(|p| p.file == script && p.problem.contains("pipe")), "{:?}", report.problems);
}
