//! Actions in a virtual environment, and interpreters that are refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, chown};
use packs_schema::agent::launch::{Refusal, Start};
use serde_json::json;

use crate::driver::{Host, is_root, put, skipped};

const PYTHON: &str = "/usr/bin/python3";
const SCRIPT: &str = "#!/nonexistent/python\nimport os, sys, greet\n\
    print(sys.prefix, sys.argv[1:], os.environ['VIRTUAL_ENV'], os.environ['PATH'].split(':')[0], sys.dont_write_bytecode)\n\
    greet.main()\n";

/// Returns a host with a Python action whose version has a virtual environment like those of the sync, and the environment.
fn ready(test: &str) -> Option<(Host, PathBuf)> {
    let Ok(interpreter) = fs::canonicalize(PYTHON) else {
        skipped(test, "there is no /usr/bin/python3");
        return None;
    };
    let host = Host::new();
    let changes = json!({"runner_type": "python-script", "parameters": {"n": {"type": "integer"}}});
    host.action("it", SCRIPT, changes);
    let venv = host.path(&format!("packs/.venvs/{}", "cd".repeat(32)));
    for dir in ["bin", "lib/modules", ".bolt"] {
        fs::create_dir_all(venv.join(dir)).unwrap();
    }
    symlink(&interpreter, venv.join("bin/python")).unwrap();
    let home = interpreter.parent().unwrap().display().to_string();
    put(&venv.join("pyvenv.cfg"), format!("home = {home}\ninclude-system-site-packages = false\n").as_bytes(), 0o644);
    let version = String::from_utf8(
        std::process::Command::new(PYTHON)
            .args(["-c", "import sys; print('python%d.%d' % sys.version_info[:2], end='')"])
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    let packages = venv.join("lib").join(version).join("site-packages");
    fs::create_dir_all(&packages).unwrap();
    put(&packages.join("greet.py"), b"def main(): print('greetings')\n", 0o644);
    put(&venv.join(".bolt/venv.json"), b"{}", 0o644);
    link(&host, &"cd".repeat(32));
    for dir in [host.path("packs/.venvs"), venv.clone(), venv.join("bin"), venv.join("lib"), venv.join(".bolt")] {
        mode(&dir, 0o755);
    }
    Some((host, venv))
}

/// Writes the reference of the version to an environment.
fn link(host: &Host, venv: &str) {
    put(&host.version().join(".bolt/venv.json"), json!({"format": 1, "venv": venv}).to_string().as_bytes(), 0o644);
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn point(venv: &Path, target: impl AsRef<Path>) {
    fs::remove_file(venv.join("bin/python")).unwrap();
    symlink(target, venv.join("bin/python")).unwrap();
}

/// Checks that a request is refused and nothing is started.
fn refused(host: &mut Host, start: &Start, code: Refusal, words: &str) {
    let (found, message) = host.refused(start);
    assert_eq!(found, code, "{message}");
    assert!(message.contains(words), "{message:?} does not say {words:?}");
    let left = fs::read_dir(host.execution(&start.execution).dir).unwrap().count();
    assert_eq!(left, 0, "something was left behind: {message}");
}

#[test]
fn a_python_action_runs_in_the_environment_of_its_version() {
    let Some((mut host, venv)) = ready("a_python_action_runs_in_the_environment_of_its_version") else { return };
    let request = host.request("it", json!({"n": 3}));
    let finished = host.started(&request).finished();
    let at = venv.display();
    assert_eq!(finished.exit.exit_status, Some(0), "{}", finished.stderr());
    assert_eq!(finished.stdout(), format!("{at} ['--n=3'] {at} {at}/bin True\ngreetings\n"));
    // A shell script of the same pack does not use it.
    host.action("sh", "#!/bin/sh\necho \"${VIRTUAL_ENV-none}\"\n", json!({}));
    let request = host.request("sh", json!({}));
    assert_eq!(host.started(&request).finished().stdout(), "none\n");
}

#[test]
fn an_untrusted_environment() {
    let Some((mut host, venv)) = ready("an_untrusted_environment") else { return };
    let request = host.request("it", json!({}));
    for dir in [host.path("packs/.venvs"), venv.clone(), venv.join("bin")] {
        mode(&dir, 0o775);
        refused(&mut host, &request, Refusal::StoreUntrusted, "must belong to root or the sync's account");
        mode(&dir, 0o755);
        if is_root() {
            chown(&dir, Some(Uid::from_raw(64199)), None).unwrap();
            refused(&mut host, &request, Refusal::StoreUntrusted, "owner 64199");
            chown(&dir, Some(Uid::from_raw(0)), None).unwrap();
        }
    }
    // Incomplete, missing, elsewhere, malformed.
    fs::remove_file(venv.join(".bolt/venv.json")).unwrap();
    refused(&mut host, &request, Refusal::StoreUntrusted, "the next poll builds it again");
    put(&venv.join(".bolt/venv.json"), b"{}", 0o644);
    link(&host, &"ee".repeat(32));
    refused(&mut host, &request, Refusal::StoreUntrusted, "the next poll builds it again");
    link(&host, "../../demo");
    refused(&mut host, &request, Refusal::StoreUntrusted, "venv.json");
    link(&host, &"ff".repeat(32));
    symlink(&venv, host.path(&format!("packs/.venvs/{}", "ff".repeat(32)))).unwrap();
    refused(&mut host, &request, Refusal::StoreUntrusted, "the next poll builds it again");
    link(&host, &"cd".repeat(32));
    mode(&host.version().join(".bolt/venv.json"), 0o666);
    refused(&mut host, &request, Refusal::StoreUntrusted, "must belong to root or the sync's account");
    mode(&host.version().join(".bolt/venv.json"), 0o644);
    assert_eq!(host.started(&request).finished().exit.exit_status, Some(0));
}

#[test]
fn an_untrusted_interpreter() {
    let Some((mut host, venv)) = ready("an_untrusted_interpreter") else { return };
    let request = host.request("it", json!({}));
    point(&venv, "/usr/bin/python-that-is-gone");
    refused(&mut host, &request, Refusal::EntryPointMissing, "python-that-is-gone no longer exists");
    for target in ["python3", "../../../../demo", "/usr/../bin/sh", "/usr//bin/sh", "/"] {
        point(&venv, target);
        refused(&mut host, &request, Refusal::EntryPointOutside, "interpreter");
    }
    // More than one symbolic link.
    let real = fs::canonicalize(PYTHON).unwrap();
    let other = host.path("python");
    symlink(&real, &other).unwrap();
    point(&venv, &other);
    let (code, message) = host.refused(&request);
    assert!(matches!(code, Refusal::EntryPointOutside | Refusal::EntryPointWritable), "{message}");
    point(&venv, "/dev/null");
    refused(&mut host, &request, Refusal::EntryPointNotExecutable, "is not an executable file");
    // In a directory in which any account can replace it.
    fs::remove_file(&other).unwrap();
    fs::copy(&real, &other).unwrap();
    mode(&other, 0o755);
    point(&venv, &other);
    refused(&mut host, &request, Refusal::EntryPointWritable, "/tmp belongs to an interpreter");
    // Not a symbolic link.
    fs::remove_file(venv.join("bin/python")).unwrap();
    fs::copy(&real, venv.join("bin/python")).unwrap();
    refused(&mut host, &request, Refusal::StoreUntrusted, "is not a symbolic link as made by the sync");
    if !is_root() {
        return skipped("an_untrusted_interpreter", "only root can give files away; the rest of it ran");
    }
    let home = tempfile::Builder::new().prefix("bolt-python-").tempdir_in("/opt").unwrap();
    mode(home.path(), 0o755);
    let own = home.path().join("python");
    fs::copy(&real, &own).unwrap();
    fs::remove_file(venv.join("bin/python")).unwrap();
    symlink(&own, venv.join("bin/python")).unwrap();
    for (lax, owner) in [(0o775, 0), (0o757, 0), (0o755, 64199)] {
        mode(&own, lax);
        chown(&own, Some(Uid::from_raw(owner)), None).unwrap();
        refused(&mut host, &request, Refusal::EntryPointWritable, "must be owned by root");
    }
    chown(&own, Some(Uid::from_raw(0)), None).unwrap();
    mode(&own, 0o644);
    refused(&mut host, &request, Refusal::EntryPointNotExecutable, "is not an executable file");
    mode(&own, 0o755);
    assert_eq!(host.started(&request).finished().exit.exit_status, Some(0));
}
