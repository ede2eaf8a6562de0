//! Sources with odd names, encodings and places: what is told of them, and what is left behind.

use super::*;

const ACTION: &str = "name: a\nrunner_type: local-shell-cmd\nparameters: {cmd: {default: 'true', immutable: true}}\n";
const JOB: &str = "- name: j\n  sequence: {commands: [{exec: 'true'}]}\n";
const DOCUMENT: &str = "{\"schemaVersion\": \"2.2\", \"mainSteps\": [{\"action\": \"aws:runShellScript\", \"name\": \"s\", \"inputs\": \
                        {\"runCommand\": [\"true\"]}}]}";

struct Source {
    temp: tempfile::TempDir,
}

impl Source {
    fn new(files: &[(&str, &[u8])]) -> Source {
        let source = Source { temp: tempfile::tempdir().unwrap() };
        fs::create_dir(source.at("from")).unwrap();
        for (path, bytes) in files {
            let full = source.at("from").join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, bytes).unwrap();
        }
        source
    }

    fn at(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    fn import(&self, path: &str) -> Result<Report, ImportError> {
        import(&self.at("from").join(path), &self.at("pack"))
    }

    fn all(&self, to: &str) -> Vec<String> {
        let sources = import_all(&self.at("from"), &self.at(to), None).unwrap().sources;
        let said = |source: &ImportedSource| match &source.outcome {
            Ok(report) => format!("{}: {}", source.directory.display(), report.pack),
            Err(error) => format!("{}: {error}", source.directory.display()),
        };
        sources.iter().map(said).collect()
    }
}

#[test]
fn a_collection_of_which_nothing_is_imported_leaves_nothing_behind() {
    let source = Source::new(&[("pack.yaml", b"name: ../x\nversion: 1.0.0\n"), ("actions/a.yaml", ACTION.as_bytes())]);
    let said = source.all("new/deep/to");
    assert!(said.len() == 1 && said[0].starts_with(".: pack.yaml of the source has a name"), "{said:?}");
    assert!(!source.at("new").exists());
    fs::create_dir(source.at("old")).unwrap();
    source.all("old");
    assert!(source.at("old").exists(), "what was there stays");
}

#[test]
fn a_collection_that_is_a_document_is_told_with_a_remedy() {
    let source = Source::new(&[("j.yaml", JOB.as_bytes())]);
    let error = import_all(&source.at("from/j.yaml"), &source.at("to"), None).unwrap_err().to_string();
    assert!(error.ends_with("j.yaml is no directory; leave --all out to import one document"), "{error}");
    assert!(!source.at("to").exists());
}

#[test]
fn documents_of_two_systems_in_one_directory_are_told() {
    let source = Source::new(&[("j.yaml", JOB.as_bytes()), ("s.json", DOCUMENT.as_bytes())]);
    let said = source.all("to");
    assert_eq!(said[0], ".: from");
    assert!(
        said[1].contains("it has documents of two systems, which would both be the pack from; move one"),
        "{said:?}"
    );
    let report = source.import("").unwrap();
    let left: Vec<&str> = report.left_out.iter().map(|left| left.file.as_str()).collect();
    assert_eq!(left, ["j.yaml"]);
}

