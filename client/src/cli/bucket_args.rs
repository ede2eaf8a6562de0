//! Options for a repository in a bucket, where the environment and the profile do not give them.

use std::path::PathBuf;

use clap::Args;
use url::form_urlencoded::Serializer;

use super::failure::{Exit, Failure};

/// For a repository in a bucket; credentials come from the environment, a profile or the instance.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct BucketArgs {
    /// The bucket's region.
    // Not --region, which selects instances.
    #[arg(long, value_name = "REGION", help_heading = "Bucket")]
    bucket_region: Option<String>,
    /// The address of a store that is not Amazon's.
    #[arg(long, value_name = "URL", help_heading = "Bucket")]
    endpoint: Option<String>,
    /// Put the bucket's name into the path, and not before the host.
    #[arg(long, help_heading = "Bucket")]
    path_style: bool,
    /// A profile of the shared AWS configuration.
    #[arg(long, value_name = "NAME", help_heading = "Bucket")]
    profile: Option<String>,
    /// Allow an endpoint without TLS that is not this host.
    #[arg(long, help_heading = "Bucket")]
    allow_http: bool,
}

impl BucketArgs {
    /// Returns `repository` with the options of its bucket.
    pub(super) fn location(&self, repository: PathBuf) -> Result<PathBuf, Failure> {
        let mut query = Serializer::new(String::new());
        let texts = [("region", &self.bucket_region), ("endpoint", &self.endpoint), ("profile", &self.profile)];
        for (key, value) in texts {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        for (key, given) in [("path_style", self.path_style), ("allow_http", self.allow_http)] {
            if given {
                query.append_pair(key, "true");
            }
        }
        let query = query.finish();
        if query.is_empty() {
            return Ok(repository);
        }
        match repository.to_str().filter(|text| text.starts_with("s3://")) {
            Some(text) => Ok(format!("{text}?{query}").into()),
            None => Err(Failure::new(
                Exit::Usage,
                format!(
                    "--bucket-region, --endpoint, --path-style, --profile and --allow-http are for s3://bucket/prefix, and {} is a directory",
                    crate::show::path(&repository)
                ),
            )),
        }
    }
}
