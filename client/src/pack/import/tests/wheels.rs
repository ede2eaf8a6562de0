//! Addresses in `requirements.txt`: without wheels, with all of them, with some, and with wheels that cannot be used. Real pip
//! installs what an import wrote.

use std::io::Write as _;

use packs_schema::agent::config::PythonConfig;
use packs_schema::agent::python::PROBE;

use super::executed::{stderr, unless_skipped};
use super::stackstorm::Pack;
use super::*;
use crate::pack::import::wheels::tests::{put, wheel};
use crate::pack::test::{TestError, TestOptions, TestOutcome, run};

const ADDRESS: &str = "-e git+https://git.example/a/greet@stackstorm#egg=Greet";
const ACTION: &str = "name: hello\nrunner_type: python-script\nentry_point: hello.py\n";
const PROGRAM: &str = "import greet\nimport six\nfrom st2common.runners.base_action import Action\n\n\
                       class Hello(Action):\n    def run(self):\n        return {'version': greet.VERSION, 'six': six.VERSION}\n";
/// Headers of the wheel of the address, which needs another one.
const NEEDS_WORDS: &str = "Requires-Dist: words>=1\n";

/// A pack with an action that needs `greet`, and `six` of StackStorm's environment.
fn pack(requirements: &str) -> Pack {
    Pack::new(&[("actions/hello.yaml", ACTION), ("actions/hello.py", PROGRAM), ("requirements.txt", requirements)])
}

fn imported(pack: &Pack) -> Result<Report, ImportError> {
    let wheels = Wheels::open(&pack.temp.path().join("wheels"))?;
    import_with(&pack.at(""), &pack.temp.path().join("pack"), Some(&wheels))
}

fn text(pack: &Pack) -> String {
    fs::read_to_string(pack.temp.path().join("pack/requirements.txt")).unwrap()
}

/// Returns verdict and findings of the action, then those of the pack.
fn told(report: &Report) -> (Verdict, String, String) {
    let lines = |findings: &[ImportFinding]| findings.iter().map(|it| format!("{it}\n")).collect::<String>();
    let action = report.actions.iter().find(|action| action.name == "hello").unwrap();
    (action.verdict(), lines(&action.findings), lines(&report.findings))
}

#[test]
fn without_wheels_the_report_has_the_commands_that_make_them() {
    let pack = pack(&format!("requests>=2.5,<3  # http\n{ADDRESS}\n"));
    let (verdict, action, source) = told(&pack.import().unwrap());
    assert_eq!(verdict, Verdict::CannotRun);
    assert!(
        action.contains("it imports greet, and requirements.txt:2 names an address (git+https://git.example/a/greet@")
    );
    let command = "`python3 -m pip wheel --wheel-dir wheels 'requests>=2.5,<3' 'git+https://git.example/a/greet@stackstorm#egg=Greet' six`; \
                   then import again with `--wheels wheels`";
    assert!(source.contains("requirements.txt:2: \"git+https://") && source.contains(command), "{source}");
    assert!(
        text(&pack).contains("\n# not imported: git+https://git.example/a/greet@stackstorm#egg=Greet\n"),
        "{}",
        text(&pack)
    );
    // A pack of which nothing else runs says the same.
    fs::remove_file(pack.at("actions/zzz.yaml")).unwrap();
    let error = import(&pack.at(""), &pack.temp.path().join("none")).unwrap_err().to_string();
    assert!(error.contains(command), "{error}");
}

#[test]
fn an_address_that_a_shell_would_misread_or_that_has_no_name_is_told_so() {
    let pack = self::pack(
        "git+https://user:t0p@git.example/a/$(id)#egg=greet\nhttps://git.example/x.zip\n--index-url https://i.example\n",
    );
    let (_, action, source) = told(&pack.import().unwrap());
    for words in [
        "requirements.txt:1: \"git+https://****@git.example/a/$(id)#egg=greet\" is an address",
        "`python3 -m pip wheel --wheel-dir wheels …` with the address",
        "write #egg=NAME, the name of its distribution, at the end of line 2",
        "requirements.txt:3: \"--index-url https://i.example\" is an option or a path",
    ] {
        assert!(source.contains(words), "{words:?} is not in {source}");
    }
    assert!(![action, source, text(&pack)].concat().contains("t0p"), "the password of an address is copied");
}

