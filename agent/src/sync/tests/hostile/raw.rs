//! tar and gzip by hand, so that every field can be wrong.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Header of 512 bytes with the data that follows.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) block: [u8; 512],
    pub(super) data: Vec<u8>,
    /// The checksum is set at the end.
    pub(super) sum: bool,
}

pub(super) fn raw(name: impl AsRef<[u8]>, kind: u8, data: impl Into<Vec<u8>>) -> Raw {
    let (name, data) = (name.as_ref(), data.into());
    let mut raw = Raw { block: [0; 512], data, sum: true };
    raw.block[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    raw.block[257..265].copy_from_slice(b"ustar\x0000");
    raw.block[156] = kind;
    let length = raw.data.len();
    raw.octal(100, 8, 0o644).octal(108, 8, 0).octal(116, 8, 0).octal(124, 12, length as u64).octal(136, 12, 0)
}

pub(super) fn file(name: impl AsRef<[u8]>, data: impl Into<Vec<u8>>) -> Raw {
    raw(name, b'0', data)
}

pub(super) fn directory(name: impl AsRef<[u8]>) -> Raw {
    raw(name, b'5', "").mode(0o755)
}

impl Raw {
    pub(super) fn octal(self, at: usize, width: usize, value: u64) -> Raw {
        let text = format!("{value:0width$o}\0", width = width - 1);
        self.bytes(at, text.as_bytes())
    }

    pub(super) fn bytes(mut self, at: usize, bytes: &[u8]) -> Raw {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn mode(self, mode: u64) -> Raw {
        self.octal(100, 8, mode)
    }

    pub(super) fn size(self, size: u64) -> Raw {
        self.octal(124, 12, size)
    }

    pub(super) fn link(self, target: &str) -> Raw {
        self.bytes(157, target.as_bytes())
    }

    pub(super) fn prefix(self, prefix: &str) -> Raw {
        self.bytes(345, prefix.as_bytes())
    }

    pub(super) fn without_sum(mut self) -> Raw {
        self.sum = false;
        self
    }

    fn write(mut self, out: &mut Vec<u8>) {
        if self.sum {
            self.block[148..156].fill(b' ');
            let sum: u64 = self.block.iter().map(|byte| u64::from(*byte)).sum();
            self.block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        out.extend_from_slice(&self.block);
        out.extend_from_slice(&self.data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

/// A PAX record: its length counts itself.
pub(super) fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

/// tar without its end.
pub(super) fn open_tar(items: Vec<Raw>) -> Vec<u8> {
    let mut out = Vec::new();
    items.into_iter().for_each(|item| item.write(&mut out));
    out
}

pub(super) fn tar(items: Vec<Raw>) -> Vec<u8> {
    [open_tar(items), vec![0; 1024]].concat()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}
