//! Location of a bucket as flags and files give it: `s3://bucket/prefix`, after a `?` with `region`, `endpoint`, `path_style`,
//! `profile` and `allow_http` where they differ from those of the environment.

use bolt_aws::Options;
use packs_schema::base::bucket_url::{BucketUrl, check_endpoint};

/// Bucket, prefix, and options of the access.
#[derive(Debug)]
pub(crate) struct BucketLocation {
    pub(crate) url: BucketUrl,
    pub(crate) options: Options,
    /// Settings that have another meaning than access, which the caller knows or refuses.
    pub(crate) others: Vec<(String, String)>,
}

impl BucketLocation {
    /// Parses a location; the error is a message for people.
    pub(crate) fn parse(text: &str) -> Result<BucketLocation, String> {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let url = BucketUrl::new(address)?;
        let mut options = Options::default();
        let (mut allow_http, mut others) = (false, Vec::new());
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match key.as_ref() {
                "region" => options.region = Some(value),
                "endpoint" => options.endpoint = Some(value),
                "profile" => options.profile = Some(value),
                "path_style" => options.path_style = value == "true",
                "allow_http" => allow_http = value == "true",
                other => others.push((other.to_owned(), value)),
            }
        }
        if let Some(endpoint) = &options.endpoint {
            check_endpoint(endpoint, allow_http).map_err(|problem| format!("endpoint {endpoint:?}: {problem}"))?;
        }
        Ok(BucketLocation { url, options, others })
    }

    /// Returns bucket and options; an error if there are other settings.
    pub(crate) fn without_others(self) -> Result<(BucketUrl, Options), String> {
        match self.others.first() {
            Some((other, _)) => Err(unknown(other)),
            None => Ok((self.url, self.options)),
        }
    }
}

/// Returns the error for a setting that does not exist.
pub(crate) fn unknown(setting: &str) -> String {
    format!("it has an unknown setting {setting:?}")
}
