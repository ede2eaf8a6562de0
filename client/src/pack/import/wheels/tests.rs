//! Wheels as people build them and as an attacker would, each made here byte by byte.

use std::fs;
use std::path::Path;

use flate2::Compression;
use flate2::Crc;
use flate2::write::DeflateEncoder;

use super::metadata::{self, WheelError};
use super::zip::{self, ZipError};
use super::*;
use crate::pack::import::ImportError;

/// Zip archive with its parts open to change.
#[derive(Clone, Default)]
pub(in crate::pack::import) struct Made {
    files: Vec<(String, Vec<u8>)>,
    deflate: bool,
    /// Change to each local and central header.
    size: Option<u32>,
    flags: u16,
    method: Option<u16>,
    local_name: Option<String>,
}

impl Made {
    pub(in crate::pack::import) fn file(mut self, name: &str, bytes: impl AsRef<[u8]>) -> Made {
        self.files.push((name.to_owned(), bytes.as_ref().to_vec()));
        self
    }

    fn packed(&self, bytes: &[u8]) -> (u16, Vec<u8>) {
        if !self.deflate {
            return (0, bytes.to_vec());
        }
        let mut packer = DeflateEncoder::new(Vec::new(), Compression::fast());
        std::io::Write::write_all(&mut packer, bytes).unwrap();
        (8, packer.finish().unwrap())
    }

    pub(in crate::pack::import) fn bytes(&self) -> Vec<u8> {
        let (mut all, mut central) = (Vec::new(), Vec::new());
        for (name, bytes) in &self.files {
            let (method, packed) = self.packed(bytes);
            let mut crc = Crc::new();
            crc.update(bytes);
            let mut common = Vec::new();
            for number in [20, self.flags, self.method.unwrap_or(method), 0, 0] {
                common.extend(number.to_le_bytes());
            }
            let size = self.size.unwrap_or(u32::try_from(bytes.len()).unwrap());
            for number in [crc.sum(), u32::try_from(packed.len()).unwrap(), size] {
                common.extend(number.to_le_bytes());
            }
            let offset = u32::try_from(all.len()).unwrap();
            let local = self.local_name.as_ref().unwrap_or(name);
            all.extend([b"PK\x03\x04", &common[..]].concat());
            all.extend(
                [&u16::try_from(local.len()).unwrap().to_le_bytes()[..], &[0, 0], local.as_bytes(), &packed].concat(),
            );
            central.extend([b"PK\x01\x02\x14\x00", &common[..]].concat());
            central.extend([&u16::try_from(name.len()).unwrap().to_le_bytes()[..], &[0; 12]].concat());
            central.extend([&offset.to_le_bytes()[..], name.as_bytes()].concat());
        }
        let (count, start) = (u16::try_from(self.files.len()).unwrap(), u32::try_from(all.len()).unwrap());
        all.extend(&central);
        all.extend([b"PK\x05\x06\0\0\0\0", &count.to_le_bytes()[..], &count.to_le_bytes()].concat());
        all.extend([&u32::try_from(central.len()).unwrap().to_le_bytes()[..], &start.to_le_bytes(), &[0, 0]].concat());
        all
    }
}

