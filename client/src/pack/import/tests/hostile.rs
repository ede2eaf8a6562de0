//! Hostile sources end in a clear error, and nothing is written.

use std::os::unix::fs::symlink;

use super::*;

const ACTION: &str = "name: a\nrunner_type: local-shell-cmd\nparameters: {cmd: {default: 'true', immutable: true}}\n";

struct Source {
    temp: tempfile::TempDir,
}

impl Source {
    fn new() -> Source {
        let source = Source { temp: tempfile::tempdir().unwrap() };
        source.write("pack.yaml", "name: good\nversion: 1.0.0\n");
        source.write("actions/a.yaml", ACTION);
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

    /// Imports it; the error, after a look at what was written.
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

#[test]
fn a_value_that_the_author_fixed_never_becomes_the_callers() {
    let source = Source::new();
    let path = "path: {type: string, immutable: true, default: '{{st2kv.system.path}}'}";
    let command = "cmd: {default: 'ls -- {{path}}', immutable: true}";
    source.write(
        "actions/b.yaml",
        format!("name: b\nrunner_type: local-shell-cmd\nparameters:\n  {command}\n  {path}\n"),
    );
    source.write(
        "actions/c.yaml",
        format!("name: c\nrunner_type: local-shell-script\nentry_point: c.sh\nparameters:\n  {path}\n"),
    );
    source.write("actions/c.sh", "ls -- \"$1\"\n");
    let report = import(&source.at(), &source.temp.path().join("pack")).unwrap();
    let cannot = &verdicts(&report)[&Verdict::CannotRun];
    assert_eq!(*cannot, ["b", "c"], "of a command, and of a script");
}

#[test]
fn links_out_of_the_source_are_refused() {
    for target in ["/etc/passwd", "../../secret", "../actions/../../x"] {
        refused_with("data/link of the source is refused: it is a link out of the source", |source| {
            source.write("data/x", "x");
            symlink(target, source.at().join("data/link")).unwrap();
        });
    }
    let source = Source::new();
    symlink("a.yaml", source.at().join("actions/b.yaml")).unwrap();
    let report = import(&source.at(), &source.temp.path().join("pack")).unwrap();
    assert!(report.left_out.iter().any(|left| left.file == "actions/b.yaml" && left.why.contains("a link")));
}

#[test]
fn sizes_and_counts_are_bounded() {
    refused_with("big of the source is refused: it has 209715200 bytes", |source| {
        source.write("big", "");
        fs::File::options().write(true).open(source.at().join("big")).unwrap().set_len(200 << 20).unwrap();
    });
    refused_with("has more than 134217728 bytes", |source| {
        for number in 0..9 {
            source.write(&format!("{number}"), "");
            let file = fs::File::options().write(true).open(source.at().join(format!("{number}"))).unwrap();
            file.set_len(16 << 20).unwrap();
        }
    });
    refused_with("nest more than 16 deep", |source| source.write(&format!("{}x", "d/".repeat(20)), ""));
    refused_with("more than 20000 files", |source| {
        for number in 0..20_001 {
            source.write(&format!("many/{number}"), "");
        }
    });
    refused_with("device, socket or pipe", |source| {
        nix::unistd::mkfifo(&source.at().join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    });
}

#[test]
fn yaml_bombs_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let outer = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb += &format!("a{level}: &a{level} [{outer}]\n");
    }
    for path in ["pack.yaml", "actions/bomb.yaml", "config.schema.yaml"] {
        refused_with("too large, with its aliases written out", |source| {
            source.write(path, format!("name: x\nversion: 1.0.0\nrunner_type: python-script\n{bomb}"));
        });
        refused_with("nests more than 64 deep", |source| {
            source.write(path, format!("name: {}x{}\n", "[".repeat(80), "]".repeat(80)));
        });
        refused_with("more than the maximum of 262144", |source| {
            source.write(path, format!("name: x\n# {}\n", "x".repeat(300_000)));
        });
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["../x", "/etc", "a/b", "{{ name }}", "", "-rf"] {
        refused_with("pack name", |source| source.write("pack.yaml", format!("name: good\nref: \"{name}\"\n")));
        refused_with("action name", |source| {
            source.write("actions/b.yaml", ACTION.replace("name: a", &format!("name: \"{name}\"")))
        });
    }
    refused_with("pack name", |source| source.write("pack.yaml", "name: \"a\\nb\"\n"));
    refused_with("is not allowed in a pack", |source| source.write("actions/b\nentry_point: x.yaml", ACTION));
}

#[test]
fn entry_points_outside_the_pack_are_not_followed() {
    let source = Source::new();
    let action = ACTION.replace("local-shell-cmd", "local-shell-script").replace("name: a", "name: b");
    source.write("actions/b.yaml", format!("{action}entry_point: ../../../../etc/passwd\n"));
    source.write("actions/c.yaml", format!("{}entry_point: ../pack.yaml\n", action.replace("name: b", "name: c")));
    let report = import(&source.at(), &source.temp.path().join("pack")).unwrap();
    for name in ["b", "c"] {
        let action = report.actions.iter().find(|action| action.name == name).unwrap();
        assert_eq!(action.deciding().next().unwrap().code, "entry_point_missing", "{name}");
    }
}

#[test]
fn sources_that_break_python_are_reported_and_others_are_still_checked() {
    let source = Source::new();
    source.write("actions/deep.py", format!("x = {}1{}\n", "(".repeat(50_000), ")".repeat(50_000)));
    source.write("actions/nul.py", "x = 1\0\n");
    source.write("actions/coding.py", b"# -*- coding: utf-7 -*-\nclass A:\n    pass\n\xff");
    for name in ["deep", "nul", "coding"] {
        let action = format!("name: {name}\nrunner_type: python-script\nentry_point: {name}.py\n");
        source.write(&format!("actions/{name}.yaml"), action);
    }
    let report = import(&source.at(), &source.temp.path().join("pack")).unwrap();
    for name in ["deep", "nul", "coding"] {
        let action = report.actions.iter().find(|action| action.name == name).unwrap();
        assert!(
            action.findings.iter().any(|f| ["python2", "not_python", "not_checked"].contains(&f.code)),
            "{action:?}"
        );
    }
}

#[test]
fn a_source_is_parsed_and_never_run() {
    let source = Source::new();
    let mark = source.temp.path().join("mark");
    source.write("actions/b.yaml", "name: b\nrunner_type: python-script\nentry_point: b.py\n");
    let text = format!("open({:?}, 'w')\nclass B:\n    def run(self): pass\n", mark.to_str().unwrap());
    source.write("actions/b.py", &text);
    source.write("actions/json.py", &text);
    source.write("sitecustomize.py", &text);
    import(&source.at(), &source.temp.path().join("pack")).unwrap();
    assert!(!mark.exists(), "the source was run");
}
