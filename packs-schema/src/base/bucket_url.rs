//! Location of a repository in a bucket (`s3://bucket/prefix`), and the endpoint of an S3-compatible store.

use std::fmt;
use std::net::IpAddr;

/// Maximum length of a prefix, in bytes. S3 allows 1024 bytes for a whole key.
const MAX_PREFIX: usize = 512;

/// Bucket and prefix of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketUrl {
    bucket: String,
    prefix: String,
}

impl BucketUrl {
    /// Parses `s3://bucket` or `s3://bucket/prefix`; the error is a message for people.
    pub fn new(text: &str) -> Result<BucketUrl, &'static str> {
        let rest = text.strip_prefix("s3://").ok_or("it must start with s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(|b| plain(b) || matches!(b, b'-' | b'.')) {
            return Err("the bucket's name must be 3 to 63 lower-case letters, digits, '-' and '.'");
        }
        if !bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !bucket.ends_with(|c: char| c.is_ascii_alphanumeric())
        {
            return Err("the bucket's name must start and end with a letter or digit");
        }
        let part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=' | b'+' | b'@'))
        };
        if prefix.len() > MAX_PREFIX || !(prefix.is_empty() || prefix.split('/').all(part)) {
            return Err("the prefix may hold letters, digits, '-_.=+@' and single slashes");
        }
        Ok(BucketUrl { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// Returns the name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the prefix without leading and trailing slashes; may be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the key of the object `name` under the prefix.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// Checks the URL of an S3-compatible store: `https`, or `http` if it is a loopback address or `allow_http` is set.
pub fn check_endpoint(endpoint: &str, allow_http: bool) -> Result<(), &'static str> {
    let (secure, rest) = match (endpoint.strip_prefix("https://"), endpoint.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err("it must start with https:// or http://"),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    if host.is_empty() || !host.bytes().all(plain) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("it must be a scheme, a host and an optional port, such as https://minio.example:9000");
    }
    if !secure && !allow_http && !is_loopback(host) {
        return Err("http is allowed for loopback addresses only: use https, or set allow_http = true");
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_bucket_and_prefix() {
        for (text, bucket, key) in [
            ("s3://packs", "packs", "metadata/1.root.json"),
            ("s3://packs/", "packs", "metadata/1.root.json"),
            ("s3://my.packs-1/bolt/prod/", "my.packs-1", "bolt/prod/metadata/1.root.json"),
        ] {
            let url = BucketUrl::new(text).unwrap();
            assert_eq!((url.bucket(), url.key("metadata/1.root.json").as_str()), (bucket, key));
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
        }
        for wrong in [
            "",
            "s3://",
            "s3://ab",
            "s3://UPPER",
            "s3://-ab",
            "s3://a_b",
            "https://packs",
            "s3://packs//x",
            "s3://packs/../x",
            "s3://packs/a b",
            "s3://packs/x?y",
            "s3://packs/x#y",
            "s3://packs/x%2f",
            "s3://user@packs/x",
            "s3://packs:80/x",
        ] {
            assert!(BucketUrl::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn plain_http_is_allowed_for_loopback_only() {
        for good in [
            "https://minio.example:9000",
            "https://s3.example/",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
            "http://localhost",
        ] {
            assert_eq!(check_endpoint(good, false), Ok(()), "{good}");
        }
        assert!(check_endpoint("http://minio.example", false).is_err());
        assert_eq!(check_endpoint("http://minio.example", true), Ok(()));
        for wrong in [
            "",
            "minio.example",
            "ftp://x",
            "https://",
            "https://a/b",
            "https://u:p@host",
            "https://h:port",
            "http://127.0.0.1.evil.example",
        ] {
            assert!(check_endpoint(wrong, false).is_err(), "{wrong}");
        }
    }
}
