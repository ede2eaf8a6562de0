//! Packs whose archives are in order and whose contents are not: each is refused with one line that says where.

use super::archive::{Item, file, pack, script};
use super::{Bench, archive, tree};

fn with(items: Vec<Item>) -> Vec<Item> {
    let mut all = pack("demo", "1.1.0");
    all.retain(|item| !items.iter().any(|other| other.path == item.path));
    all.extend(items);
    all
}

fn action(text: &str) -> Vec<Item> {
    with(vec![file("actions/hello.yaml", text)])
}

#[test]
fn a_pack_that_is_not_what_it_should_be_is_refused_with_its_place() {
    let yaml = |more: &str| action(&format!("{}{more}", archive::ACTION));
    let entry = |path: &str| action(&archive::ACTION.replace("hello.sh", path));
    let (mut bench, mut wrong) = (Bench::active(), Vec::new());
    for (words, items) in [
        // A name or a key twice.
        (
            "hello.yaml: line 8, column 3: parameters: duplicate key \"a\", first in line 7",
            yaml("parameters:\n  a: {type: string}\n  a: {type: integer}\n"),
        ),
        (
            "hello.yaml: line 6, column 32: parameters.a: duplicate key \"type\"",
            yaml("parameters: {a: {type: string, type: integer}}\n"),
        ),
        ("hello.yaml: line 6, column 1: duplicate key \"name\", first in line 1", yaml("name: hello\n")),
        ("parameter_clash", yaml("parameters: {a: {type: string}, A: {type: string}}\n")),
        (
            "pack.yaml: line 4, column 1: duplicate key \"version\", first in line 2",
            with(vec![file("pack.yaml", "name: demo\nversion: 1.1.0\ndescription: x\nversion: 9.0.0\n")]),
        ),
        (
            "config.schema.yaml: line 2",
            with(vec![file("config.schema.yaml", "a: {type: string}\na: {type: integer}\n")]),
        ),
        // Types and keys that there are not.
        ("\"text\" is not a type", yaml("parameters: {a: {type: text}}\n")),
        ("\"text\" is not a type", yaml("parameters: {a: {type: array, items: {type: text}}}\n")),
        ("unknown_key", yaml("command: rm -rf /\n")),
        ("unknown_key", with(vec![file("pack.yaml", "name: demo\nversion: 1.1.0\nscript: x\n")])),
        // Entry points elsewhere.
        ("bad_entry_point", entry("../pack.yaml")),
        ("bad_entry_point", entry("../../../../../bin/sh")),
        ("bad_entry_point", entry("/bin/sh")),
        ("bad_entry_point", entry("lib/../../pack.yaml")),
        ("bad_entry_point", entry(".hello.sh")),
        ("entry_point_missing", entry("other.sh")),
        // Names that do not agree.
        (
            "is other 1.1.0, not the demo 1.1.0 that the channel names",
            with(vec![file("pack.yaml", "name: demo\nref: other\nversion: 1.1.0\ndescription: x\n")]),
        ),
        (
            "is demo 1.1.1, not the demo 1.1.0",
            with(vec![file("pack.yaml", "name: demo\nversion: 1.1.1\ndescription: x\n")]),
        ),
        ("bad_ref", with(vec![file("pack.yaml", "name: demo\nref: ../demo\nversion: 1.1.0\n")])),
        ("duplicate_action", with(vec![file("actions/hello.yml", archive::ACTION)])),
        ("file_name", with(vec![file("actions/other.yaml", archive::ACTION)])),
        ("other_pack", yaml("pack: other\n")),
        // Values that readers of YAML take differently, and tags.
        ("parameters.mode.default: a number that begins with 0", yaml("parameters: {mode: {default: 0644}}\n")),
        ("parameters.p.default: the tag !env is not supported", yaml("parameters: {p: {default: !env X}}\n")),
        // Invalid YAML, and too much of it.
        ("pack.yaml", with(vec![file("pack.yaml", "name: [")])),
        ("pack.yaml", with(vec![file("pack.yaml", vec![0xff, 0xfe])])),
        ("too_large", with(vec![file("actions/hello.yaml", random(300 << 10))])),
        // Options that would reach pip.
        (
            "requirements.txt: line 2: \"--index-url https://evil.example\" is an option of pip",
            with(vec![file("requirements.txt", "six\n--index-url https://evil.example\n")]),
        ),
        // And a script that is none.
        ("entry_point_no_shebang", with(vec![script("actions/hello.sh", "echo\n")])),
        ("entry_point_crlf", with(vec![script("actions/hello.sh", "#!/bin/sh\r\necho\r\n")])),
        ("entry_point_bom", with(vec![script("actions/hello.sh", "\u{feff}#!/bin/sh\necho\n")])),
    ] {
        bench.offer("demo", "1.1.0", &items);
        bench.repository.publish();
        let before = tree(&bench.store().join("demo"));
        bench.poll().unwrap();
        assert_eq!(tree(&bench.store().join("demo")), before, "{words}: the active version was touched");
        let Some((_, failed)) = bench.status().failed.pop() else {
            wrong.push(format!("{words}: it was activated"));
            continue;
        };
        let said = &failed.message;
        if failed.step != "check" || !said.contains(words) || said.contains('\n') || said.len() > 1000 {
            wrong.push(format!("{words}: {}: {said}", failed.step));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Text that does not compress, so that its size is judged and not its ratio.
fn random(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'a' + u8::try_from((state >> 33) % 26).unwrap()
    };
    (0..length).map(|_| next()).collect()
}
