//! Where a repository is. The only place that knows; another kind of place is another variant.

use tough::FilesystemTransport;
use url::Url;

use super::SyncError;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A directory, as a `file:///` address that ends with `/`.
    Directory(Url),
}

impl Source {
    /// Reads `repository.url`.
    pub(super) fn new(address: &str) -> Result<Source, SyncError> {
        let wrong = || SyncError::Url(address.chars().take(200).collect());
        let mut url = Url::parse(address).map_err(|_| wrong())?;
        if url.scheme() != "file" || url.host().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong());
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Source::Directory(url))
    }

    /// The addresses of metadata and of targets.
    pub(super) fn addresses(&self) -> Result<(Url, Url), SyncError> {
        let Source::Directory(url) = self;
        let join = |part: &str| url.join(part).map_err(|_| SyncError::Url(url.to_string()));
        Ok((join("metadata/")?, join("targets/")?))
    }

    /// What fetches from there.
    pub(super) fn transport(&self) -> FilesystemTransport {
        let Source::Directory(_) = self;
        FilesystemTransport
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_are_read() {
        let source = Source::new("file:///srv/bolt").unwrap();
        let (metadata, targets) = source.addresses().unwrap();
        assert_eq!((metadata.as_str(), targets.as_str()), ("file:///srv/bolt/metadata/", "file:///srv/bolt/targets/"));
        for wrong in ["", "/srv/bolt", "https://example.com/", "s3://bucket/x", "file://host/x", "file:///x?y"] {
            assert!(Source::new(wrong).is_err(), "{wrong}");
        }
    }
}
