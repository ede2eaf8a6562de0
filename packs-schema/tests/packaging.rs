//! Tests of the packaged files in `systemd/`: the configuration is valid, grants nothing and shows the defaults, and
//! systemd accepts the units.

#![expect(clippy::unwrap_used, reason = "a test should fail at the line of the error")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use packs_schema::agent::config::{Config, FromTags, HistoryConfig, Paths, Users};
use packs_schema::agent::grants::{Grants, Verb};
use packs_schema::base::name::{ActionRef, Principal};
use packs_schema::pack::action::Class;
use tempfile::TempDir;

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(packaged(name)).unwrap()
}

/// Uncomments settings: `# key = value`, `# [[table]]`.
fn uncommented(name: &str) -> String {
    let setting = |line: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        line.starts_with("[[") || line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(word))
    };
    let open = |line: &str| match line.strip_prefix("# ") {
        Some(inside) if setting(inside) => inside.to_owned(),
        _ => line.to_owned(),
    };
    text(name).lines().map(open).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_configuration_is_valid_and_restrictive() {
    let config = Config::parse(&text("agent.toml")).unwrap();
    assert!(config.execution.require_limits);
    assert!(config.api.listen.ip().is_loopback() && config.api.health_listen.is_none());
    assert_eq!((config.paths, config.users), (Paths::default(), Users::default()));
    let cgroup = config.execution.cgroup.unwrap();
    let unit = cgroup.strip_prefix("bolt.slice/").unwrap();
    assert!(text(unit).contains(&cgroup), "the holder moves into {cgroup}");
}

#[test]
fn commented_out_settings_show_the_defaults() {
    let (bare, shown) =
        (Config::parse(&text("agent.toml")).unwrap(), Config::parse(&uncommented("agent.toml")).unwrap());
    assert_eq!(shown.paths, Paths::default());
    assert_eq!(shown.history, HistoryConfig::default());
    assert_eq!(shown.repository, bare.repository);
    assert_eq!(shown.dev, bare.dev);
    assert_eq!((shown.instance.metadata, shown.instance.from_tags), (false, FromTags::default()));
    assert!(!bare.dev.push, "pushes are off");
    assert_eq!(shown.api.max_connections, bare.api.max_connections);
    assert_eq!(shown.api.hang_after, bare.api.hang_after);
    assert_eq!((shown.users.map.len(), shown.instance.tags.len()), (1, 1), "the examples are read as well");
}

/// Returns the keys of a table, as the types say when a file has an unknown one; `None` for a table with keys of any name.
fn keys_of(header: &str) -> Option<Vec<String>> {
    let said = Config::parse_unchecked(&format!("{header}\nzz = 1\n")).unwrap_err().to_string();
    let keys = said.split("unknown key \"zz\"; known keys: ").nth(1)?;
    Some(keys.split(", ").map(|key| key.trim().to_owned()).collect())
}

/// Adds every key of a table to `keys`, with the path to it: `execution.total.cpu`. True if there is such a table.
fn add_keys(header: &str, path: &str, keys: &mut BTreeSet<String>) -> bool {
    let Some(found) = keys_of(header) else { return false };
    for key in found {
        let path = if path.is_empty() { key } else { format!("{path}.{key}") };
        if !add_keys(&format!("[{path}]"), &path, keys) && !add_keys(&format!("[[{path}]]"), &path, keys) {
            keys.insert(path);
        }
    }
    true
}