#[test]
fn wheels_take_the_place_of_addresses_with_their_hashes() {
    let pack = pack(&format!("# What it needs\n{ADDRESS}\n"));
    let wheels = pack.temp.path().join("wheels");
    put(&wheels, "greet", "1.0", NEEDS_WORDS);
    put(&wheels, "words", "2.0", "");
    put(&wheels, "six", "1.16", "");
    put(&wheels, "unused", "1.0", "");
    let (verdict, action, source) = told(&imported(&pack).unwrap());
    assert_eq!(verdict, Verdict::MadeSafer);
    assert!(action.contains("a wheel with a hash takes its place [requirement_pinned]"), "{action}");
    let words = "requirements.txt:2: git+https://git.example/a/greet@stackstorm#egg=Greet became greet==1.0 with the hash of \
                 greet-1.0-py3-none-any.whl: put that file into the site's index or directory of wheels";
    assert!(source.contains(words), "{source}");
    assert!(
        source.contains("the site needs these files as well: six-1.16-py3-none-any.whl, words-2.0-py3-none-any.whl")
    );
    assert!(!source.contains("requirements_unpinned"), "{source}");
    let hash = |name: &str| {
        let bytes = fs::read(wheels.join(name)).unwrap();
        use sha2::Digest as _;
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let wanted = format!(
        "# What it needs\n# git+https://git.example/a/greet@stackstorm#egg=Greet\ngreet==1.0 \\\n    --hash=sha256:{}\n\
         # Of StackStorm's own environment:\nsix==1.16 \\\n    --hash=sha256:{}\n# Needed by those above:\nwords==2.0 \\\n    --hash=sha256:{}\n",
        hash("greet-1.0-py3-none-any.whl"),
        hash("six-1.16-py3-none-any.whl"),
        hash("words-2.0-py3-none-any.whl")
    );
    assert_eq!(text(&pack), wanted);
    let linted = lint(&pack.temp.path().join("pack")).unwrap();
    let about: Vec<_> = linted.findings.iter().filter(|finding| finding.at.starts_with("requirements.txt")).collect();
    assert!(linted.builds() && about.is_empty(), "{about:?}");
}

#[test]
fn an_incomplete_directory_of_wheels_changes_nothing_and_is_told() {
    let pack = self::pack(&format!("{ADDRESS}\nidna==3.7 --hash=sha256:{}\n", "0".repeat(64)));
    let wheels = pack.temp.path().join("wheels");
    put(&wheels, "greet", "1.0", NEEDS_WORDS);
    let (verdict, _, source) = told(&imported(&pack).unwrap());
    assert_eq!(verdict, Verdict::CannotRun);
    let words = "the directory of wheels lacks six (an action), words>=1 (greet 1.0); build wheels of all requirements";
    assert!(source.contains(words), "{source}");
    assert!(
        text(&pack).contains("# not imported: git+https") && !text(&pack).contains("greet==1.0"),
        "{}",
        text(&pack)
    );
    // A wheel of another name than the address says.
    fs::remove_dir_all(pack.temp.path().join("pack")).unwrap();
    fs::rename(wheels.join("greet-1.0-py3-none-any.whl"), wheels.join("greetings-1.0-py3-none-any.whl")).unwrap();
    let (verdict, _, source) = told(&imported(&pack).unwrap());
    assert!(verdict == Verdict::CannotRun && source.contains("lacks Greet (requirements.txt:1), six"), "{source}");
    // Without an address, names and versions stay, and the report says what hashes would need.
    let plain = self::pack("requests\n");
    put(&plain.temp.path().join("wheels"), "six", "1.16", "");
    let (_, _, source) = told(&imported(&plain).unwrap());
    assert!(
        source
            .contains("lacks requests (requirements.txt:1): `python3 -m pip wheel --wheel-dir wheels 'requests' six`"),
        "{source}"
    );
    assert!(text(&plain).starts_with("requests\n"));
}

#[test]
fn after_a_wheel_that_cannot_be_used_nothing_is_written() {
    let good = |name: &str| format!("{name}-1.0-py3-none-any.whl");
    let whole = || wheel("greet", "1.0", "").bytes();
    type Files = Vec<(String, Vec<u8>)>;
    let cases: Vec<(Files, &str)> = vec![
        (vec![(good("greet"), wheel("evil", "1.0", "").bytes())], "one directory \"greet-1.0.dist-info\""),
        (vec![(good("greet"), b"no zip".to_vec())], "it is not a zip archive"),
        (vec![("greet-1.0-py2-none-any.whl".to_owned(), whole())], "it is for Python 2 (py2-none-any)"),
        (
            vec![
                (good("greet"), whole()),
                ("greet-1.1-py3-none-any.whl".to_owned(), wheel("greet", "1.1", "").bytes()),
            ],
            "versions 1.0 and 1.1 of it are there",
        ),
        // The one that was built, and one of that name and version that pip found on an index.
        (
            vec![(good("greet"), whole()), ("Greet-1.0-py3-none-any.whl".to_owned(), whole())],
            "two wheels are that version of it",
        ),
    ];
    for (files, words) in cases {
        let pack = pack(ADDRESS);
        let (wheels, out) = (pack.temp.path().join("wheels"), pack.temp.path().join("out"));
        fs::create_dir_all(&out).unwrap();
        put(&wheels, "six", "1.16", "");
        for (name, bytes) in files {
            fs::write(wheels.join(name), bytes).unwrap();
        }
        let opened = Wheels::open(&wheels).unwrap();
        let error = import_with(&pack.at(""), &out.join("pack"), Some(&opened)).unwrap_err();
        assert!(matches!(error, ImportError::Wheel { .. }), "{error:?}");
        assert!(
            error.to_string().to_lowercase().contains("wheels/greet-1") && error.to_string().contains(words),
            "{error}"
        );
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "something was written");
    }
    // Only packs of StackStorm have requirements.
    let pack = pack(ADDRESS);
    put(&pack.temp.path().join("wheels"), "six", "1.16", "");
    let wheels = Wheels::open(&pack.temp.path().join("wheels")).unwrap();
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ssm/shapes");
    let error = import_with(&documents, &pack.temp.path().join("pack"), Some(&wheels)).unwrap_err();
    assert!(
        error.to_string().contains("is no pack of StackStorm") && !pack.temp.path().join("pack").exists(),
        "{error}"
    );
}

