//! Virtual environments, made by the host's own Python from wheels that the tests make. No network.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use packs_schema::agent::store::VenvLink;
use packs_schema::base::name::Digest;
use packs_schema::base::quantity::Span;
use sha2::Digest as _;

use super::archive::{Item, file, pack};
use super::{Bench, FailedVersion, Manifest, tree};

/// Makes `<name>-<version>-py3-none-any.whl` with one module, and one script.
const WHEEL: &str = r#"
import sys, zipfile
directory, name, version, source = sys.argv[1:]
info = "%s-%s.dist-info" % (name, version)
with zipfile.ZipFile("%s/%s-%s-py3-none-any.whl" % (directory, name, version), "w") as wheel:
    def add(path, text):
        wheel.writestr(zipfile.ZipInfo(path), text)  # without a time: the same bytes each time
    add(name + ".py", source)
    add(info + "/METADATA", "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version))
    add(info + "/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    add(info + "/entry_points.txt", "[console_scripts]\n%s-tool = %s:main\n" % (name, name))
    add(info + "/RECORD", "%s.py,,\n" % name)
"#;
/// Leaves a mark when it is built.
const SOURCE: &str = r#"
import io, sys, tarfile
directory, mark = sys.argv[1:]
with tarfile.open(directory + "/evil-1.0.tar.gz", "w:gz") as archive:
    for path, text in {
        "PKG-INFO": "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n",
        "setup.py": "open(%r, 'w').close()\nfrom setuptools import setup\nsetup(name='evil', version='1.0')\n" % mark,
    }.items():
        entry = tarfile.TarInfo("evil-1.0/" + path)
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
"#;

fn python(program: &str, arguments: &[&str]) -> String {
    let output = Command::new("/usr/bin/python3").args(["-c", program]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// False, loudly, where the host cannot make environments.
fn python_is_here(test: &str) -> bool {
    let probe = Command::new("/usr/bin/python3").args(["-I", "-c", packs_schema::agent::python::PROBE]).output();
    let found = probe.is_ok_and(|p| String::from_utf8_lossy(&p.stdout).contains(".whl"));
    if !found {
        use std::io::Write as _;
        writeln!(std::io::stderr(), "SKIPPED {test}: /usr/bin/python3 cannot make virtual environments").unwrap();
    }
    found
}

/// demo 1.0.0 without requirements is active, and the site has a directory of wheels: greet 1.0 and 2.0.
fn bench() -> Bench {
    let mut bench = Bench::active();
    let wheels = bench.temp.path().join("wheels");
    fs::create_dir(&wheels).unwrap();
    for version in ["1.0", "2.0"] {
        wheel(&wheels, "greet", version);
    }
    bench.config.python.wheels = Some(wheels);
    bench.config.python.require_hashes = false;
    bench
}

fn wheel(wheels: &Path, name: &str, version: &str) -> PathBuf {
    let source = format!("def main():\n    print('{name} {version}')\n");
    python(WHEEL, &[&wheels.display().to_string(), name, version, &source]);
    wheels.join(format!("{name}-{version}-py3-none-any.whl"))
}

fn needs(name: &str, version: &str, requirements: &str) -> Vec<Item> {
    [pack(name, version), vec![file("requirements.txt", requirements)]].concat()
}

impl Bench {
    fn offer_needing(&mut self, name: &str, version: &str, requirements: &str) {
        self.offer(name, version, &needs(name, version, requirements));
        self.repository.publish();
    }

    fn venvs(&self) -> Vec<PathBuf> {
        let found = fs::read_dir(self.store().join(".venvs")).into_iter().flatten();
        let found = found.map(|entry| entry.unwrap().path());
        found.filter(|path| path.is_dir() && !path.ends_with(".requests")).collect()
    }

    /// The environment of a pack's active version.
    fn venv(&self, name: &str) -> PathBuf {
        let link = fs::read(self.store().join(name).join("current/.bolt/venv.json")).unwrap();
        let link: VenvLink = serde_json::from_slice(&link).unwrap();
        self.store().join(".venvs").join(link.venv.as_str())
    }

    /// As `expect_failure` in the step of environments, and nothing of one is left.
    fn expect_no_venv(&self, words: &str) -> FailedVersion {
        let failed = self.expect_failure("environment", words);
        assert_eq!(self.venvs(), [""; 0].map(PathBuf::from), "{failed:?}");
        assert!(!failed.message.contains('\n') && failed.message.chars().count() <= 1000);
        failed
    }
}

/// Output of the environment's own interpreter.
fn ask(venv: &Path, program: &str) -> String {
    let output = Command::new(venv.join("bin/python")).args(["-B", "-c", program]).env_clear().output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned() + String::from_utf8_lossy(&output.stderr).trim()
}

#[test]
fn a_pack_gets_what_it_needs_and_shares_it() {
    if !python_is_here("a_pack_gets_what_it_needs_and_shares_it") {
        return;
    }
    let mut bench = bench();
    bench.offer_needing("demo", "1.1.0", "greet==1.0\n");
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"), "{:?}", bench.status());
    let first = bench.venv("demo");
    assert_eq!(ask(&first, "import greet; greet.main()"), "greet 1.0");
    // A script finds the interpreter where it is, and nothing but what was asked for is there.
    let tool = Command::new(first.join("bin/greet-tool")).env_clear().output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tool.stdout), "greet 1.0\n", "{tool:?}");
    assert!(ask(&first, "import pip").contains("No module named 'pip'"));
    let manifest: Manifest = serde_json::from_slice(&fs::read(first.join(".bolt/manifest.json")).unwrap()).unwrap();
    let module = manifest.files.iter().find(|file| file.path.ends_with("site-packages/greet.py")).unwrap();
    let content = fs::read(first.join(&module.path)).unwrap();
    assert_eq!(module.size_bytes, content.len() as u64);
    let hash = sha2::Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(module.sha256, Digest::new(hash).unwrap());

    // The same requirements in another pack and another version: the same environment, not touched.
    let before = tree(&first);
    bench.offer_needing("other", "3.0.0", "greet==1.0\n");
    bench.offer_needing("demo", "1.2.0", "greet==1.0\n");
    bench.poll().unwrap();
    assert_eq!((bench.venv("demo"), bench.venv("other")), (first.clone(), first.clone()));
    assert_eq!(tree(&first), before);
    // Others: another one, and the first stays for the versions that refer to it.
    bench.offer_needing("demo", "1.3.0", "greet==2.0\n");
    bench.poll().unwrap();
    let second = bench.venv("demo");
    assert!(second != first && first.exists());
    assert_eq!(ask(&second, "import greet; greet.main()"), "greet 2.0");
    assert_eq!(fs::read_dir(bench.store().join(".staging")).unwrap().count(), 0, "staging is left");
}

#[test]
fn a_failed_installation_keeps_the_old_version_and_reports_pips_message() {
    if !python_is_here("a_failed_installation_keeps_the_old_version_and_reports_pips_message") {
        return;
    }
    let mut bench = bench();
    bench.offer_needing("demo", "1.1.0", "nosuch==1.0\n");
    let failed = bench.expect_no_venv("No matching distribution found for nosuch==1.0");
    assert!(failed.message.starts_with("pip cannot install what requirements.txt asks for: "), "{failed:?}");
    bench.offer_needing("demo", "1.1.1", "greet==9.9\n");
    let failed = bench.expect_no_venv("No matching distribution found for greet==9.9");
    assert!(failed.message.contains("from versions: 1.0, 2.0"), "{failed:?}");
    assert!(failed.message.contains("not the version that greet==9.9 asks for; it has 1.0, 2.0"), "{failed:?}");
    assert!(!failed.message.contains("allow_source"), "{failed:?}");
    // A wheel that is none.
    fs::write(bench.temp.path().join("wheels/broken-1.0-py3-none-any.whl"), "no zip").unwrap();
    bench.offer_needing("demo", "1.1.2", "broken==1.0\n");
    bench.expect_no_venv("broken");
}

#[test]
fn a_misspelt_project_and_a_refused_login_are_distinguished() {
    if !python_is_here("a_misspelt_project_and_a_refused_login_are_distinguished") {
        return;
    }
    let mut bench = bench();
    let cases = [
        ("1.1.0", "404 Not Found", "no project nosuch (HTTP 404): check the spelling"),
        ("1.1.1", "401 Unauthorized", "refused access to nosuch (HTTP 401)"),
        ("1.1.2", "403 Forbidden", "refused access to nosuch (HTTP 403)"),
    ];
    for (version, status, words) in cases {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let index = std::thread::spawn(move || {
            use std::io::{BufRead, BufReader, Write};
            let (stream, _) = listener.accept().unwrap();
            let head = BufReader::new(&stream).lines().map(Result::unwrap);
            assert!(head.take_while(|line| !line.is_empty()).any(|line| line.contains("/simple/nosuch/")));
            write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        });
        bench.config.python.index = Some(format!("http://me:canary@127.0.0.1:{port}/simple"));
        bench.offer_needing("demo", version, "nosuch==1.0\n");
        let failed = bench.expect_no_venv(words);
        index.join().unwrap();
        for word in ["canary", "allow_source", "staging"] {
            assert!(!failed.message.contains(word), "{failed:?}");
        }
    }
}

#[test]
fn hashes_are_honoured_and_may_be_required() {
    if !python_is_here("hashes_are_honoured_and_may_be_required") {
        return;
    }
    let mut bench = bench();
    let wheel = fs::read(bench.temp.path().join("wheels/greet-1.0-py3-none-any.whl")).unwrap();
    let right = sha2::Sha256::digest(&wheel).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let wrong = "0".repeat(64);
    bench.offer_needing("demo", "1.1.0", &format!("greet==1.0 --hash=sha256:{wrong}\n"));
    let failed = bench.expect_no_venv("DO NOT MATCH THE HASHES");
    assert!(failed.message.contains("greet"), "{failed:?}");
    // If one requirement has a hash, all must have one.
    self::wheel(&bench.temp.path().join("wheels"), "plain", "1.0");
    bench.offer_needing("demo", "1.1.1", &format!("greet==1.0 --hash=sha256:{right}\nplain==1.0\n"));
    bench.expect_no_venv("Hashes are required in --require-hashes mode");
    bench.config.python.require_hashes = packs_schema::agent::config::PythonConfig::default().require_hashes;
    bench.offer_needing("demo", "1.1.2", "greet==1.0\n");
    bench.expect_no_venv("1 of its requirements carry no hash (greet on line 1)");
    bench.offer_needing("demo", "1.1.3", &format!("greet==1.0 \\\n    --hash=sha256:{right}\n"));
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.3"), "{:?}", bench.status());
}

#[test]
fn source_is_not_built_unless_the_site_allows_it() {
    if !python_is_here("source_is_not_built_unless_the_site_allows_it") {
        return;
    }
    let mut bench = bench();
    let mark = bench.temp.path().join("was-built");
    let wheels = bench.temp.path().join("wheels");
    python(SOURCE, &[wheels.to_str().unwrap(), mark.to_str().unwrap()]);
    bench.offer_needing("demo", "1.1.0", "evil==1.0\n");
    bench.expect_no_venv("python.allow_source = true allows that");
    assert!(!mark.exists(), "code of the source distribution was run");
    // Where it is allowed, pip goes on to build it, which these wheels have no tools for.
    bench.config.python.allow_source = true;
    bench.offer_needing("demo", "1.1.1", "evil==1.0\n");
    let failed = bench.expect_failure("environment", "");
    assert!(!failed.message.contains("allow_source"), "{failed:?}");
    // Nor by an option in what is a comment, but not in the encoding that another comment declares.
    bench.config.python.allow_source = false;
    bench.offer_needing("demo", "1.1.2", "# coding: utf-7\n# +AAo---no-binary :all:\nevil==1.0\n");
    bench.expect_failure("check", "declares an encoding");
    assert!(!mark.exists(), "code of the source distribution was run");
}

#[test]
fn an_interpreter_that_hangs_is_ended() {
    let mut bench = bench();
    let at = bench.temp.path().to_owned();
    // Says what it is, and makes environments that never come to an end.
    let probe = "{\"executable\":\"AT/python\",\"abi\":\"x\",\"platform\":\"x\",\"version\":\"3.0.0\",\"venv\":true,\"pip\":\"/x.whl\"}"
        .replace("AT", at.to_str().unwrap());
    let script =
        format!("#!/bin/sh\ncase \"$*\" in *venv*--without-pip*) echo begun; exec sleep 600;; esac\necho '{probe}'\n");
    fs::write(at.join("python"), script).unwrap();
    fs::set_permissions(at.join("python"), fs::Permissions::from_mode(0o755)).unwrap();
    bench.config.python.interpreter = at.join("python");
    bench.config.python.timeout = Span(Duration::from_secs(1));
    bench.offer_needing("demo", "1.1.0", "greet==1.0\n");
    bench.expect_no_venv("it took longer than 1 s and was killed; begun");
}

#[test]
fn a_source_that_others_may_change_is_not_installed() {
    let mut bench = bench();
    bench.offer_needing("demo", "1.1.0", "greet==1.0\n");
    let wheels = bench.temp.path().join("wheels");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for path in [wheels.clone(), wheels.join("greet-1.0-py3-none-any.whl")] {
        mode(&path, 0o777);
        bench.expect_no_venv("not be writable by group or others");
        mode(&path, 0o755);
    }
    let pip = bench.temp.path().join("pip.conf");
    fs::write(&pip, "[global]\nindex-url = https://me:canary@index.example/simple\n").unwrap();
    bench.config.python.pip_config = Some(pip.clone());
    mode(&pip, 0o644);
    let failed = bench.expect_no_venv("can be read by all users");
    assert!(!failed.message.contains("canary"), "{failed:?}");
    bench.config.python.interpreter = "/nonexistent/python3".into();
    bench.expect_no_venv("python.interpreter /nonexistent/python3 cannot be used: No such file");
}

#[test]
fn the_sites_index_is_used_with_credentials_that_are_never_shown() {
    if !python_is_here("the_sites_index_is_used_with_credentials_that_are_never_shown") {
        return;
    }
    let mut bench = bench();
    bench.config.python.wheels = None;
    // A port without a listener: pip reports which address it could not reach.
    let pip = bench.temp.path().join("pip.conf");
    fs::write(&pip, "[global]\nindex-url = http://me:canary@127.0.0.1:9/simple\nretries = 0\n").unwrap();
    fs::set_permissions(&pip, fs::Permissions::from_mode(0o600)).unwrap();
    bench.config.python.pip_config = Some(pip);
    bench.config.python.timeout = Span(Duration::from_secs(30));
    bench.offer_needing("demo", "1.1.0", "greet==1.0\n");
    let failed = bench.expect_no_venv("the package index cannot be reached: ");
    assert!(failed.message.contains("Connection refused") && failed.message.contains("greet"), "{failed:?}");
    for word in ["canary", "allow_source", "No matching distribution", "object at"] {
        assert!(!failed.message.contains(word), "{failed:?}");
    }
}

#[test]
fn an_environment_that_was_lost_or_not_finished_is_made_again() {
    if !python_is_here("an_environment_that_was_lost_or_not_finished_is_made_again") {
        return;
    }
    let mut bench = bench();
    bench.offer_needing("demo", "1.1.0", "greet==1.0\n");
    bench.poll().unwrap();
    let venv = bench.venv("demo");
    // As after a crash before its record was written.
    fs::remove_file(venv.join(".bolt/venv.json")).unwrap();
    fs::remove_dir_all(venv.join("lib")).unwrap();
    bench.poll().unwrap();
    assert!(bench.status().failed.is_empty(), "{:?}", bench.status());
    assert_eq!(ask(&bench.venv("demo"), "import greet; greet.main()"), "greet 1.0");
    // Gone as a whole; and then the wheel as well.
    fs::remove_dir_all(&venv).unwrap();
    bench.poll().unwrap();
    assert_eq!(ask(&bench.venv("demo"), "import greet; greet.main()"), "greet 1.0");
    fs::remove_dir_all(&venv).unwrap();
    fs::remove_file(bench.temp.path().join("wheels/greet-1.0-py3-none-any.whl")).unwrap();
    bench.poll().unwrap();
    let failed = &bench.status().failed[0].1;
    assert_eq!((failed.step.as_str(), bench.current("demo").as_deref()), ("environment", Some("1.1.0")), "{failed:?}");
}

#[test]
fn an_interpreter_that_leaves_the_host_is_followed_by_another() {
    if !python_is_here("an_interpreter_that_leaves_the_host_is_followed_by_another") {
        return;
    }
    let mut bench = bench();
    // The one before an upgrade of the system.
    let old = bench.temp.path().join("python3.old");
    fs::copy("/usr/bin/python3", &old).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    bench.config.python.interpreter = old.clone();
    bench.offer_needing("demo", "1.1.0", "greet==1.0\n");
    bench.poll().unwrap();
    assert!(bench.status().failed.is_empty(), "{:?}", bench.status());
    let first = bench.venv("demo");
    assert_eq!(fs::read_link(first.join("bin/python")).unwrap(), old);
    fs::remove_file(&old).unwrap();
    bench.config.python = packs_schema::agent::config::PythonConfig {
        wheels: bench.config.python.wheels.clone(),
        require_hashes: false,
        ..Default::default()
    };
    bench.poll().unwrap();
    let second = bench.venv("demo");
    assert!(second != first && first.exists(), "an execution may still run in the first");
    assert_eq!(ask(&second, "import greet; greet.main()"), "greet 1.0");
}

const FULL: &str = "sync::tests::venvs::a_full_disk_is_said_and_keeps_the_old_version";
/// Set in the process that has mounts of its own.
const INSIDE: &str = "BOLT_TEST_INSIDE";

/// The directory of environments is a small tmpfs, in a mount namespace of the test's own.
#[test]
fn a_full_disk_is_said_and_keeps_the_old_version() {
    use std::io::Write as _;
    if std::env::var_os(INSIDE).is_some() {
        return on_a_full_disk();
    }
    if !python_is_here(FULL) {
        return;
    }
    let probe = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return writeln!(std::io::stderr(), "SKIPPED {FULL}: no mounts of one's own can be made here").unwrap();
    }
    let mut inside = Command::new("unshare");
    inside.arg("-m").arg(std::env::current_exe().unwrap()).args(["--exact", FULL, "--nocapture"]).env(INSIDE, "1");
    let output = inside.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn on_a_full_disk() {
    let mut bench = bench();
    let venvs = bench.store().join(".venvs");
    fs::create_dir(&venvs).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=160k,mode=755", "none"]).arg(&venvs).status();
    assert!(mounted.unwrap().success());
    let wheels = bench.temp.path().join("wheels");
    let source = "x = 'no room for this'\n".repeat(5000);
    python(WHEEL, &[wheels.to_str().unwrap(), "large", "1.0", &source]);
    bench.offer_needing("demo", "1.1.0", "large==1.0\n");
    bench.expect_no_venv("No space left on device");
    let unmounted = Command::new("umount").arg(&venvs).status();
    assert!(unmounted.unwrap().success());
}

#[test]
fn conflicting_requirements_are_reported_with_pips_message() {
    if !python_is_here("conflicting_requirements_are_reported_with_pips_message") {
        return;
    }
    let mut bench = bench();
    wheel(&bench.temp.path().join("wheels"), "greet", "2.0");
    bench.offer_needing("demo", "1.1.0", "greet==1.0\ngreet==2.0\n");
    let failed = bench.expect_no_venv("greet==2.0");
    println!("{}", failed.message);
    assert!(failed.message.contains("conflict") && !failed.message.contains("allow_source"), "{failed:?}");
    assert!(!failed.message.contains(".scratch") && !failed.message.contains("/packs/"), "{failed:?}");
}