/// Returns the keys that a configuration file shows, set or commented out; true for those that are explained: in a group of
/// lines below prose, the first key, and each key whose name is in the prose.
fn shown_keys(text: &str) -> BTreeMap<String, bool> {
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
    let (mut shown, mut table, mut prose, mut is_first) = (BTreeMap::new(), String::new(), String::new(), true);
    for line in text.lines() {
        let bare = line.trim_start_matches(['#', ' ']);
        let header = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let header = header.map(|name| name.trim_matches(['[', ']'])).filter(|name| word(name));
        if line.is_empty() {
            (prose, is_first) = (String::new(), true);
        } else if let Some(name) = header {
            name.clone_into(&mut table);
            shown.insert(table.clone(), !prose.is_empty());
        } else if let Some((key, value)) = bare.split_once(" = ").filter(|(key, _)| word(key)) {
            let is_named = |key: &str| prose.split(|c: char| !word(&c.to_string())).any(|word| word == key);
            let mut add = |key: String, is_explained| *shown.entry(key).or_insert(false) |= is_explained;
            add(format!("{table}.{key}"), !prose.is_empty() && (is_first || is_named(key)));
            for part in value.strip_prefix('{').into_iter().flat_map(|inside| inside.split([',', '}'])) {
                if let Some((inner, _)) = part.trim().split_once(" = ") {
                    add(format!("{table}.{key}.{inner}"), is_named(inner));
                }
            }
            is_first = false;
        } else if line.starts_with('#') {
            // Prose after keys begins another group.
            prose = if is_first { prose + line } else { line.to_lowercase() };
            prose = prose.to_lowercase() + " ";
            is_first = true;
        }
    }
    shown
}

#[test]
fn every_key_of_the_configuration_is_shown_and_explained() {
    let mut keys = BTreeSet::new();
    assert!(add_keys("", "", &mut keys));
    assert!(keys.len() > 60, "{keys:?}");
    for nested in ["instance.from_tags.cluster", "execution.total.cpu", "tls.client_authority.file", "users.map"] {
        assert!(keys.contains(nested), "{nested}: {keys:?}");
    }
    let shown = shown_keys(&text("agent.toml"));
    let missing: Vec<&String> = keys.iter().filter(|key| !shown.contains_key(*key)).collect();
    assert!(missing.is_empty(), "agent.toml does not show {missing:?}");
    let unexplained: Vec<&String> = keys.iter().filter(|key| !shown[*key]).collect();
    assert!(unexplained.is_empty(), "agent.toml does not explain {unexplained:?}");
}

#[test]
fn a_key_without_an_explanation_is_found() {
    let shown = shown_keys(
        "[a]\none = 1\n\n# Prose of one.\n# one = 2\ntwo = 3\n# All of two.\ntwo = 3\nthree = {four = 4}\n\nfive = 5\n",
    );
    let expected = [("a", false), ("a.five", false), ("a.one", true), ("a.three", false), ("a.three.four", false)];
    assert!(shown.iter().map(|(key, shown)| (key.as_str(), *shown)).eq(expected.into_iter().chain([("a.two", true)])));
}

#[test]
fn the_documented_bucket_url_is_valid() {
    let text = text("agent.toml").replace("url = \"file:///srv/bolt/repository\"\n", "").replace("\n#   ", "\n");
    let shown = Config::parse(&text).unwrap().repository;
    assert_eq!(shown.bucket().unwrap().to_string(), "s3://example-packs/bolt");
    assert!(shown.path_style && !shown.allow_http && shown.profile.is_some() && shown.endpoint.is_some());
    assert_eq!(shown.timeout.0.as_secs(), 30);
}

#[test]
fn the_example_grants_allow_nothing() {
    let who = |name: &str| Principal::new(format!("spiffe://example.com/{name}")).unwrap();
    let packaged = Grants::parse(&text("grants.toml")).unwrap();
    let example = Grants::parse(&uncommented("grants.toml")).unwrap();
    for verb in [Verb::Read, Verb::Run, Verb::Kill, Verb::Sync, Verb::Push, Verb::Metrics] {
        assert!(!packaged.allows_any(&who("oncall/ann"), verb) && !packaged.allows_any(&who("team/storage"), verb));
    }
    let run = |name: &str, action: &str, class| {
        example.allows(&who(name), Verb::Run, &ActionRef::new(action).unwrap(), class)
    };
    assert!(run("oncall/ann", "linux.disk_usage", Class::Diagnostic));
    assert!(!run("oncall/ann", "linux.free_disk_space", Class::Remediation));
    assert!(run("team/storage", "cassandra.clear_snapshots", Class::Remediation));
    assert!(!run("team/storage", "linux.restart_service", Class::Remediation));
}

#[test]
fn accounts_are_those_of_the_configuration() {
    let users = Users::default();
    let accounts = text("sysusers.d/bolt.conf");
    for user in [&users.api, &users.sync] {
        let declared = accounts.lines().any(|l| l.split_whitespace().take(2).eq(["u", user.as_str()]));
        assert!(declared, "sysusers.d makes no account {user}");
    }
}

