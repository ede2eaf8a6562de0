//! The cases: what each archive holds besides a good pack, and what is to become of it.

use super::raw::{Raw, directory, file, gzip, open_tar, pax, raw, tar};
use crate::sync::tests::archive::ACTION;

/// The archive, of a pack in this version.
type Make = Box<dyn Fn(&str) -> Vec<u8>>;

pub(super) struct Case {
    pub(super) name: String,
    pub(super) archive: Make,
    pub(super) expected: Expected,
}

pub(super) enum Expected {
    /// With these words.
    Refused(String),
    /// Activated, with these files besides those of the good pack.
    Harmless(Vec<&'static str>),
}

/// A good pack.
fn good(version: &str) -> Vec<Raw> {
    vec![
        directory("actions/"),
        file("actions/hello.sh", "#!/bin/sh\necho hello\n").mode(0o755),
        file("actions/hello.yaml", ACTION),
        file("pack.yaml", format!("name: demo\nversion: {version}\ndescription: Shows.\n")),
    ]
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: &str, expected: Expected, archive: impl Fn(&str) -> Vec<u8> + 'static) {
        self.0.push(Case { name: name.to_owned(), archive: Box::new(archive), expected });
    }

    /// A good pack and then `items`: refused with `words`.
    fn with(&mut self, name: &str, words: &str, items: Vec<Raw>) {
        self.add(name, Expected::Refused(words.to_owned()), move |v| gzip(&tar([good(v), items.clone()].concat())));
    }