#[test]
fn a_document_that_is_not_utf_8_is_named() {
    let wide: Vec<u8> = "\u{feff}".encode_utf16().chain(DOCUMENT.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let latin = [b"# caf\xe9\n", JOB.as_bytes()].concat();
    for (name, bytes) in [("s.json", wide), ("j.yaml", latin)] {
        let source = Source::new(&[(name, &bytes)]);
        for path in [name, ""] {
            let error = source.import(path).unwrap_err().to_string();
            assert_eq!(error, format!("{name} of the source is refused: it is not UTF-8; save it as UTF-8"));
        }
        let error = import_all(&source.at("from"), &source.at("to"), None).unwrap_err().to_string();
        assert!(error.contains(&format!("not looked at: {name} (it is not UTF-8")), "{error}");
    }
}

#[test]
fn names_with_line_breaks_make_no_lines() {
    let source = Source::new(&[("a\nbolt: wrote it.json", DOCUMENT.as_bytes())]);
    let error = source.import("").unwrap_err().to_string();
    assert!(!error.contains('\n') && error.contains("a\\nbolt"), "{error}");
}

#[test]
fn an_action_whose_file_no_pack_may_have_cannot_run() {
    let python = |file: &str| format!("name: p\nrunner_type: python-script\nentry_point: \"{file}\"\n");
    let class = b"class A:\n    def run(self):\n        pass\n";
    let with_library = b"import \xc3\xa9\nclass A:\n    def run(self):\n        pass\n";
    let shell = "name: p\nrunner_type: local-shell-script\nentry_point: a b.sh\n";
    let cases: [Vec<(&str, Vec<u8>)>; 4] = [
        vec![("actions/p.yaml", python("a b.py").into()), ("actions/a b.py", class.to_vec())],
        vec![("actions/p.yaml", python("a\\nb.py").into()), ("actions/a\nb.py", class.to_vec())],
        vec![
            ("actions/p.yaml", python("p.py").into()),
            ("actions/p.py", with_library.to_vec()),
            ("actions/lib/\u{e9}.py", b"x = 1\n".to_vec()),
        ],
        vec![("actions/p.yaml", shell.into()), ("actions/a b.sh", b"#!/bin/sh\n".to_vec())],
    ];
    for case in cases {
        let mut files: Vec<(&str, &[u8])> =
            vec![("pack.yaml", b"name: good\nversion: 1.0.0\n"), ("actions/a.yaml", ACTION.as_bytes())];
        files.extend(case.iter().map(|(path, bytes)| (*path, bytes.as_slice())));
        let report = Source::new(&files).import("").unwrap();
        let action = report.actions.iter().find(|action| action.name == "p").unwrap();
        let said = action.deciding().next().map(ToString::to_string).unwrap_or_default();
        assert!(said.contains("is not allowed in a pack") && said.contains("rename it"), "{:?}: {action:?}", case[1].0);
    }
    let task = [
        ("metadata.json", &b"{\"name\": \"acme-good\", \"version\": \"1.0.0\"}"[..]),
        ("tasks/a.sh", b"#!/bin/sh\n"),
        ("tasks/p.sh", b"#!/bin/sh\n"),
        ("tasks/p.json", b"{\"files\": [\"good/files/x y\"]}"),
        ("files/x y", b""),
        ("tasks/q.s h", b"#!/bin/sh\n"),
    ];
    let report = Source::new(&task).import("").unwrap();
    assert_eq!(verdicts(&report)[&Verdict::CannotRun], ["p", "q"]);
}

#[test]
fn keys_that_are_there_twice_in_json_are_told() {
    let document =
        DOCUMENT.replace("\"schemaVersion\"", "\"description\": \"a\", \"description\": \"b\", \"schemaVersion\"");
    let job = "[{\"name\": \"j\", \"name\": \"k\", \"sequence\": {\"commands\": [{\"exec\": \"true\"}]}}]";
    for (name, text, key) in [("s.json", document.as_str(), "description"), ("j.json", job, "name")] {
        let report = Source::new(&[(name, text.as_bytes())]).import(name).unwrap();
        let finding = report.findings.iter().find(|finding| finding.code == "duplicate_key").unwrap();
        assert!(finding.message.contains(&format!("{key} is there twice; the last one counts")), "{finding}");
    }
}

#[test]
fn an_action_of_bolt_and_an_empty_file_are_told_apart_from_others() {
    let bolt = "name: b\nrunner_type: local-shell-script\nentry_point: b.sh\nbolt: {class: diagnostic}\n";
    let report = Source::new(&[
        ("pack.yaml", b"name: good\nversion: 1.0.0\n"),
        ("actions/a.yaml", ACTION.as_bytes()),
        ("actions/b.yaml", bolt.as_bytes()),
        ("actions/b.sh", b"#!/bin/sh\n"),
        ("actions/c.yaml", b"# later\n"),
    ])
    .import("")
    .unwrap();
    assert_eq!(verdicts(&report)[&Verdict::CannotRun], ["b"]);
    assert!(report.actions[1].findings.iter().any(|finding| finding.code == "bolt_action"), "{:?}", report.actions[1]);
    assert!(report.left_out.iter().any(|left| left.file == "actions/c.yaml" && left.why == "it is empty"));
}

#[test]
fn a_directory_with_a_line_break_in_its_name_adds_nothing_to_an_action() {
    let path = "sub\noutput_schema: {x: {type: string}}\n#/s.json";
    let source = Source::new(&[(path, DOCUMENT.as_bytes())]);
    source.import("").unwrap();
    let text = fs::read_to_string(source.at("pack/actions/s.yaml")).unwrap();
    assert!(!text.contains("\noutput_schema") && text.lines().next().unwrap().ends_with("#/s.json"), "{text}");
}