#[test]
fn the_socket_unit_listens_where_the_configuration_says() {
    let listen = Config::parse(&text("agent.toml")).unwrap().api.listen;
    assert!(text("bolt-launch.socket").lines().any(|line| line == format!("ListenStream={listen}")));
}

/// Settings of systemd.exec(5) and systemd.resource-control(5) that `systemd-analyze security` rates.
const SANDBOX: [&str; 32] = [
    "CapabilityBoundingSet",
    "DeviceAllow",
    "IPAddressDeny",
    "KeyringMode",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "RemoveIPC",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "RootDirectory",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "UMask",
    "User",
];

#[test]
fn each_sandbox_setting_is_used_or_left_off_with_a_reason() {
    for unit in ["bolt-launch.service", "bolt-executions.service"] {
        let text = text(unit);
        let comments: String =
            text.lines().filter(|line| line.starts_with('#')).map(|line| format!("{line} ")).collect();
        let named: BTreeSet<&str> = comments.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let is_set = |setting: &str| text.lines().any(|line| line.starts_with(&format!("{setting}=")));
        let missing: Vec<&str> =
            SANDBOX.into_iter().filter(|setting| !is_set(setting) && !named.contains(setting)).collect();
        assert!(missing.is_empty(), "{unit} neither uses nor explains {missing:?}");
    }
}

#[test]
fn a_stop_ends_the_launcher_alone_and_surely() {
    let text = text("bolt-launch.service");
    let sets = |setting: &str| text.lines().any(|line| line == setting);
    assert!(sets("KillMode=process"), "a stop would end shims");
    assert!(!sets("SendSIGKILL=no"), "a launcher that hangs would stay beside the next one");
}

#[test]
fn systemd_has_no_complaint_about_the_units() {
    if !have("systemd_has_no_complaint_about_the_units", "systemd-analyze") {
        return;
    }
    let top = TempDir::new().unwrap();
    let units = ["bolt.slice", "bolt-executions.service", "bolt-launch.service", "bolt-launch.socket"];
    for unit in units {
        // The program is not installed on the test host.
        fs::write(top.path().join(unit), text(unit).replace("/usr/lib/bolt/bolt-launch", "/bin/true")).unwrap();
    }
    let paths = units.map(|unit| top.path().join(unit));
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&paths).output().unwrap();
    // The output covers all units of the host: only lines about our units count.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<&str> = said.lines().filter(|line| units.iter().any(|unit| line.contains(unit))).collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn accounts_and_directories_are_made() {
    let test = "accounts_and_directories_are_made";
    if !have(test, "systemd-sysusers") || !have(test, "systemd-tmpfiles") {
        return;
    }
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: only root can give directories away");
        return;
    }
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let option = format!("--root={}", root.path().display());
    for (program, arguments, file) in [
        ("systemd-sysusers", vec![option.as_str()], "sysusers.d/bolt.conf"),
        ("systemd-tmpfiles", vec![option.as_str(), "--create"], "tmpfiles.d/bolt.conf"),
    ] {
        // systemd's own notation, without "..": relative paths are resolved from the root.
        let file = packaged(file).canonicalize().unwrap();
        let output = Command::new(program).args(arguments).arg(file).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let id = |name: &str| -> u32 {
        let line = passwd.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap();
        line.split(':').nth(2).unwrap().parse().unwrap()
    };
    let paths = Paths::default();
    for (path, mode, owner) in [
        (&paths.state, 0o700, id("bolt")),
        (&paths.executions(), 0o700, id("bolt")),
        (&paths.packs, 0o755, id("bolt-sync")),
        (&paths.runtime, 0o711, 0),
        (&paths.pack_config, 0o750, 0),
        (&PathBuf::from("/etc/bolt/tls"), 0o750, 0),
    ] {
        let made = fs::metadata(root.path().join(path.strip_prefix("/").unwrap())).unwrap();
        assert_eq!((made.mode() & 0o7777, made.uid()), (mode, owner), "{path:?}");
    }
}

/// True if the program is installed; otherwise prints that the test is skipped.
fn have(test: &str, program: &str) -> bool {
    let found = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(|d| Path::new(d).join(program).exists());
    if !found {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {program} is not installed");
    }
    found
}
