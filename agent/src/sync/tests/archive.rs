//! Archives, valid and hostile ones.

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// Entry with an arbitrary header.
#[derive(Clone)]
pub(in super::super) struct Item {
    pub(in super::super) path: String,
    pub(in super::super) kind: EntryType,
    pub(in super::super) mode: u32,
    pub(in super::super) data: Vec<u8>,
    pub(in super::super) link: Option<&'static str>,
}

pub(in super::super) fn file(path: &str, data: impl Into<Vec<u8>>) -> Item {
    Item { path: path.to_owned(), kind: EntryType::Regular, mode: 0o644, data: data.into(), link: None }
}

pub(in super::super) fn script(path: &str, data: &str) -> Item {
    Item { mode: 0o755, ..file(path, data) }
}

pub(in super::super) fn special(path: &str, kind: EntryType, link: Option<&'static str>) -> Item {
    Item { kind, link, ..file(path, "") }
}

/// Gzip over tar of `items`, in this order, without a check of anything.
pub(in super::super) fn archive(items: &[Item]) -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for item in items {
        let mut header = Header::new_ustar();
        let name = &mut header.as_old_mut().name;
        name[..item.path.len()].copy_from_slice(item.path.as_bytes());
        if let Some(link) = item.link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_size(item.data.len() as u64);
        header.set_cksum();
        tar.append(&header, item.data.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

pub(in super::super) const ACTION: &str = "name: hello
description: Greets.
runner_type: local-shell-script
entry_point: hello.sh
bolt: {class: diagnostic}
";

/// The files of a good pack.
pub(in super::super) fn pack(name: &str, version: &str) -> Vec<Item> {
    vec![
        Item { mode: 0o755, ..special("actions/", EntryType::Directory, None) },
        script("actions/hello.sh", "#!/bin/sh\necho hello\n"),
        file("actions/hello.yaml", ACTION),
        file("pack.yaml", format!("name: {name}\nversion: {version}\ndescription: Shows.\n")),
    ]
}