/// Wheel `NAME-VERSION-py3-none-any.whl` with these further headers and a module.
pub(in crate::pack::import) fn wheel(name: &str, version: &str, headers: &str) -> Made {
    let info = format!("{name}-{version}.dist-info");
    Made::default()
        .file(&format!("{name}.py"), format!("VERSION = {version:?}\n"))
        .file(
            &format!("{info}/METADATA"),
            format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{headers}"),
        )
        .file(&format!("{info}/WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        .file(&format!("{info}/RECORD"), "")
}

/// Writes such a wheel into a directory.
pub(in crate::pack::import) fn put(directory: &Path, name: &str, version: &str, headers: &str) {
    fs::create_dir_all(directory).unwrap();
    let file = directory.join(format!("{name}-{version}-py3-none-any.whl"));
    fs::write(file, wheel(name, version, headers).bytes()).unwrap();
}

fn read(file: &str, made: &Made) -> Result<metadata::Metadata, WheelError> {
    metadata::read(file, &made.bytes())
}

const FILE: &str = "greet-1.0-py3-none-any.whl";

#[test]
fn a_wheel_is_read_packed_or_not() {
    let headers = "Requires-Dist: requests (>=2.5)\nrequires-dist: x;\n extra == 'y'\n\nRequires-Dist: of the text";
    for deflate in [false, true] {
        let read = read(FILE, &Made { deflate, ..wheel("greet", "1.0", headers) }).unwrap();
        let requires: Vec<&str> = read.requires.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((read.name.as_str(), read.version.as_str(), requires), ("greet", "1.0", vec!["requests", "x"]));
    }
}

#[test]
fn a_file_name_says_distribution_version_and_pythons() {
    for (file, wanted) in [
        (
            "Zope.Interface-7.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            Some(("zope-interface", "7.0", true)),
        ),
        ("six-1.16.0-py2.py3-none-any.whl", Some(("six", "1.16.0", true))),
        ("six-1.16.0-1-py3-none-any.whl", Some(("six", "1.16.0", true))),
        ("x-1.0+a.b-cp36-abi3-linux_x86_64.whl", Some(("x", "1.0+a.b", true))),
        ("six-1.16.0-py2-none-any.whl", Some(("six", "1.16.0", false))),
        ("six-1.16.0-cp27-cp27mu-linux_x86_64.whl", Some(("six", "1.16.0", false))),
        ("six-1.16.0-x-py3-none-any.whl", None),
        ("six-1.16.0.whl", None),
        ("six-latest-py3-none-any.whl", None),
        ("-1.0-py3-none-any.whl", None),
        ("six-1.0-py3-none-a b.whl", None),
        ("six-1.0-py3-none-any.zip", None),
    ] {
        let read = FileName::parse(file).ok();
        let read = read.as_ref().map(|it| (it.name.as_str(), it.version.as_str(), it.is_for_python3()));
        assert_eq!(read, wanted, "{file}");
    }
}

#[test]
fn a_wheel_that_contradicts_its_name_is_refused() {
    let refused = |file: &str, made: &Made, words: &str| {
        let said = read(file, made).unwrap_err().to_string();
        assert!(said.contains(words), "{words:?} is not in {said:?}");
    };
    let info = |text: &str| Made::default().file("greet-1.0.dist-info/METADATA", text);
    let whole = wheel("greet", "1.0", "");
    refused("other-1.0-py3-none-any.whl", &whole, "one directory \"other-1.0.dist-info\"");
    refused("greet-2.0-py3-none-any.whl", &whole, "one directory \"greet-2.0.dist-info\"");
    refused(FILE, &info("Name: evil\nVersion: 1.0\n"), "METADATA says Name \"evil\", and its file name \"greet\"");
    refused(FILE, &info("Name: greet\nVersion: 1.1\n"), "METADATA says Version \"1.1\"");
    refused(FILE, &info("Name: greet\nName: greet\nVersion: 1.0\n"), "it has Name twice");
    refused(FILE, &info("Name: greet\n evil\nVersion: 1.0\n"), "no Name, or an invalid one");
    refused(FILE, &info("Name: greet\n\nVersion: 1.0\n"), "no Version");
    refused(FILE, &info("Name: greet\rName: evil\nVersion: 1.0\n"), "a control character");
    refused(FILE, &info("Name: greet\nVersion: 1.0\nRequires-Dist: x ; y # z\n"), "is no requirement");
    refused(FILE, &info("Name: greet\nVersion: 1.0\nSummary: a\u{2028}b\n"), "a control character");
    refused(FILE, &info("Name: greet\nVersion: 1.0\nnothing\n"), "line 3 is no header");
    refused(FILE, &info("Name: greet\nVersion: 1.0\nRequires-Python: >=2.6, <3\n"), "for Python 2 (>=2.6, <3)");
    refused(FILE, &Made::default().file("greet-1.0.dist-info/METADATA", b"Name: \xff\n"), "not UTF-8");
    refused(FILE, &whole.clone().file("evil-9.dist-info/METADATA", ""), "no other .dist-info");
    refused(FILE, &whole.clone().file("later-9.dist-info/METADATA", ""), "no other .dist-info");
    refused(FILE, &Made::default().file("greet.py", ""), "one directory");
    refused("greet-1.0-py2-none-any.whl", &whole, "for Python 2 (py2-none-any); build it with Python 3");
    assert!(read(FILE, &info("Name: greet\nVersion: 1.0\nRequires-Python: >=3.40\n")).is_ok(), "a later Python 3");
}

#[test]
fn a_hostile_archive_is_refused_within_limits() {
    let bytes = wheel("greet", "1.0", "").bytes();
    let refused = |bytes: &[u8]| metadata::read(FILE, bytes).unwrap_err();
    let not_zip = WheelError::Zip(ZipError::NotZip);
    for cut in 0..bytes.len() {
        refused(&bytes[..cut]);
    }
    assert_eq!(refused(&[b"#!/bin/sh\n", &bytes[..]].concat()), not_zip, "bytes before it");
    assert_eq!(refused(&[&bytes[..], b"x"].concat()), not_zip, "bytes after it");
    assert_eq!(refused(&[&bytes[..], &bytes].concat()), not_zip, "two archives");
    // Python looks for the record of zip64 before the end record.
    let end = bytes.len() - 22;
    let located = [&bytes[..end], b"PK\x06\x07", &[0; 16], &bytes[end..]].concat();
    assert_eq!(refused(&located), WheelError::Zip(ZipError::Zip64));
    let place = |part: &[u8]| bytes.windows(part.len()).position(|found| found == part).unwrap();
    let with = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        refused(&changed)
    };
    assert_eq!(with(end + 20, 1), not_zip, "a comment");
    assert_eq!(with(end + 12, bytes[end + 12] - 1), not_zip, "a directory that ends elsewhere");
    for (at, what) in
        [(end + 4, "disk"), (end + 6, "first disk"), (end + 8, "entries"), (place(b"PK\x01\x02") + 34, "disk")]
    {
        assert_eq!(with(at, bytes[at] + 1), WheelError::Zip(ZipError::Zip64), "{what}");
    }
    let local = place(b"greet-1.0.dist-info/METADATA") - 30;
    assert!(with(local + 8, 8).to_string().contains("is damaged"), "another method in its header");
    let named = |name: &str| refused(&wheel("greet", "1.0", "").file(name, "").bytes()).to_string();
    for name in ["/etc/x", "../x", "a/../x", "a//x", "a\\x", "c:x", "a\nb", "./x", "", "a/."] {
        assert!(named(name).contains("a name that no wheel may have"), "{name:?}: {}", named(name));
    }
    assert!(named("greet.py").contains("the entry \"greet.py\" twice"));
    let whole = || wheel("greet", "1.0", "");
    let made = |made: Made| refused(&made.bytes()).to_string();
    assert!(made(Made { size: Some(2 << 20), ..whole() }).contains("would have more than 1048576 bytes"), "metadata");
    assert!(made(Made { size: Some(1 << 30), ..whole() }).contains("its entries would have more than"), "all together");
    assert!(made(Made { size: Some(u32::MAX), ..whole() }).contains("more than 4 GiB"));
    assert!(made(Made { size: Some(10), ..whole() }).contains("is damaged"), "another size");
    assert!(made(Made { size: Some(10), deflate: true, ..whole() }).contains("is damaged"), "another size, packed");
    assert!(made(Made { flags: 1, ..whole() }).contains("is encrypted"));
    assert!(made(Made { method: Some(12), ..whole() }).contains("not deflate"));
    assert!(made(Made { method: Some(8), ..whole() }).contains("is damaged"), "not deflated");
    assert!(
        made(Made { local_name: Some("x".repeat(29)), ..whole() }).contains("is damaged"),
        "another name in its header"
    );
    // A bomb: its METADATA says that it has few bytes, and unpacks to many.
    let bomb = Made { deflate: true, size: Some(100), ..whole().file("x", vec![b'a'; 4 << 20]) };
    assert!(made(bomb).contains("is damaged"));
    let mut many = whole();
    for number in 0..20_001 {
        many = many.file(&number.to_string(), "");
    }
    assert!(made(many).contains("more than 20000 entries"));
    let mut damaged = bytes;
    let at = damaged.windows(11).position(|part| part == b"Name: greet").unwrap();
    damaged[at + 6] = b'G';
    assert!(refused(&damaged).to_string().contains("is damaged"), "another checksum");
    assert!(zip::open(&Made::default().bytes()).unwrap().entries.is_empty());
}

/// Directory of wheels, and what is chosen for `needs` with their versions.
fn chosen(wheels: &[(&str, &str, &str)], needs: &[&str], exactly_one: bool) -> Result<Chosen, ImportError> {
    let temp = tempfile::tempdir().unwrap();
    for (name, version, headers) in wheels {
        put(temp.path(), name, version, headers);
    }
    let need = |text: &&str| Need {
        dependency: Dependency::parse(text).unwrap(),
        named_by: "requirements.txt:1".to_owned(),
        exactly_one,
    };
    let needs: Vec<Need> = needs.iter().map(need).collect();
    choose(&Wheels::open(temp.path())?, &needs, &std::collections::BTreeSet::new())
}

fn pins(chosen: Result<Chosen, ImportError>) -> String {
    match chosen.unwrap() {
        Chosen::Complete(pins) => {
            let shown = |pin: &Pin| {
                format!(
                    "{}=={}{}",
                    pin.name,
                    pin.version,
                    pin.markers.iter().flatten().map(|it| format!(";{it}")).collect::<String>()
                )
            };
            pins.values().map(shown).collect::<Vec<_>>().join(" ")
        }
        Chosen::Missing(missing) => format!("missing: {}", missing.join(", ")),
    }
}

#[test]
fn everything_that_is_needed_is_chosen_or_named() {
    let requests = ("requests", "2.5.3", "Requires-Dist: Idna\nRequires-Dist: socks; extra == 's'\n");
    let (idna, old, new) = (("idna", "3.7", ""), ("requests", "2.4", ""), ("requests", "2.6.0", ""));
    assert_eq!(pins(chosen(&[requests, idna], &["requests"], false)), "idna==3.7 requests==2.5.3");
    assert_eq!(pins(chosen(&[requests], &["requests"], false)), "missing: Idna (requests 2.5.3)");
    let missing = "missing: socks (requests 2.5.3), twisted (requirements.txt:1)";
    assert_eq!(pins(chosen(&[requests, idna], &["twisted", "requests[s]"], false)), missing);
    // The highest version that all conditions allow, also those of other wheels.
    let all = [requests, idna, old, new];
    assert_eq!(pins(chosen(&all, &["requests>=2.5,<2.6"], false)), "idna==3.7 requests==2.5.3");
    let client = ("client", "1", "Requires-Dist: requests<2.5\n");
    assert_eq!(pins(chosen(&[old, new, client], &["requests", "client"], false)), "client==1 requests==2.4");
    let missing = "missing: requests<2 (requirements.txt:1; there is 2.4, 2.6.0)";
    assert_eq!(pins(chosen(&[old, new], &["requests<2"], false)), missing);
    let client = ("client", "1", "Requires-Dist: requests>=9\n");
    let said = pins(chosen(&[old, new, client], &["requests", "client"], false));
    assert!(said.starts_with("missing: requests"), "{said}");
    // Of an address, the one version that is there.
    let said = chosen(&[old, new], &["requests"], true).unwrap_err().to_string();
    assert!(said.contains("versions 2.4 and 2.6.0 of it are there"), "{said}");
    // A condition on the environment stays, unless something else always needs it.
    let backport = ("enum34", "1.1", "");
    let marked = ("client", "1", "Requires-Dist: enum34; python_version < '3.4'\n");
    assert_eq!(pins(chosen(&[marked, backport], &["client"], false)), "client==1 enum34==1.1;python_version < '3.4'");
    assert_eq!(pins(chosen(&[marked], &["client"], false)), "client==1");
    assert_eq!(pins(chosen(&[marked, backport], &["client", "enum34"], false)), "client==1 enum34==1.1");
    let extra = ("client", "1", "Requires-Dist: enum34; os_name == 'nt' and extra == 'x'\n");
    assert_eq!(
        pins(chosen(&[extra, backport], &["client[x]"], false)),
        "client==1 enum34==1.1",
        "no marker of an extra"
    );
    // Wheels that need one another, and one that needs what no hash can pin.
    let (a, b) =
        (("a", "1", "Requires-Dist: b\n"), ("b", "1", "Requires-Dist: a[x]\nRequires-Dist: c; extra == 'x'\n"));
    assert_eq!(pins(chosen(&[a, b], &["a"], false)), "a==1 b==1");
    let address = ("a", "1", "Requires-Dist: b @ git+https://h/b\n");
    assert_eq!(pins(chosen(&[address, b], &["a"], false)), "missing: b of a 1, which takes it from an address");
}

#[test]
fn what_the_pack_has_is_not_chosen_and_files_without_a_name_are_told() {
    let temp = tempfile::tempdir().unwrap();
    put(temp.path(), "requests", "2.5.3", "Requires-Dist: Idna\n");
    fs::write(temp.path().join("built.whl"), "").unwrap();
    let dependency = Dependency::parse("requests").unwrap();
    let needs = [Need { dependency, named_by: "requirements.txt:1".to_owned(), exactly_one: false }];
    let chosen = |given: &[&str]| {
        let given = given.iter().map(|name| (*name).to_owned()).collect();
        pins(choose(&Wheels::open(temp.path()).unwrap(), &needs, &given))
    };
    assert_eq!(chosen(&["idna"]), "requests==2.5.3");
    assert_eq!(chosen(&[]), "missing: Idna (requests 2.5.3; built.whl has no name of a wheel)");
}

#[test]
fn a_directory_that_cannot_be_read_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let said = Wheels::open(&temp.path().join("missing")).unwrap_err().to_string();
    assert!(said.contains("missing"), "{said}");
    fs::write(temp.path().join("file"), "").unwrap();
    Wheels::open(&temp.path().join("file")).unwrap_err();
    // Names of other files are left alone; a link and a file that is too large are not read.
    std::os::unix::fs::symlink("/etc/passwd", temp.path().join(FILE)).unwrap();
    fs::write(temp.path().join("notes.txt"), "").unwrap();
    let large = temp.path().join("large-1.0-py3-none-any.whl");
    fs::File::create(&large).unwrap().set_len(MAX_WHEEL + 1).unwrap();
    let wheels = Wheels::open(temp.path()).unwrap();
    assert_eq!((wheels.misnamed.len(), wheels.files("greet").len()), (1, 0));
    let said = wheels.read("large-1.0-py3-none-any.whl").unwrap_err().to_string();
    assert!(said.contains("cannot be used: it is larger than"), "{said}");
}