    /// A good pack and then `items`: activated, with the files `extra`.
    fn harmless(&mut self, name: &str, extra: &[&'static str], items: Vec<Raw>) {
        self.add(name, Expected::Harmless(extra.to_vec()), move |v| gzip(&tar([good(v), items.clone()].concat())));
    }

    /// The whole archive, changed.
    fn changed(&mut self, name: &str, words: &str, change: impl Fn(Vec<u8>) -> Vec<u8> + 'static) {
        self.add(name, Expected::Refused(words.to_owned()), move |v| change(gzip(&tar(good(v)))));
    }
}

/// Every case; `canary` is a directory that must stay as it is.
pub(super) fn all(canary: &str) -> Vec<Case> {
    let mut cases = Cases::default();
    paths(&mut cases, canary);
    names(&mut cases);
    links(&mut cases, canary);
    kinds(&mut cases);
    extended(&mut cases, canary);
    modes(&mut cases);
    sizes(&mut cases);
    twice(&mut cases);
    bombs(&mut cases);
    streams(&mut cases);
    cases.0
}

fn paths(cases: &mut Cases, canary: &str) {
    let inside = format!("{canary}/evil");
    for path in ["/tmp/bolt-evil", "//tmp/bolt-evil", "/", "/pack.yaml", &inside] {
        cases.with(&format!("absolute {path}"), "it is absolute", vec![file(path, "x")]);
    }
    cases.with("absolute directory", "it is absolute", vec![directory("/tmp/bolt-evil/")]);
    for path in [
        "..",
        "../evil",
        "../../evil",
        "../../../../../../tmp/bolt-evil",
        "actions/..",
        "actions/../evil",
        "actions/../../evil",
        "actions/lib/../../../evil",
        "./../evil",
        "..//evil",
        "actions/lib/..",
        "actions/../pack.yaml",
        ".",
        "./evil",
        "actions/./evil",
        "actions//evil",
    ] {
        cases.with(&format!("dots {path}"), path, vec![file(path, "x")]);
    }
    for path in ["../", "actions/../../evil/", "./", "evil/../../x/", "evil//"] {
        cases.with(&format!("dots of a directory {path}"), "is not allowed in a pack", vec![directory(path)]);
    }
    // The path is the prefix, a slash and the name.
    cases.with("dot-dot in the prefix", "actions/../../evil", vec![file("evil", "x").prefix("actions/../..")]);
    cases.with("dot-dot across prefix and name", "actions/../evil", vec![file("../evil", "x").prefix("actions")]);
    cases.with("absolute prefix", "/tmp/bolt-evil", vec![file("bolt-evil", "x").prefix("/tmp")]);
    for path in [
        ".bolt/pack.json",
        ".bolt/manifest.json",
        ".bolt/actions/hello.json",
        ".bolt/venv.json",
        "actions/.evil",
        ".git/config",
    ] {
        cases.with(&format!("hidden {path}"), "it is hidden", vec![file(path, "{}")]);
    }
    cases.with("hidden directory", "it is hidden", vec![directory(".bolt/")]);
    for path in ["-rf", "actions/--checkpoint-action=exec"] {
        cases.with(&format!("option {path}"), "starts with '-'", vec![file(path, "x")]);
    }
}

fn names(cases: &mut Cases) {
    cases.with("empty name", "it is empty", vec![file("", "x")]);
    cases.with("empty name of a directory", "it is empty", vec![directory("")]);
    cases.with("name that begins with NUL", "it is empty", vec![file(b"\0evil", "x")]);
    cases.harmless("name that ends at a NUL", &["note"], vec![file(b"note\0/../../evil", "x")]);
    for (what, name) in [
        ("new line", "a\nb"),
        ("return", "a\rb"),
        ("tab", "a\tb"),
        ("escape", "\x1b[31mred"),
        ("delete", "a\x7fb"),
        ("bell", "\x07"),
        ("space", "a b"),
        ("final space", "pack.yaml "),
        ("backslash", "a\\evil"),
        ("drive", "C:evil"),
        ("star", "*"),
        ("question", "a?"),
        ("pipe", "a|b"),
        ("quote", "a\"b"),
        ("apostrophe", "a'b"),
        ("semicolon", "a;b"),
        ("dollar", "$HOME"),
        ("backquote", "`id`"),
        ("redirect", "a>b"),
        ("ampersand", "a&b"),
        ("percent", "%2e%2e"),
        ("composed", "caf\u{e9}"),
        ("decomposed", "cafe\u{301}"),
        ("kelvin", "\u{212a}"),
        ("full width dots", "\u{ff0e}\u{ff0e}"),
        ("right to left", "\u{202e}lmay"),
        ("zero width", "pack\u{200b}.yaml"),
        ("line separator", "a\u{2028}b"),
    ] {
        cases.with(&format!("character {what}"), "letters, digits", vec![file(name, "x")]);
    }
    cases.with("twins by normalisation", "letters, digits", vec![file("caf\u{e9}", "x"), file("cafe\u{301}", "y")]);
    cases.with("not UTF-8", "is not UTF-8", vec![file(b"\xff\xfe", "x")]);
    cases.with("overlong dot-dot", "is not UTF-8", vec![file(b"\xc0\xae\xc0\xae/evil", "x")]);
    let long = "a".repeat(100);
    cases.with("long name", "longer than 200 bytes", vec![file(&long, "x").prefix(&"b".repeat(155))]);
    cases.with("deep", "deeper than 16", vec![file("a/".repeat(16) + "x", "x")]);
    cases.with("deep directory", "deeper than 16", vec![directory("a/".repeat(17))]);
    cases.with("file with a slash at its end", "an empty part", vec![file("evil/", "x")]);
}

fn links(cases: &mut Cases, canary: &str) {
    let inside = format!("{canary}/evil");
    for target in ["/etc/passwd", "..", "../../../canary", ".", "self", "pack.yaml", "actions", "", "/", &inside] {
        cases.with(
            &format!("symbolic link to {target:?}"),
            "self is an entry of type Symlink",
            vec![raw("self", b'2', "").link(target)],
        );
        cases.with(
            &format!("hard link to {target:?}"),
            "self is an entry of type Link",
            vec![raw("self", b'1', "").link(target)],
        );
    }
    let link = |name: &str, target: &str| raw(name, b'2', "").link(target);
    cases.with(
        "file through a link",
        "out is an entry of type Symlink",
        vec![link("out", canary), file("out/evil", "x")],
    );
    cases.with(
        "chain of links",
        "a is an entry of type Symlink",
        vec![link("a", ".."), link("b", "a/.."), link("c", "b/.."), file("c/evil", "x")],
    );
    cases.with(
        "link in the place of a directory",
        "actions is an entry of type Symlink",
        vec![link("actions", canary), file("actions/evil", "x")],
    );
    cases.with(
        "link in the place of a file",
        "pack.yaml is an entry of type Symlink",
        vec![link("pack.yaml", &inside), file("pack.yaml", "x")],
    );
    cases.with("link with a slash", "an empty part", vec![link("out/", canary)]);
    cases.with(
        "link with content",
        "self is an entry of type Symlink",
        vec![raw("self", b'2', "x").link("/etc/passwd")],
    );
    cases.with("hard link with content", "self is an entry of type Link", vec![raw("self", b'1', "x").link(&inside)]);
    cases.harmless("file with a link target", &["plain"], vec![file("plain", "x").link("/etc/passwd")]);
    cases.add("link before everything", Expected::Refused("actions is an entry of type Symlink".to_owned()), {
        let link = link("actions", canary);
        move |v| gzip(&tar([vec![link.clone()], good(v)].concat()))
    });
}

fn kinds(cases: &mut Cases) {
    for (what, kind) in [
        ("character device", b'3'),
        ("block device", b'4'),
        ("named pipe", b'6'),
        ("contiguous", b'7'),
        ("sparse", b'S'),
        ("directory dump", b'D'),
        ("continued", b'M'),
        ("old long name", b'N'),
        ("volume", b'V'),
        ("solaris", b'X'),
        ("acl", b'A'),
        ("vendor", b'Z'),
        ("digit", b'8'),
        ("space", b' '),
        ("high", 0xff),
        ("letter", b'a'),
    ] {
        let device = raw("evil", kind, "").octal(329, 8, 1).octal(337, 8, 3);
        cases.with(&format!("kind {what}"), "evil is an entry of type", vec![device]);
    }
    cases.with(
        "sparse with a map",
        "evil is an entry of type GNUSparse",
        vec![raw("evil", b'S', "x").bytes(257, b"ustar  \0").octal(386, 12, 0).octal(398, 12, 1).octal(
            483,
            12,
            1 << 33,
        )],
    );
    cases.harmless("old kind of a file", &["plain"], vec![raw("plain", 0, "x")]);
    cases.harmless("pre-1988 header", &["plain"], vec![file("plain", "x").bytes(257, &[0; 8])]);
    cases.harmless(
        "owner with other ideas",
        &["plain"],
        vec![
            file("plain", "x")
                .octal(108, 8, 0o7_777_777)
                .bytes(136, b"-7777777777\0")
                .bytes(265, b"\x1b[2J../../root")
                .octal(329, 8, 5),
        ],
    );
}

fn extended(cases: &mut Cases, canary: &str) {
    let inside = format!("{canary}/evil");
    let header = "is an entry of type XHeader";
    for (key, value) in [
        ("path", "../../evil"),
        ("path", &*inside),
        ("path", "note"),
        ("path", "pack.yaml"),
        ("linkpath", "/etc/passwd"),
        ("size", "0"),
        ("size", "99999999999"),
        ("size", "-1"),
        ("uid", "0"),
        ("mode", "4755"),
        ("GNU.sparse.name", "../evil"),
        ("GNU.sparse.realsize", "8589934592"),
        ("SCHILY.xattr.security.capability", "x"),
        ("hdrcharset", "BINARY"),
        ("comment", "x"),
    ] {
        cases.with(
            &format!("extended {key}={value}"),
            header,
            vec![raw("pax", b'x', pax(key, value)), file("note", "x")],
        );
    }
    cases.with(
        "extended twice",
        header,
        vec![raw("pax", b'x', pax("path", "a")), raw("pax", b'x', pax("path", "../b")), file("note", "x")],
    );
    cases.with("extended without an entry", header, vec![raw("pax", b'x', pax("path", "a"))]);
    cases.with("extended of no shape", header, vec![raw("pax", b'x', "999999 path=x\n"), file("note", "x")]);
    cases.with(
        "extended for all",
        "is an entry of type XGlobalHeader",
        vec![raw("pax", b'g', pax("path", "../evil")), file("note", "x")],
    );
    // Readers that use the size of the extended header and readers that use that of the file see different content.
    let hidden = open_tar(vec![file("../evil", "x")]);
    cases.with(
        "extended size over a hidden archive",
        header,
        vec![raw("pax", b'x', pax("size", &hidden.len().to_string())), file("note", hidden.clone()).size(0)],
    );
    for (what, kind) in [("GNULongName", b'L'), ("GNULongLink", b'K')] {
        let words = format!("is an entry of type {what}");
        for name in ["../../evil\0", &inside, "note\0", "pack.yaml\0"] {
            cases.with(
                &format!("{what} {name:?}"),
                &words,
                vec![raw("././@LongLink", kind, name).bytes(0, b"long\0"), file("note", "x")],
            );
        }
        cases.with(
            &format!("{what} at the usual name"),
            "is not allowed in a pack",
            vec![raw("././@LongLink", kind, "x\0"), file("note", "x")],
        );
        cases.with(&format!("{what} alone"), &words, vec![raw("long", kind, "x\0")]);
        cases.with(
            &format!("{what} over a hidden archive"),
            &words,
            vec![raw("long", kind, hidden.clone()), file("note", "x")],
        );
    }
}

fn modes(cases: &mut Cases) {
    for mode in [0o4755, 0o2755, 0o6755, 0o1644, 0o7777] {
        cases.with(&format!("mode {mode:o}"), "evil has a set-id or sticky bit", vec![file("evil", "x").mode(mode)]);
    }
    for mode in [0o2755, 0o1777] {
        cases.with(
            &format!("mode {mode:o} of a directory"),
            "evil has a set-id or sticky bit",
            vec![directory("evil/").mode(mode)],
        );
    }
    cases.with("mode that is no number", "evil has no mode", vec![file("evil", "x").bytes(100, b"rwxrwxr\0")]);
    cases.with("mode in base 256", "evil has", vec![file("evil", "x").bytes(100, b"\x80\0\0\0\0\0\x09\xed")]);
    cases.harmless(
        "modes that let others write, or no user read",
        &["closed", "open", "shut/x"],
        vec![
            file("open", "x").mode(0o666),
            file("closed", "x").mode(0),
            directory("shut/").mode(0),
            file("shut/x", "x").mode(0o777),
        ],
    );
}

fn sizes(cases: &mut Cases) {
    cases.with("size beyond the archive", "the archive ends within evil", vec![file("evil", "x").size(1 << 20)]);
    cases.with("size beyond all archives", "", vec![file("evil", "x").size(0o77_777_777_777)]);
    for (what, bytes) in [
        ("huge", *b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("largest", [0xff; 12]),
        ("negative", *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\0"),
        ("letters", *b"zzzzzzzzzzz\0"),
        ("minus", *b"-0000000001\0"),
        ("decimal", *b"9999999999 \0"),
        ("two numbers", *b"00000 00001\0"),
    ] {
        cases.with(&format!("size {what}"), "", vec![file("evil", "x").bytes(124, &bytes)]);
    }
    cases.with("directory with content", "evil is a directory with content", vec![raw("evil/", b'5', "x").mode(0o755)]);
    for (what, sum) in
        [("wrong", *b"000001\0 "), ("none", [0; 8]), ("letters", *b"zzzzzz\0 "), ("spaces", *b"        ")]
    {
        cases.with(&format!("checksum {what}"), "", vec![file("evil", "x").bytes(148, &sum).without_sum()]);
    }
    cases.with("header of noise", "", vec![Raw { block: [0xa5; 512], data: Vec::new(), sum: false }]);
}

fn twice(cases: &mut Cases) {
    cases.with(
        "pack.yaml twice",
        "pack.yaml is in the archive twice",
        vec![file("pack.yaml", "name: evil\nversion: 1.0.0\n")],
    );
    cases.with(
        "script twice",
        "actions/hello.sh is in the archive twice",
        vec![file("actions/hello.sh", "#!/bin/evil\n").mode(0o755)],
    );
    cases.with("directory twice", "actions is in the archive twice", vec![directory("actions/")]);
    cases.with("directory twice, without a slash", "actions is in the archive twice", vec![directory("actions")]);
    cases.with("file over a directory", "actions is in the archive twice", vec![file("actions", "x")]);
    cases.with("directory over a file", "pack.yaml is in the archive twice", vec![directory("pack.yaml/")]);
    cases.with("file as a parent", "pack.yaml/evil conflicts with pack.yaml", vec![file("pack.yaml/evil", "x")]);
    cases.with(
        "file over a parent that was implied",
        "lib is in the archive twice",
        vec![file("lib/x", "x"), file("lib", "x")],
    );
    for (what, item) in [
        ("file", file("PACK.YAML", "x")),
        ("script", file("actions/Hello.sh", "x")),
        ("directory", directory("ACTIONS/")),
    ] {
        cases.with(&format!("twin of a {what} in case"), "differ in case only", vec![item]);
    }
    cases.with("twin of a parent in case", "Actions/evil conflicts with actions", vec![file("Actions/evil", "x")]);
    cases.with("twins among themselves", "differ in case only", vec![file("readme", "x"), file("README", "x")]);
}

fn bombs(cases: &mut Cases) {
    cases.with("bomb by ratio", "unpacks to more than", vec![file("zeros", vec![0; 4 << 20])]);
    cases.with(
        "bomb by ratio, in many files",
        "unpacks to more than",
        (0..64).map(|n| file(format!("z{n}"), vec![0; 64 << 10])).collect(),
    );
    cases.with("bomb by count", "more than 10000 files", (0..10_001).map(|n| file(format!("f{n}"), "")).collect());
    cases.with(
        "bomb by directories",
        "more than 10000 files",
        (0..10_001).map(|n| directory(format!("d{n}/"))).collect(),
    );
    cases.add("bomb of zeros after the end", Expected::Refused("unpacks to more than".to_owned()), |v| {
        gzip(&[tar(good(v)), vec![0; 8 << 20]].concat())
    });
    cases.harmless(
        "archive in an archive",
        &["inner.tar.gz"],
        vec![file("inner.tar.gz", gzip(&tar(vec![file("../evil", "x")])))],
    );
}

fn streams(cases: &mut Cases) {
    cases.changed("nothing", "", |_| Vec::new());
    cases.changed("no gzip", "unexpected end of file", |_| b"no gzip".to_vec());
    cases.changed("tar without gzip", "gzip", |_| tar(good("1.0.0")));
    cases.changed("gzip of nothing", "no end", |_| gzip(b""));
    cases.changed("gzip of noise", "", |_| gzip(&[0xa5; 2000]));
    for (part, of) in [(1, 100), (1, 4), (1, 2), (3, 4), (99, 100)] {
        cases.changed(&format!("cut at {part}/{of}"), "", move |whole| whole[..whole.len() * part / of].to_vec());
    }
    cases.changed("checksum of gzip cut off", "", |whole| whole[..whole.len() - 8].to_vec());
    cases.changed("length of gzip cut off", "", |whole| whole[..whole.len() - 1].to_vec());
    for (what, back) in [("checksum", 8), ("length", 4)] {
        cases.changed(&format!("{what} of gzip wrong"), "corrupt gzip", move |mut whole| {
            let at = whole.len() - back;
            whole[at] ^= 1;
            whole
        });
    }
    cases.changed("second gzip member", "followed by other bytes", |whole| {
        [whole, gzip(&tar(vec![file("../evil", "x")]))].concat()
    });
    cases.changed("second gzip member of nothing", "followed by other bytes", |whole| [whole, gzip(b"")].concat());
    cases.changed("zeros after gzip", "followed by other bytes", |whole| [whole, vec![0; 512]].concat());
    cases.changed("noise after gzip", "followed by other bytes", |whole| [whole, b"evil".to_vec()].concat());
    for (what, rest) in [
        ("noise", vec![0xa5; 512]),
        ("an archive", open_tar(vec![file("../evil", "x")])),
        ("an entry", open_tar(vec![file("note", "x")])),
    ] {
        cases.add(&format!("{what} after the end"), Expected::Refused("goes on after its end".to_owned()), move |v| {
            gzip(&[tar(good(v)), rest.clone()].concat())
        });
    }
    cases.add("entry after one block of zeros", Expected::Refused("goes on after its end".to_owned()), |v| {
        gzip(&[open_tar(good(v)), vec![0; 512], tar(vec![file("note", "x")])].concat())
    });
    cases.add("no end", Expected::Refused("no end".to_owned()), |v| gzip(&open_tar(good(v))));
    cases.add("half an end", Expected::Refused("no end".to_owned()), |v| {
        gzip(&[open_tar(good(v)), vec![0; 512]].concat())
    });
    cases.add("half a header", Expected::Refused(String::new()), |v| {
        gzip(&[open_tar(good(v)), vec![b'x'; 100]].concat())
    });
    cases.add("padding to a full record", Expected::Harmless(Vec::new()), |v| {
        gzip(&[tar(good(v)), vec![0; 8192]].concat())
    });
}
