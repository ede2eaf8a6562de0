//! `bolt-agent check-config`: every fault of a configuration is reported before a start, with its file and what to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use bolt_client::local::{LocalAgent, binary};
use bolt_client::pki::{Authority, Validity};
use bolt_tests::{World, is_root, skip, spec};
use packs_schema::base::name::InstanceId;

/// Runs the check; returns its exit status and its output.
fn check(agent: &LocalAgent, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary("bolt-agent").unwrap());
    let output = command.arg("check-config").arg("--config").arg(agent.config()).args(more).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn prepared(world: &World) -> LocalAgent {
    LocalAgent::prepare(&world.site, &spec("i-1")).unwrap()
}

fn file(agent: &LocalAgent, name: &str) -> PathBuf {
    agent.directory().join("etc").join(name)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Replaces the text of a file, which keeps its owner and mode.
fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Writes a certificate of `authority` for `instance`, and its key if `with_key`, over those of the agent.
fn reissue(agent: &LocalAgent, authority: &Authority, instance: &str, validity: Validity, with_key: bool) {
    let issued = authority.issue_instance(&InstanceId::new(instance).unwrap(), validity).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = issued.write(dir.path(), "agent").unwrap();
    fs::copy(certificate, file(agent, "tls/agent.pem")).unwrap();
    if with_key {
        // `write` instead of `copy`: owner and mode stay.
        fs::write(file(agent, "tls/agent.key"), fs::read(key).unwrap()).unwrap();
    }
}

fn expired() -> Validity {
    let mut validity = Validity::days(1);
    validity.not_before -= std::time::Duration::from_secs(2 * 86_400);
    validity.not_after -= std::time::Duration::from_secs(2 * 86_400);
    validity
}

/// Writes the site configuration of the probe pack for the sync's account.
fn site_file(agent: &LocalAgent, world: &World, text: &str) {
    let path = file(agent, "packs/probe.yaml");
    fs::write(&path, text).unwrap();
    set_mode(&path, 0o600);
    if let Some(accounts) = world.site.accounts() {
        chown(&path, Some(accounts.sync), None).unwrap();
    }
}

/// Fault: its name, the change that makes it, and what the report must say of it.
type Fault = (&'static str, fn(&LocalAgent, &World), &'static [&'static str]);

const FAULTS: &[Fault] = &[
    (
        "a missing agent.toml",
        |a, _| fs::remove_file(a.config()).unwrap(),
        &["agent.toml: error: cannot read it: No such"],
    ),
    ("an unknown key", |a, _| edit(&a.config(), "[api]\n", "[api]\nlisen = 1\n"), &[": error: line ", "lisen"]),
    (
        "a value of 0",
        |a, _| edit(&a.config(), "[api]\n", "[api]\nmax_connections = 0\n"),
        &["api.max_connections must"],
    ),
    (
        "an unknown verb in grants.toml",
        |a, _| edit(&file(a, "grants.toml"), "\"run\"", "\"fly\""),
        &["grants.toml:3: error: ", "must be one of read, run", "\"fly\""],
    ),
    ("missing grants", |a, _| fs::remove_file(file(a, "grants.toml")).unwrap(), &["grants.toml: error: "]),
    ("grants that others may write", |a, _| set_mode(&file(a, "grants.toml"), 0o664), &["grants.toml", "chmod go-w"]),
    (
        "a key that others can read",
        |a, _| set_mode(&file(a, "tls/agent.key"), 0o644),
        &["agent.key", "0644", "chmod 0600"],
    ),
    (
        "a certificate file without a certificate",
        |a, _| fs::write(file(a, "tls/agent.pem"), "nothing\n").unwrap(),
        &["agent.pem: error: "],
    ),
    (
        "a key of another certificate",
        |a, w| reissue(a, w.site.authority(), "i-1", Validity::days(30), false),
        &["agent.pem: error: ", "does not belong to the first certificate"],
    ),
    (
        "a certificate of another instance",
        |a, w| reissue(a, w.site.authority(), "i-2", Validity::days(30), true),
        &["agent.pem: error: names \"i-2\", and this is i-1: issue one with `bolt pki issue instance`"],
    ),
    (
        "an expired certificate",
        |a, w| reissue(a, w.site.authority(), "i-1", expired(), true),
        &["agent.pem: error: expired at 20", "Z: issue a new one"],
    ),
    ("missing authorities", |a, _| fs::remove_file(file(a, "tls/ca.pem")).unwrap(), &["ca.pem: error: "]),
    (
        "a caller's certificate in place of the authorities",
        |a, w| assert!(fs::copy(w.site.operator().certificate, file(a, "tls/ca.pem")).unwrap() > 0),
        &["ca.pem: error: ", "is not an authority"],
    ),
    ("authorities that others may write", |a, _| set_mode(&file(a, "tls/ca.pem"), 0o666), &["ca.pem", "chmod go-w"]),
    (
        "a damaged root",
        |a, _| fs::write(file(a, "root.json"), "{}").unwrap(),
        &["root.json: error: ", "not the root of a repository"],
    ),
    (
        "a root with a changed signature",
        |a, _| edit(&file(a, "root.json"), "\"consistent_snapshot\":true", "\"consistent_snapshot\":false"),
        &["root.json: error: ", "not the root of a repository"],
    ),
    ("a root that others may write", |a, _| set_mode(&file(a, "root.json"), 0o666), &["root.json", "chmod go-w"]),
    (
        "a missing repository",
        |_, w| fs::rename(w.site.repository(), w.path().join("moved")).unwrap(),
        &["repo: error: there is no directory ", "repository.url"],
    ),
    (
        "a directory without a repository",
        |_, w| fs::remove_dir_all(w.site.repository().join("metadata")).unwrap(),
        &["repo: error: there is no repository at file:///", "publish there first"],
    ),
    (
        "a repository of another publisher",
        |_, w| {
            let other = World::with_probe();
            fs::remove_dir_all(w.site.repository()).unwrap();
            fs::rename(other.site.repository(), w.site.repository()).unwrap();
        },
        &["repo: error: cannot verify the repository's metadata", "compare repository.root"],
    ),
    (
        "a channel that the repository does not have",
        |a, _| edit(&a.config(), "channel = \"prod\"", "channel = \"prdo\""),
        &["repo: error: ", "prdo", "prod"],
    ),
    ("site configuration that is not YAML", |a, w| site_file(a, w, "greeting: [\n"), &["probe.yaml: error: line "]),
    (
        "a state directory that others may write",
        |a, w| {
            fs::create_dir(a.state()).unwrap();
            if let Some(accounts) = w.site.accounts() {
                chown(a.state(), Some(accounts.api), Some(accounts.api)).unwrap();
            }
            set_mode(&a.state(), 0o777);
        },
        &["paths.state may be written by others (mode 0777)"],
    ),
];

/// Faults that only root can make, or that only matter to an agent that root starts.
const FAULTS_OF_ROOT: &[Fault] = &[
    ("a lax agent.toml", |a, _| set_mode(&a.config(), 0o666), &["agent.toml: error: ", "chmod go-w"]),
    (
        "a state directory of another account",
        |a, _| {
            fs::create_dir(a.state()).unwrap();
            chown(a.state(), Some(65_000), None).unwrap();
        },
        &["paths.state belongs to user 65000, not to 64100"],
    ),
    (
        "a store of packs of another account",
        |a, _| {
            fs::create_dir(a.directory().join("packs")).unwrap();
            chown(a.directory().join("packs"), Some(65_000), None).unwrap();
        },
        &["paths.packs belongs to user 65000, not to 64101"],
    ),
    (
        "a key that the api's account cannot read",
        |a, _| chown(file(a, "tls/agent.key"), Some(0), Some(0)).unwrap(),
        &["agent.key: error: ", "cannot be read by user 64100", "chown root:64100 ", "chmod 0640 "],
    ),
    (
        "grants that the api's account owns",
        |a, w| chown(file(a, "grants.toml"), Some(w.site.accounts().unwrap().api), None).unwrap(),
        &["grants.toml: error: ", "chown root"],
    ),
    (
        "a repository that the sync's account cannot read",
        |_, w| set_mode(&w.site.repository().join("metadata"), 0o700),
        &["repo: error: cannot read the repository: ", "Permission denied", "users.sync"],
    ),
    (
        "site configuration that the sync's account cannot read",
        |a, _| {
            fs::write(file(a, "packs/probe.yaml"), "x: 1\n").unwrap();
            set_mode(&file(a, "packs/probe.yaml"), 0o600);
        },
        &["probe.yaml: error: the sync cannot read it"],
    ),
    (
        "an account that does not exist",
        |a, _| edit(&a.config(), "[users.map]\n", "[users.map]\nkafka = \"no-such-account\"\n"),
        &["users.map.kafka = no-such-account: there is no such account", "create it"],
    ),
    (
        "an api that is root",
        |a, _| edit(&a.config(), "api = \"64100\"", "api = \"root\""),
        &["users.api = root", "must not be root"],
    ),
    (
        "a range of user ids that is in use",
        |a, _| edit(&a.config(), "[users]\n", "[execution]\nuid_range = \"64000-65000\"\n\n[users]\n"),
        &["execution.uid_range = \"64000-65000\" is in use: users.api names the account 64100"],
    ),
];

fn reports(faults: &[Fault]) {
    for (name, make, said) in faults {
        let world = World::with_probe();
        let agent = prepared(&world);
        assert_eq!(check(&agent, &[]).0, Some(0), "{name}: {}", check(&agent, &[]).1);
        make(&agent, &world);
        let (code, report) = check(&agent, &[]);
        assert_eq!(code, Some(1), "{name}: {report}");
        for part in *said {
            assert!(report.contains(part), "{name}: {part:?} is not in\n{report}");
        }
        assert!(!agent.state().join("api.address").exists() && !agent.directory().join("run").exists(), "{name}");
    }
}

#[test]
fn each_fault_is_reported_with_its_file_and_what_to_do() {
    reports(FAULTS);
}

#[test]
fn each_fault_of_accounts_and_owners_is_reported() {
    if !is_root() {
        return skip("each_fault_of_accounts_and_owners_is_reported", "giving files away needs root");
    }
    reports(FAULTS_OF_ROOT);
}

#[test]
fn a_valid_configuration_passes_and_starts_nothing() {
    let world = World::with_probe();
    let agent = prepared(&world);
    let (code, report) = check(&agent, &[]);
    assert_eq!((code, report), (Some(0), format!("{}: the configuration is valid\n", agent.config().display())));
    for name in ["state", "packs", "run"] {
        assert!(!agent.directory().join(name).exists(), "{name} was made");
    }
}

#[test]
fn all_problems_are_reported_at_once_and_as_json() {
    let world = World::with_probe();
    let agent = prepared(&world);
    edit(&file(&agent, "grants.toml"), "\"run\"", "\"fly\"");
    set_mode(&file(&agent, "tls/agent.key"), 0o644);
    fs::write(file(&agent, "root.json"), "{}").unwrap();
    let soon = Validity::days(30);
    reissue(&agent, world.site.authority(), "i-1", soon, true);
    let (code, text) = check(&agent, &[]);
    for name in ["grants.toml:3: error: ", "agent.key: error: ", "root.json: error: "] {
        assert!(text.contains(name), "{text}");
    }
    assert!(code == Some(1) && text.ends_with("3 errors, 0 warnings\n"), "{text}");
    let (code, json) = check(&agent, &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &report["ok"], &report["errors"]), (Some(1), &false.into(), &3.into()), "{json}");
    let grants = report["findings"].as_array().unwrap().iter().find(|finding| finding["line"] == 3).unwrap();
    assert_eq!(grants["severity"], "error", "{json}");
}

#[test]
fn a_certificate_that_ends_soon_is_a_warning() {
    let world = World::with_probe();
    let agent = prepared(&world);
    let mut validity = Validity::days(30);
    validity.not_before -= std::time::Duration::from_secs(28 * 86_400);
    validity.not_after -= std::time::Duration::from_secs(28 * 86_400);
    reissue(&agent, world.site.authority(), "i-1", validity, true);
    let (code, report) = check(&agent, &[]);
    assert!(code == Some(0) && report.contains("agent.pem: warning: expires at 20"), "{report}");
    assert!(report.ends_with("the configuration is valid, with 1 warning\n"), "{report}");
}

/// Changes of `agent.toml` with which the agent works, and what the report must say of them.
const HARDLY_MEANT: &[(&str, &str, &str)] = &[
    ("[repository]\n", "[repository]\npoll = \"5ms\"\n", "warning: repository.poll = 5ms: each poll starts a process"),
    ("[repository]\n", "[repository]\npoll = \"1d\"\n", "warning: repository.poll = 1d: withdrawn versions stay"),
    ("[api]\n", "[history]\nkeep = \"1s\"\n\n[api]\n", "warning: history.keep = 1s: a caller that repeats a start"),
    ("[api]\n", "[python]\ntimeout = \"1h\"\n\n[api]\n", "warning: python.timeout = 1h: a virtual environment has 8m"),
    (
        "[api]\n",
        "[python]\npip_config = \"/none/pip.conf\"\n\n[api]\n",
        "warning: python.pip_config /none/pip.conf: No such",
    ),
    ("[api]\n", "[python]\nwheels = \"/none\"\n\n[api]\n", "warning: python.wheels /none: No such file"),
    (
        "[api]\n",
        "[python]\ninterpreter = \"/none/python3\"\n\n[api]\n",
        "warning: python.interpreter /none/python3 cannot",
    ),
];

/// The same, for an agent that root starts.
const HARDLY_MEANT_BY_ROOT: &[(&str, &str, &str)] = &[
    (
        "[users]\n",
        "[execution]\nmax_running = 300\n\n[users]\n",
        "warning: execution.max_shims = 600 (by default twice max_running): ",
    ),
    ("api = \"64100\"", "api = \"64101\"", "warning: users.api and users.sync are the same account, 64101: "),
    (
        "[users]\n",
        "[execution]\ndefault_run_as = \"64100\"\n\n[users]\n",
        "warning: execution.default_run_as and users.api are the same account, 64100: ",
    ),
];

#[test]
fn values_that_are_hardly_meant_are_warnings() {
    let of_root = HARDLY_MEANT_BY_ROOT.iter().filter(|_| is_root());
    for (from, to, said) in HARDLY_MEANT.iter().chain(of_root) {
        let world = World::with_probe();
        let agent = prepared(&world);
        edit(&agent.config(), from, to);
        let report = check(&agent, &[]).1;
        assert!(report.contains(&format!("agent.toml: {said}")), "{to}: {report}");
        assert!(!report.contains("unknown key"), "{to}: {report}");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for arguments in [&["check-config", "--colour"][..], &["check-config", "--config"]] {
        let output = Command::new(binary("bolt-agent").unwrap()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("see bolt-agent --help"));
    }
}

#[test]
fn site_configuration_is_checked_against_the_active_version() {
    let world = World::with_probe();
    let mut agent = world.agent();
    agent.terminate();
    assert_eq!(check(&agent, &[]).0, Some(0), "{}", check(&agent, &[]).1);
    site_file(&agent, &world, "no_such_key: 1\n");
    let (code, report) = check(&agent, &[]);
    assert!(code == Some(1) && report.contains("probe.yaml: error: ") && report.contains("no_such_key"), "{report}");
    fs::remove_file(file(&agent, "packs/probe.yaml")).unwrap();
    fs::write(file(&agent, "packs/Not a pack.yaml"), "").unwrap();
    let (code, report) = check(&agent, &[]);
    assert!(code == Some(0) && report.contains("is not that of a pack"), "{report}");
}

#[test]
fn a_repository_without_packs_is_a_warning() {
    let world = World::empty();
    let (code, report) = check(&prepared(&world), &[]);
    assert!(code == Some(0) && report.contains("repo: warning: no channel has a pack yet"), "{report}");
}
