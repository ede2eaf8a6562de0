//! A small pack, whole and with each fault.

use std::collections::BTreeMap;

use super::*;
use crate::base::finding::Severity;

/// Files by path; the text decides what the reader gives.
struct Texts(BTreeMap<&'static str, String>);

impl FileReader for Texts {
    fn text(&mut self, path: &str) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| "gone".to_owned())
    }
}

const ACTION: &str = "name: hello
description: Greets.
runner_type: local-shell-script
entry_point: hello.sh
parameters:
  whom: {type: string, default: world}
bolt: {class: diagnostic}
";

fn good() -> (Vec<PackEntry>, Texts) {
    let texts = BTreeMap::from([
        ("pack.yaml", "name: demo\nversion: 1.0.0\ndescription: Shows.\n".to_owned()),
        ("actions/hello.yaml", ACTION.to_owned()),
        ("actions/hello.sh", "#!/bin/sh\necho \"$BOLT_PARAM_WHOM\"\n".to_owned()),
    ]);
    let files = texts
        .iter()
        .map(|(path, text)| PackEntry {
            path: (*path).to_owned(),
            kind: EntryKind::File,
            size: text.len() as u64,
            executable: path.ends_with(".sh"),
            head: text.bytes().take(HEAD_BYTES).collect(),
        })
        .collect();
    (files, Texts(texts))
}

fn codes(found: &[Finding]) -> Vec<&str> {
    found.iter().map(|f| f.code.as_str()).collect()
}

#[test]
fn a_good_pack_is_checked_without_a_finding() {
    let (files, mut texts) = good();
    let (contents, (checked, found)) = read(&files, &mut texts);
    let checked = checked.unwrap();
    assert_eq!(codes(&found), [""; 0]);
    assert_eq!(checked.actions[0].reference().as_str(), "demo.hello");
    let script = texts.0["actions/hello.sh"].clone();
    assert_eq!(codes(&lint(&contents.unwrap(), &checked, &mut |_| Some(script.clone()))), [""; 0]);
}

#[test]
fn each_fault_of_a_pack_has_its_finding() {
    type Fault = fn(&mut Vec<PackEntry>, &mut Texts);
    let faults: [(&str, Fault); 12] = [
        ("no_pack_file", |files, _| files.retain(|f| f.path != "pack.yaml")),
        ("unreadable", |_, texts| drop(texts.0.insert("pack.yaml", "name: [".into()))),
        ("unreadable", |_, texts| drop(texts.0.insert("actions/hello.yaml", format!("{ACTION}name: twice\n")))),
        ("too_large", |files, _| files.iter_mut().for_each(|f| f.size = MAX_YAML + 1)),
        ("file_name", |_, texts| {
            drop(texts.0.insert("actions/hello.yaml", ACTION.replace("name: hello", "name: other")))
        }),
        ("entry_point_missing", |files, _| files.retain(|f| !f.path.ends_with(".sh"))),
        ("entry_point_not_executable", |files, _| files.iter_mut().for_each(|f| f.executable = false)),
        ("entry_point_no_shebang", |files, _| files.iter_mut().for_each(|f| f.head.clear())),
        ("entry_point_crlf", |files, _| files.iter_mut().for_each(|f| f.head = b"#!/bin/sh\r\necho\r\n".to_vec())),
        ("entry_point_bom", |files, _| files.iter_mut().for_each(|f| f.head = b"\xef\xbb\xbf#!/bin/sh\n".to_vec())),
        ("entry_point_not_a_file", |files, _| {
            files.iter_mut().filter(|f| f.path.ends_with(".sh")).for_each(|f| f.kind = EntryKind::Directory)
        }),
        ("bad_requirement", |files, texts| {
            let mut requirements = files[0].clone();
            requirements.path = "requirements.txt".into();
            files.push(requirements);
            texts.0.insert("requirements.txt", "six==1.17.0\n--index-url https://elsewhere.example\n".into());
        }),
    ];
    for (code, fault) in faults {
        let (mut files, mut texts) = good();
        fault(&mut files, &mut texts);
        let (_, (checked, found)) = read(&files, &mut texts);
        assert!(checked.is_none(), "{code}");
        assert!(codes(&found).contains(&code), "{code}: {found:?}");
        assert!(found.iter().any(|f| f.severity == Severity::Error), "{code}");
    }
}

