//! Actions run through the real launcher, when it was built.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use packs_schema::agent::execution::State;
use packs_schema::base::name::PackName;

use super::*;

fn pack(at: &Path) -> PathBuf {
    let directory = at.join("demo");
    super::super::scaffold(&PackName::new("demo").unwrap(), super::super::Template::Script, &directory).unwrap();
    directory
}

fn options(pack: &Path, parameters: &[(&str, &str)]) -> TestOptions {
    let parameters = parameters.iter().map(|(n, v)| format!("{n}={v}").parse().unwrap()).collect();
    TestOptions { pack: pack.to_owned(), action: "uptime".into(), parameters, ..TestOptions::default() }
}

/// False, loudly, when the launcher was not built.
fn launcher_is_here(test: &str) -> bool {
    let found = super::launcher::available();
    if !found {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: bolt-launch is not built; run cargo build -p bolt-launch, or set BOLT_LAUNCH"
        );
    }
    found
}

#[test]
fn parameters_are_checked_all_at_once_before_anything_runs() {
    let temp = tempfile::tempdir().unwrap();
    let pack = pack(temp.path());
    let error = run(&options(&pack, &[("processes", "many"), ("what", "x")])).unwrap_err();
    let TestError::Parameters { errors } = error else { panic!("{error}") };
    assert_eq!(errors.len(), 2);
    let unknown = TestOptions { action: "nothing".into(), ..options(&pack, &[]) };
    assert!(matches!(run(&unknown).unwrap_err(), TestError::UnknownAction { .. }));
    let noop = TestOptions { noop: true, ..options(&pack, &[]) };
    assert!(matches!(run(&noop).unwrap_err(), TestError::Noop(_)));
}

#[test]
fn a_new_pack_passes_its_own_test() {
    if !launcher_is_here("a_new_pack_passes_its_own_test") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let outcome = run(&options(&pack(temp.path()), &[("processes", "0")])).unwrap();
    assert_eq!(outcome.exit.state, State::Succeeded, "{outcome:?}");
    let text: Vec<u8> = outcome.output.iter().flat_map(|piece| piece.data.clone()).collect();
    assert!(String::from_utf8_lossy(&text).contains("seconds, load"), "{outcome:?}");
    assert!(outcome.exit.result.unwrap().contains_key("load"));
}

#[test]
fn a_failing_script_is_an_outcome_not_an_error() {
    if !launcher_is_here("a_failing_script_is_an_outcome_not_an_error") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let pack = pack(temp.path());
    let script = pack.join("actions/uptime.sh");
    fs::write(&script, "#!/bin/sh\necho \"processes=$BOLT_PARAM_PROCESSES\"; echo broken >&2; exit 3\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = run(&options(&pack, &[])).unwrap();
    assert_eq!((outcome.exit.state, outcome.exit.exit_status), (State::Failed, Some(3)));
    assert_eq!(outcome.exit.stderr.written_bytes, 7);
}
