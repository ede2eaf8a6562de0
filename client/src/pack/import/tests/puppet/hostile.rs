//! Hostile modules end in a clear error, and nothing is written.

use std::os::unix::fs::symlink;

use super::*;

const METADATA: &str = "{\"name\": \"acme-good\", \"version\": \"1.0.0\"}";

struct Source {
    temp: tempfile::TempDir,
}

impl Source {
    fn new() -> Source {
        let source = Source { temp: tempfile::tempdir().unwrap() };
        source.write("metadata.json", METADATA);
        source.write("tasks/a.sh", "#!/bin/sh\n");
        source
    }

    fn at(&self) -> PathBuf {
        self.temp.path().join("source")
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let full = self.at().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(full, text).unwrap();
    }

    fn refused(&self) -> String {
        let out = self.temp.path().join("out");
        fs::create_dir_all(&out).unwrap();
        let error = import(&self.at(), &out.join("pack")).unwrap_err();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "something was written");
        let mut said = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            said += &format!(": {inner}");
            source = inner.source();
        }
        said
    }
}

fn refused_with(words: &str, change: impl FnOnce(&Source)) {
    let source = Source::new();
    change(&source);
    let said = source.refused();
    assert!(said.contains(words), "{words:?} is not in {said:?}");
}

fn parameter(kind: &str) -> String {
    serde_json::json!({"parameters": {"p": {"type": kind}}}).to_string()
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["../x", "/etc", "a/b/c", "{{ name }}", "", "-rf", "x\\ny", "..-x"] {
        let metadata = format!("{{\"name\": \"{name}\", \"version\": \"1.0.0\"}}");
        refused_with("name", |source| source.write("metadata.json", &metadata));
    }
    refused_with("is not the name of a Puppet module", |source| {
        source.write("metadata.json", METADATA.replace("acme-good", "a-b-c"));
    });
    refused_with("metadata.json of the source is refused", |source| source.write("metadata.json", "{"));
}

#[test]
fn large_files_and_links_out_of_the_module_are_refused() {
    refused_with("files/big of the source is refused: it has 209715200 bytes", |source| {
        source.write("files/big", "");
        fs::File::options().write(true).open(source.at().join("files/big")).unwrap().set_len(200 << 20).unwrap();
    });
    for target in ["/etc/passwd", "../../secret"] {
        refused_with("tasks/b.sh of the source is refused: it is a link out of the source", |source| {
            symlink(target, source.at().join("tasks/b.sh")).unwrap();
        });
    }
}

#[test]
fn bombs_are_refused() {
    refused_with("tasks/a.json of the source is refused: it nests more than 127 deep", |source| {
        source.write("tasks/a.json", format!("{}{}", "[".repeat(5000), "]".repeat(5000)));
    });
    refused_with("more than the maximum of 262144", |source| source.write("tasks/a.json", " ".repeat(300_000)));
    refused_with("the parameter p: the type nests more than 32 deep", |source| {
        source.write("tasks/a.json", parameter(&format!("{}String{}", "Array[".repeat(500), "]".repeat(500))));
    });
    refused_with("the parameter p: the type has 36006 bytes", |source| {
        source.write("tasks/a.json", parameter(&format!("Enum[{}]", "word,".repeat(7200))));
    });
    // Each alias is the next one three times: 3^14 types, written out.
    refused_with("more than 2000 parts, with its aliases written out", |source| {
        for level in 0..14 {
            let next = format!("Good::A{}", level + 1);
            let text = format!("type Good::A{level} = Struct[{{a => {next}, b => {next}, c => {next}}}]\n");
            source.write(&format!("types/a{level}.pp"), text);
        }
        source.write("types/last.pp", "type Good::A14 = String\n");
        source.write("tasks/a.json", parameter("Good::A0"));
    });
}

#[test]
fn an_alias_of_itself_ends() {
    let source = Source::new();
    source.write("types/tree.pp", "type Good::Tree = Variant[String, Array[Good::Tree]]\n");
    source.write("tasks/a.json", parameter("Good::Tree"));
    let report = import(&source.at(), &source.temp.path().join("pack")).unwrap();
    assert!(findings(&report, "a").contains("contains itself"), "{}", findings(&report, "a"));
}

#[test]
fn files_outside_of_modules_are_not_read() {
    for spec in [
        "../secret/files/x",
        "good/files/../../../etc/passwd",
        "/etc/passwd",
        "good/../x",
        "good/files/.hidden",
        "good",
        "good/files",
        "good/manifests/init.pp",
        "good/files/a//b",
    ] {
        let source = Source::new();
        fs::create_dir_all(source.temp.path().join("secret/files")).unwrap();
        fs::write(source.temp.path().join("secret/files/x"), "secret").unwrap();
        source.write("files/.hidden", "x");
        source.write("tasks/b.sh", "#!/bin/sh\n");
        source.write("tasks/a.json", serde_json::json!({"files": [spec]}).to_string());
        let report = import(&source.at(), &source.temp.path().join("pack")).unwrap();
        assert!(findings(&report, "a").contains("[file_missing]"), "{spec}: {}", findings(&report, "a"));
    }
}

#[test]
fn programs_outside_of_tasks_are_not_run() {
    for name in ["../files/x.sh", "/bin/sh", "b/../a.sh", ""] {
        let source = Source::new();
        source.write("files/x.sh", "#!/bin/sh\n");
        source.write("tasks/b.sh", "#!/bin/sh\n");
        source.write("tasks/a.json", serde_json::json!({"implementations": [{"name": name}]}).to_string());
        let report = import(&source.at(), &source.temp.path().join("pack")).unwrap();
        assert!(findings(&report, "a").contains("[entry_point_missing]"), "{name}: {}", findings(&report, "a"));
    }
}

#[test]
fn a_module_is_read_and_never_run() {
    let source = Source::new();
    let mark = source.temp.path().join("mark");
    source.write("tasks/b.py", format!("open({:?}, 'w')\n", mark.to_str().unwrap()));
    source.write("tasks/c.rb", format!("File.write({:?}, '')\n", mark.to_str().unwrap()));
    source.write("tasks/d.sh", format!(": >{}\n", mark.display()));
    import(&source.at(), &source.temp.path().join("pack")).unwrap();
    assert!(!mark.exists(), "the module was run");
}
