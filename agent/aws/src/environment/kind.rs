//! Formats of values.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use url::Url;

use super::{no_proxy, proxy};

/// Format of a variable's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Non-empty text.
    Text,
    /// Printable ASCII, or empty, which means not set.
    Credential,
    /// `true` or `false`, case-insensitive, or empty, which means not set.
    Boolean,
    /// Integer of at most 32 bits.
    Number {
        /// Minimum.
        min: u32,
    },
    /// A word of a list, case-insensitive.
    OneOf(&'static [&'static str]),
    /// Words separated by commas.
    List,
    /// Token of an HTTP header, or empty, which means not set.
    Token,
    /// Name of a region.
    Region,
    /// Address with the scheme `http` or `https`.
    Url,
    /// Path of an address, beginning with `/`.
    Path,
    /// Readable file.
    File,
    /// Address of a proxy.
    Proxy,
    /// Hosts and networks that are reached without a proxy.
    NoProxy,
}

impl Kind {
    /// Checks a value. The error never contains the value.
    pub(super) fn check(self, value: &OsStr) -> Result<(), String> {
        if self == Kind::File {
            return check_file(value);
        }
        let text = value.to_str().ok_or("not UTF-8")?;
        let checked = match self {
            Kind::Credential | Kind::Boolean | Kind::Token if text.is_empty() => Ok(()),
            Kind::Proxy => proxy::check(text),
            Kind::NoProxy => return no_proxy::check(text),
            _ if text.is_empty() => Err("empty value; set or unset the variable"),
            _ if text.trim() != text => Err("begins or ends with a blank"),
            _ if text.contains(char::is_control) => Err("contains a control character"),
            Kind::OneOf(words) => return check_one_of(text, words),
            Kind::Number { min } => return check_number(text, min),
            _ => self.check_text(text),
        };
        checked.map_err(str::to_owned)
    }

    fn check_text(self, text: &str) -> Result<(), &'static str> {
        let valid = match self {
            Kind::Credential => text.bytes().all(|b| b.is_ascii_graphic() || b == b' '),
            Kind::Boolean => ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word)),
            Kind::List => text.split(',').all(|entry| !entry.trim().is_empty()),
            Kind::Token => text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)),
            Kind::Region => text.len() <= 64 && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')),
            Kind::Url => is_address(text),
            Kind::Path => text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic()),
            _ => true,
        };
        if valid {
            return Ok(());
        }
        Err(match self {
            Kind::Credential => "contains a character that is not printable ASCII",
            Kind::Boolean => "must be true or false",
            Kind::List => "contains an empty entry",
            Kind::Token => "contains a character other than letters, digits and !#$%&'*+-.^_`|~",
            Kind::Region => "not the name of a region, such as eu-west-1",
            Kind::Url => "not an address such as https://host:port",
            _ => "must begin with / and contain no blank",
        })
    }
}

fn check_one_of(text: &str, words: &[&str]) -> Result<(), String> {
    if words.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    Err(format!("must be one of {}", words.join(", ")))
}

fn check_number(text: &str, min: u32) -> Result<(), String> {
    // `parse` also accepts a sign.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(number) if digits && number >= min => Ok(()),
        _ => Err(format!("must be an integer from {min} to {}", u32::MAX)),
    }
}

fn is_address(text: &str) -> bool {
    // `Url` accepts blanks and backslashes, the SDK does not.
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    plain
        && text.parse::<hyper::Uri>().is_ok()
        && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn check_file(path: &OsStr) -> Result<(), String> {
    if path.is_empty() {
        return Err("empty value; set or unset the variable".to_owned());
    }
    let cannot = |error: std::io::Error| format!("cannot read the file ({})", error.kind());
    // Opened only if it is a regular file: opening a pipe would block.
    let metadata = Path::new(path).metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err("a directory, not a file".to_owned());
    }
    if metadata.is_file() { File::open(path).map(drop).map_err(cannot) } else { Ok(()) }
}
