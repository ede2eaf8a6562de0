//! The forms of values, and what is wrong with one.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use url::Url;

use super::{no_proxy, proxy};

/// The form of a variable's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text that is not empty.
    Text,
    /// Printable ASCII without blanks, or empty, which counts as not set.
    Credential,
    /// `true` or `false`, in any case, or empty, which counts as not set.
    Boolean,
    /// A whole number that fits 32 bits.
    Number {
        /// The least of them.
        least: u32,
    },
    /// One of some words, in any case.
    OneOf(&'static [&'static str]),
    /// Words with commas between them.
    List,
    /// The characters that a product name in a header may have, or empty, which counts as not set.
    Token,
    /// The name of a region.
    Region,
    /// An `http` or `https` address.
    Url,
    /// The path of an address, from `/` on.
    Path,
    /// A file that can be read.
    File,
    /// A proxy.
    Proxy,
    /// Hosts and networks to reach without a proxy.
    NoProxy,
}

impl Kind {
    /// Checks a value; the error says what is wrong without the value.
    pub(super) fn check(self, value: &OsStr) -> Result<(), String> {
        if self == Kind::File {
            return file(value);
        }
        let text = value.to_str().ok_or("it is not UTF-8")?;
        let checked = match self {
            Kind::Credential | Kind::Boolean | Kind::Token if text.is_empty() => Ok(()),
            Kind::Proxy => proxy::check(text),
            Kind::NoProxy => return no_proxy::check(text),
            _ if text.is_empty() => Err("it is empty; give it a value or unset it"),
            _ if text.trim() != text => Err("it begins or ends with a blank"),
            _ if text.contains(char::is_control) => Err("it holds a control character"),
            Kind::OneOf(words) => return one_of(text, words),
            Kind::Number { least } => return number(text, least),
            _ => self.check_text(text),
        };
        checked.map_err(str::to_owned)
    }

    fn check_text(self, text: &str) -> Result<(), &'static str> {
        let fits = match self {
            Kind::Credential => text.bytes().all(|b| b.is_ascii_graphic() || b == b' '),
            Kind::Boolean => ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word)),
            Kind::List => text.split(',').all(|entry| !entry.trim().is_empty()),
            Kind::Token => text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)),
            Kind::Region => text.len() <= 64 && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')),
            Kind::Url => is_address(text),
            Kind::Path => text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic()),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        Err(match self {
            Kind::Credential => "it holds a character that is not printable ASCII",
            Kind::Boolean => "it is neither true nor false",
            Kind::List => "one of its entries is empty",
            Kind::Token => "it holds a character other than letters, digits and !#$%&'*+-.^_`|~",
            Kind::Region => "it is not the name of a region, such as eu-west-1",
            Kind::Url => "it is not an address such as https://host:port",
            _ => "it is not a path that begins with / and holds no blank",
        })
    }
}

fn one_of(text: &str, words: &[&str]) -> Result<(), String> {
    if words.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    Err(format!("it is none of {}", words.join(", ")))
}

fn number(text: &str, least: u32) -> Result<(), String> {
    // A sign would be taken, too.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(number) if digits && number >= least => Ok(()),
        _ => Err(format!("it is not a whole number from {least} to {}", u32::MAX)),
    }
}

fn is_address(text: &str) -> bool {
    // The parser of the standard mends blanks and backslashes; the SDK's does not.
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    plain
        && text.parse::<hyper::Uri>().is_ok()
        && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn file(path: &OsStr) -> Result<(), String> {
    if path.is_empty() {
        return Err("it is empty; give it a value or unset it".to_owned());
    }
    let cannot = |error: std::io::Error| format!("the file that it names cannot be read ({})", error.kind());
    // Opened only if it is no pipe, which would be waited for.
    let metadata = Path::new(path).metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err("it names a directory and not a file".to_owned());
    }
    if metadata.is_file() { File::open(path).map(drop).map_err(cannot) } else { Ok(()) }
}
