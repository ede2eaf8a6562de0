//! The judgement of `.ci/tests` about failed tests, tried on a small package of its own with the real cargo.
#![expect(clippy::unwrap_used, reason = "a test that fails should fail where it stands")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Package of five tests, each controlled by a file: `pass`, `fail`, `flaky` (fail in the first run only) or `abort`.
const SOURCE: &str = r#"
fn play(name: &str) {
    let behaviour = std::fs::read_to_string(format!("plan/{name}")).unwrap_or_default();
    let seen = format!("plan/{name}.seen");
    let first = !std::path::Path::new(&seen).exists();
    std::fs::write(&seen, "").unwrap();
    match behaviour.as_str() {
        "fail" => panic!("{name} always fails"),
        "flaky" if first => panic!("{name} failed once"),
        "abort" => std::process::abort(),
        _ => {}
    }
}
#[test] fn one() { play("one") }
#[test] fn two() { play("two") }
#[test] fn three() { play("three") }
#[test] fn four() { play("four") }
#[test] fn two_and_more() { play("two_and_more") }
"#;

struct Package(tempfile::TempDir);

impl Package {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let manifest = "[package]\nname = \"played\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n\
                        doctest = false\n[workspace]\nmembers = [\"other\"]\n";
        fs::write(place.path().join("Cargo.toml"), manifest).unwrap();
        fs::write(place.path().join("lib.rs"), SOURCE).unwrap();
        // A second member, so that cargo names the package of a failed test. It has a test of the same name.
        fs::create_dir(place.path().join("other")).unwrap();
        let other = manifest.replace("played", "other").replace("[workspace]\nmembers = [\"other\"]\n", "");
        fs::write(place.path().join("other/Cargo.toml"), other).unwrap();
        fs::write(place.path().join("other/lib.rs"), "#[test] fn two() {}\n").unwrap();
        Self(place)
    }

    /// Runs `.ci/tests` with the given behaviours; returns whether it was content, and what it printed.
    fn judge(&self, behaviours: &[(&str, &str)]) -> (bool, String) {
        let plan = self.0.path().join("plan");
        let _ = fs::remove_dir_all(&plan);
        fs::create_dir(&plan).unwrap();
        for (name, behaviour) in behaviours {
            fs::write(plan.join(name), behaviour).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".ci/tests");
        let output = Command::new("/usr/bin/python3")
            .arg(script)
            .args(["--workspace", "--no-fail-fast", "--offline"])
            .current_dir(self.0.path())
            .env("CARGO_TARGET_DIR", self.0.path().join("target"))
            .env("CARGO_TERM_COLOR", "never")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

#[test]
fn a_failed_test_is_run_again_alone_and_told_from_a_broken_one() {
    if !Path::new("/usr/bin/python3").exists() {
        let _ = writeln!(std::io::stderr(), "SKIPPED ci: there is no /usr/bin/python3");
        return;
    }
    let package = Package::new();

    let (content, text) = package.judge(&[]);
    assert!(content, "{text}");
    assert_eq!(last_line(&text), "6 passed, 0 failed, 0 skipped, 0 flaky");
    assert!(text.contains("== the slowest 20 tests"), "{text}");
    assert!(text.lines().any(|line| line.ends_with("unittests lib.rs: one") && line.contains(" s  ")), "{text}");

    // Passes alone: named, with its first output, and the run is green. A test whose name begins alike is not run instead.
    let (content, text) = package.judge(&[("two", "flaky")]);
    assert!(content, "{text}");
    assert_eq!(last_line(&text), "6 passed, 0 failed, 0 skipped, 1 flaky");
    let (_, flaky) = text.split_once("FLAKY unittests lib.rs: two:").unwrap_or_else(|| panic!("{text}"));
    assert!(flaky.contains("two failed once"), "{text}");

    // Fails again: red, although another one was only flaky.
    let (content, text) = package.judge(&[("one", "flaky"), ("two", "fail")]);
    assert!(!content, "{text}");
    assert_eq!(last_line(&text), "5 passed, 1 failed, 0 skipped, 1 flaky");

    // Too many for chance: nothing is run again.
    let behaviours = [("one", "flaky"), ("two", "flaky"), ("three", "flaky"), ("four", "flaky")];
    let (content, text) = package.judge(&behaviours);
    assert!(!content, "{text}");
    assert!(!text.contains("== again, alone"), "{text}");
    assert_eq!(last_line(&text), "2 passed, 4 failed, 0 skipped, 0 flaky");

    // A binary that dies names no failed test, and is no success either.
    let (content, text) = package.judge(&[("one", "abort")]);
    assert!(!content, "{text}");
}