/// Runs the action; what pip installs comes from `wheels`, and from an index if there is one.
fn run_with(pack: &Pack, wheels: &str, index: Option<String>) -> Result<TestOutcome, TestError> {
    let wheels = Some(pack.temp.path().join(wheels));
    run(&TestOptions {
        pack: pack.temp.path().join("pack"),
        action: "hello".to_owned(),
        run_as_me: true,
        python: PythonConfig { wheels, index, ..PythonConfig::default() },
        ..TestOptions::default()
    })
}

/// True if the host's Python can make environments; says otherwise that the test is skipped.
fn has_pip(test: &str) -> bool {
    let probe = std::process::Command::new("/usr/bin/python3").args(["-I", "-c", PROBE]).output();
    let has = probe.is_ok_and(|probe| String::from_utf8_lossy(&probe.stdout).contains(".whl"));
    if !has {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: /usr/bin/python3 cannot make virtual environments");
    }
    has
}

#[test]
fn pip_installs_these_wheels_and_no_others_of_their_names() {
    const TEST: &str = "pip_installs_these_wheels_and_no_others_of_their_names";
    if !has_pip(TEST) {
        return;
    }
    let pack = pack(ADDRESS);
    let at = |path: &str| pack.temp.path().join(path);
    put(&at("wheels"), "greet", "1.0", NEEDS_WORDS);
    for directory in ["wheels", "others"] {
        put(&at(directory), "words", "2.0", "");
        put(&at(directory), "six", "1.16", "");
    }
    imported(&pack).unwrap();
    let Some(outcome) = unless_skipped(TEST, run_with(&pack, "wheels", None)) else { return };
    let result = outcome.exit.result.clone().map(serde_json::Value::Object);
    let wanted = serde_json::json!({"version": "1.0", "six": "1.16"});
    assert_eq!(result, Some(wanted), "{outcome:?}: {}", stderr(&outcome));

    // Another distribution of that name and version, or of a later one, as the owner of a public index could have it.
    for (version, words) in
        [("1.0", "DO NOT MATCH THE HASHES"), ("9.9", "No matching distribution found for greet==1.0")]
    {
        fs::create_dir_all(at("index/greet")).unwrap();
        put(&at("index/greet"), "greet", version, "Summary: another one\n");
        let file = format!("greet-{version}-py3-none-any.whl");
        fs::write(at("index/greet/index.html"), format!("<a href=\"{file}\">{file}</a>")).unwrap();
        let index = Some(format!("file://{}", at("index").display()));
        let error = run_with(&pack, "others", index).unwrap_err().to_string();
        assert!(error.contains("pip cannot install") && error.contains(words), "{error}");
    }
}
