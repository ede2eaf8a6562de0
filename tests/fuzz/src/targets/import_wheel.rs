//! A wheel that an import reads: `METADATA` in a zip archive, with a file name that the attacker chooses as well. What is
//! read is what the file name says, and a line of `requirements.txt` that agents accept can be made of it.

use bolt_client::fuzz::wheel;
use flate2::Crc;
use packs_schema::pack::contents::requirements;

use crate::{join, parts};

const FILE: &str = "greet-1.0-py3-none-any.whl";

pub(super) fn run(data: &[u8]) {
    // The bytes as they are, under a name that they may fit, then under the name that they begin with.
    check(FILE, data);
    let [file, rest] = parts(data);
    if let Ok(file) = std::str::from_utf8(file) {
        check(file, rest);
    }
    // Text as METADATA of an archive that is whole: mutations of an archive seldom keep its checksums.
    check(FILE, &archive("greet-1.0.dist-info/METADATA", data));
    let name = String::from_utf8_lossy(&data[..data.len().min(200)]).into_owned();
    check(FILE, &archive(&name, b"Name: greet\nVersion: 1.0\n"));
}

fn check(file: &str, bytes: &[u8]) {
    let read = wheel(file, bytes);
    assert_eq!(read, wheel(file, bytes));
    match read {
        Err(error) => assert!(error.len() <= 2048, "an error of {} bytes", error.len()),
        Ok((name, version, requires)) => {
            assert!(requires <= bytes.len().max(1 << 20), "{requires} requirements");
            assert!(file.ends_with(".whl") && file.to_ascii_lowercase().contains(&version.to_ascii_lowercase().replace('-', "_")));
            let line = format!("{name}=={version} --hash=sha256:{}\n", "0".repeat(64));
            // A local version may end as a file does; the import refuses what agents would.
            let known = match requirements(&line) {
                Err(_) if version.contains('+') => return,
                read => read.unwrap_or_else(|errors| panic!("{line:?}: {errors:?}")),
            };
            assert!(known.len() == 1 && known[0].hashed && known[0].pinned && known[0].name == name, "{known:?}");
        }
    }
}

/// Zip archive of one entry, not packed.
fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let (Ok(size), Ok(name_bytes)) = (u32::try_from(bytes.len()), u16::try_from(name.len())) else { return Vec::new() };
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for number in [crc.sum(), size, size] {
        common.extend(number.to_le_bytes());
    }
    common.extend(name_bytes.to_le_bytes());
    let mut all = [b"PK\x03\x04", &common[..], &[0, 0], name.as_bytes(), bytes].concat();
    let start = u32::try_from(all.len()).unwrap_or_default();
    let central = [b"PK\x01\x02\x14\0", &common[..], &[0; 16], name.as_bytes()].concat();
    let central_bytes = u32::try_from(central.len()).unwrap_or_default();
    all.extend(&central);
    all.extend([b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &central_bytes.to_le_bytes()[..], &start.to_le_bytes(), &[0, 0]].concat());
    all
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let metadata = "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\nRequires-Python: >=3.7\n\
                    Requires-Dist: requests[socks] (<3,>=2.5) ; python_version >= '3.8'\nRequires-Dist: x ; extra == 'y'\n\nText.\n";
    let of = |version: &str| format!("Name: greet\nVersion: {version}\n");
    let whole = archive("greet-1.0.dist-info/METADATA", metadata.as_bytes());
    let other = archive("greet-1!2.0rc1+x.dist-info/METADATA", of("1!2.0rc1+x").as_bytes());
    vec![
        whole,
        metadata.as_bytes().to_vec(),
        join(&[b"greet-1!2.0rc1+x-1-cp311-abi3-linux_x86_64.whl", &other]),
        b"greet-1.0.dist-info/METADATA".to_vec(),
        b"Name: greet\nVersion: 1.0\nRequires-Python: >=2.7,!=3.0.*,<3\nRequires-Dist: b @ git+https://h/b ; a == 'b'\n".to_vec(),
    ]
}