#[test]
fn two_files_may_not_define_one_action() {
    let (mut files, mut texts) = good();
    texts.0.insert("actions/hello.yml", ACTION.to_owned());
    let mut twin = files.iter().find(|f| f.path == "actions/hello.yaml").unwrap().clone();
    twin.path = "actions/hello.yml".into();
    files.push(twin);
    let (_, (checked, found)) = read(&files, &mut texts);
    assert!(checked.is_none());
    assert!(codes(&found).contains(&"duplicate_action"), "{found:?}");
}

#[test]
fn the_linter_reports_likely_problems() {
    let (files, mut texts) = good();
    texts.0.insert("pack.yaml", "name: demo\nversion: 1.0.0\n".into());
    let action = ACTION
        .replace("description: Greets.\n", "")
        .replace("diagnostic", "remediation")
        .replace("whom: {", "unread: {");
    texts.0.insert("actions/hello.yaml", action);
    let (contents, (checked, _)) = read(&files, &mut texts);
    let script = texts.0["actions/hello.sh"].clone();
    let found = lint(&contents.unwrap(), &checked.unwrap(), &mut |_| Some(script.clone()));
    assert_eq!(
        codes(&found),
        ["no_description", "no_description", "no_timeout", "no_noop", "undeclared_parameter", "unused_parameter"]
    );
}

#[test]
fn a_configuration_schema_is_checked_as_parameters_are() {
    let (mut files, mut texts) = good();
    texts.0.insert("config.schema.yaml", "data: {type: integer, default: x}\n".into());
    let mut schema = files[0].clone();
    schema.path = "config.schema.yaml".into();
    files.push(schema);
    let (_, (checked, found)) = read(&files, &mut texts);
    assert!(checked.is_none());
    assert_eq!(codes(&found), ["default_does_not_fit"]);
    texts.0.insert("config.schema.yaml", "data: {type: integer, default: 3}\n".into());
    assert_eq!(read(&files, &mut texts).1.0.unwrap().config.len(), 1);
}

#[test]
fn a_schema_that_allows_items_with_a_comma_is_a_warning() {
    for (items, warned) in [
        ("{type: string, pattern: '^/data/[a-z0-9/,._-]+$'}", true),
        ("{type: string, enum: [a, 'b,c']}", true),
        ("{type: string, pattern: '^[a-z]{1,3}$'}", false),
        ("{type: string}", false),
        ("{type: object}", false),
    ] {
        let (files, mut texts) = good();
        let action = ACTION.replace("{type: string, default: world}", &format!("{{type: array, items: {items}}}"));
        texts.0.insert("actions/hello.yaml", action);
        let (contents, (checked, _)) = read(&files, &mut texts);
        let script = texts.0["actions/hello.sh"].clone();
        let found = lint(&contents.unwrap(), &checked.unwrap(), &mut |_| Some(script.clone()));
        assert_eq!(codes(&found).contains(&"list_item_comma"), warned, "{items}: {found:?}");
    }
}

#[test]
fn requirements_without_a_hash_are_named_with_the_remedy() {
    let hash = "0".repeat(64);
    for (text, at) in [
        (format!("six==1.17.0 --hash=sha256:{hash}\nidna==3.7\nattrs==23.1.0\n"), Some("requirements.txt:2")),
        (format!("six==1.17.0 --hash=sha256:{hash}\n"), None),
    ] {
        let (mut files, mut texts) = good();
        let mut requirements = files[0].clone();
        requirements.path = "requirements.txt".into();
        files.push(requirements);
        texts.0.insert("requirements.txt", text);
        let (contents, (checked, _)) = read(&files, &mut texts);
        let found = lint(&contents.unwrap(), &checked.unwrap(), &mut |_| None);
        let bare = found.iter().find(|finding| finding.code == "requirement_without_hash");
        assert_eq!(bare.map(|finding| finding.at.as_str()), at, "{found:?}");
        assert!(
            bare.is_none_or(|f| f.message.starts_with("idna and 1 more") && f.message.contains("--generate-hashes"))
        );
    }
}
