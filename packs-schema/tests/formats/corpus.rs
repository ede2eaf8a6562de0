//! StackStorm's own `linux` pack is read as in StackStorm: actions that Bolt can run, with their parameters, and
//! findings for those that it cannot. No file is a parse error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use packs_schema::base::finding::{Finding, Severity};
use packs_schema::base::name::PackName;
use packs_schema::pack::PackFile;
use packs_schema::pack::action::{ActionFile, Class, Runner};
use packs_schema::pack::deliver::deliver;
use packs_schema::pack::param::bind::bind;
use packs_schema::pack::site_config::SiteConfig;
use serde_json::{Map, Value, json};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/stackstorm-linux")
}

fn action(name: &str) -> ActionFile {
    let path = corpus().join(format!("actions/{name}.yaml"));
    packs_schema::base::document::yaml::parse(&std::fs::read_to_string(path).unwrap())
        .unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn linux() -> PackName {
    PackName::new("linux").unwrap()
}

/// Formats findings as `severity code place`, without the name of the file.
fn codes(found: &[Finding], at: &str) -> Vec<String> {
    let severity = |s: Severity| match s {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let place = |f: &Finding| f.at.strip_prefix(at).unwrap_or(&f.at).trim_start_matches([':', ' ']).to_owned();
    let mut codes: Vec<String> =
        found.iter().map(|f| format!("{} {} {}", severity(f.severity), f.code, place(f))).collect();
    codes.sort();
    codes
}

#[test]
fn the_example_pack_is_valid() {
    let file: PackFile =
        packs_schema::base::document::yaml::parse(&std::fs::read_to_string(corpus().join("pack.yaml")).unwrap())
            .unwrap();
    let (pack, found) = file.check("pack.yaml");
    let pack = pack.unwrap();
    assert_eq!(found, []);
    assert_eq!((pack.name.as_str(), pack.version.to_string().as_str()), ("linux", "1.2.1"));
    assert_eq!(pack.keywords.len(), 14);
    assert_eq!(file.python_versions, ["2", "3"]);
}

/// Actions that can run: `(file, runner, entry point, time-out in seconds, parameters as Bolt keeps them, findings)`. A
/// parameter is `[type, default, required, position]`.
#[test]
fn actions_that_can_run_are_read() {
    let no_class = "warning no_class bolt.class";
    let remote = "warning remote_runner runner_type";
    let python = "warning python_class runner_type";
    for (name, runner, entry_point, timeout, parameters, findings) in [
        (
            "check_loadavg",
            Runner::LocalShellScript,
            "checks/check_loadavg.py",
            300,
            json!({"period": ["string", "all", false, 0]}),
            vec![no_class, remote],
        ),
        (
            "check_processes",
            Runner::LocalShellScript,
            "checks/check_processes.py",
            300,
            json!({
                "search": ["string", "name", false, 0],
                "criteria": ["string", null, false, 1],
                "args": ["string", null, false, 2],
            }),
            vec![
                "note runner_parameter parameters.kwarg_op",
                "note runner_parameter parameters.sudo",
                no_class,
                remote,
            ],
        ),
        (
            "dig",
            Runner::PythonScript,
            "dig.py",
            300,
            json!({
                "queryopts": ["string", "short", false, null],
                "rand": ["boolean", false, false, null],
                "nameserver": ["string", null, false, null],
                "hostname": ["string", null, true, null],
                "count": ["integer", 0, false, null],
                "querytype": ["string", "A", false, null],
            }),
            vec![no_class, python],
        ),
        (
            "service",
            Runner::LocalShellScript,
            "service.py",
            300,
            json!({"act": ["string", null, false, 0], "service": ["string", null, false, 1]}),
            vec![no_class, remote],
        ),
        (
            "traceroute",
            Runner::LocalShellScript,
            "traceroute.sh",
            300,
            json!({
                "host": ["string", null, true, 1],
                "hops": ["integer", 30, false, 2],
                "queries_to_hop": ["integer", 3, false, 3],
            }),
            vec!["note runner_parameter parameters.hosts", no_class, remote],
        ),
        (
            // `port`, `username` and `password` belong to the action: the python runner has no such parameters.
            "wait_for_ssh",
            Runner::PythonScript,
            "wait_for_ssh.py",
            400,
            json!({
                "hostname": ["string", null, true, null],
                "port": ["integer", 22, true, null],
                "username": ["string", "stanley", true, null],
                "password": ["string", null, false, null],
                "keyfile": ["string", null, false, null],
                "ssh_timeout": ["integer", 5, false, null],
                "sleep_delay": ["integer", 20, false, null],
                "retries": ["integer", 10, false, null],
            }),
            vec![
                "note runner_parameter parameters.timeout",
                no_class,
                python,
                "warning secret_unmarked parameters.password",
            ],
        ),
    ] {
        let (action, found) = action(name).check(&linux(), name);
        assert_eq!(codes(&found, name), findings, "{name}");
        let action = action.unwrap_or_else(|| panic!("{name} can be run"));
        assert_eq!(action.reference().to_string(), format!("linux.{name}"));
        assert_eq!((action.runner_type, action.entry_point.as_str()), (runner, entry_point), "{name}");
        assert_eq!(action.timeout().as_secs(), timeout, "{name}");
        assert!(action.enabled && action.class == Class::Remediation && !action.description.is_empty(), "{name}");
        let read: BTreeMap<_, _> = action
            .parameters
            .iter()
            .map(|(name, schema)| {
                let types = serde_json::to_value(&schema.types).unwrap();
                (name.to_string(), json!([types, schema.default, schema.is_required(), schema.position]))
            })
            .collect();
        assert_eq!(json!(read), parameters, "{name}");
    }
}

/// Actions that cannot run, with all findings of each file.
#[test]
fn actions_that_cannot_run_have_findings() {
    let no_class = "warning no_class bolt.class";
    let template = "error shell_template runner_type";
    let cmd = "note runner_parameter parameters.cmd";
    let args = "error template_default parameters.args";
    for (name, findings) in [
        ("cp", vec![template, args, cmd, no_class]),
        ("diag_loadavg", vec!["error runner_not_supported runner_type", no_class]),
        ("file_touch", vec![template, cmd, no_class]),
        ("lsof", vec![template, cmd, no_class]),
        ("lsof_pids", vec![template, cmd, no_class, "warning runner_parameter parameters.sudo"]),
        ("mv", vec![template, args, cmd, no_class]),
        ("netstat", vec![template, cmd, no_class]),
        ("netstat_grep", vec![template, cmd, no_class]),
        ("pkill", vec![template, cmd, no_class]),
        ("rm", vec![template, args, cmd, no_class]),
        ("rsync", vec![template, args, cmd, no_class]),
        ("scp", vec![template, args, cmd, "note runner_parameter parameters.username", no_class]),
        ("vmstat", vec![template, cmd, no_class]),
    ] {
        let (action, found) = action(name).check(&linux(), name);
        assert!(action.is_none(), "{name}");
        assert_eq!(codes(&found, name), findings, "{name}");
    }
}

/// Parameters of actions that cannot run are read as in StackStorm, too.
#[test]
fn every_example_file_is_parsed() {
    let names = std::fs::read_dir(corpus().join("actions")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = names.map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names.len(), 19);
    for name in &names {
        let file = action(name);
        assert_eq!(&file.name, name);
        assert!(file.enabled && file.other.is_empty(), "{name}: {:?}", file.other);
        for (parameter, schema) in &file.parameters {
            assert!(schema.other.is_empty(), "{name}.{parameter}: {:?}", schema.other);
        }
    }
    let of = |name: &str, parameter: &str| action(name).parameters[parameter].clone();
    assert!(of("cp", "cmd").immutable);
    assert_eq!(of("cp", "recursive").default, Some(json!(false)));
    assert_eq!(of("rm", "verbose").default, Some(json!(true)));
    assert_eq!(
        of("check_loadavg", "period").enumeration,
        Some(vec![json!("1"), json!("5"), json!("15"), json!("all")])
    );
    assert_eq!(of("dig", "rand").default, Some(json!(false)));
    assert_eq!((of("lsof", "args").types, of("lsof", "args").default), (None, Some(json!(" "))));
    assert_eq!(serde_json::to_value(of("netstat_grep", "pids").types).unwrap(), json!("array"));
    assert!(of("lsof_pids", "pids").is_required() && of("lsof_pids", "pids").types.is_none());
    assert!(!of("scp", "dest_server").is_required());
    assert_eq!(of("rsync", "connect_timeout").default, Some(json!(30)));
}

/// `(action, parameters of a caller, arguments of the script)`
#[test]
fn scripts_receive_the_arguments_of_stackstorm() {
    for (name, given, arguments) in [
        ("check_loadavg", json!({}), vec!["all"]),
        ("check_loadavg", json!({"period": "5"}), vec!["5"]),
        ("check_processes", json!({"args": "x"}), vec!["name", "", "x"]),
        ("check_processes", json!({}), vec!["name", "", ""]),
        ("service", json!({"act": "restart", "service": "cron"}), vec!["restart", "cron"]),
        ("traceroute", json!({"host": "a.example"}), vec!["a.example", "30", "3"]),
        (
            "dig",
            json!({"hostname": "a.example"}),
            vec!["--count=0", "--hostname=a.example", "--queryopts=short", "--querytype=A"],
        ),
    ] {
        let action = action(name).check(&linux(), name).0.unwrap();
        let given: Map<String, Value> = serde_json::from_value(given).unwrap();
        let bound = bind(&action.parameters, &given).unwrap();
        assert_eq!(deliver(&action.parameters, &bound, &SiteConfig::default()).arguments, arguments, "{name}");
    }
    for (name, given, parameter) in [
        ("check_loadavg", json!({"period": 5}), "period"),
        ("check_loadavg", json!({"period": "2"}), "period"),
        ("check_processes", json!({"kwarg_op": "-"}), "kwarg_op"),
        ("traceroute", json!({}), "host"),
        ("traceroute", json!({"host": "-x"}), "host"),
        ("traceroute", json!({"host": "a", "hops": "30"}), "hops"),
        ("wait_for_ssh", json!({"hostname": "a", "timeout": 1}), "timeout"),
    ] {
        let action = action(name).check(&linux(), name).0.unwrap();
        let given: Map<String, Value> = serde_json::from_value(given).unwrap();
        let errors = bind(&action.parameters, &given).unwrap_err();
        assert_eq!(errors.iter().map(|e| e.parameter.as_str()).collect::<Vec<_>>(), [parameter], "{name}");
    }
}
