//! Keys that stay in AWS KMS: each signature is a call, with the credentials of whoever publishes.
//!
//! ```text
//!  bolt repo kms-key ─GetPublicKey─▶ <role>.kms: the key's ARN and its public half, nothing secret
//!  a change          ─Sign────────▶ KMS signs the digest ─▶ metadata
//! ```
//!
//! A `.kms` file is in a keys directory in place of a `.pem` file. The key is an elliptic one (`ECC_NIST_P256`), for
//! signing and verifying. Who may sign is decided by KMS, which also says in its log who did.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_lc_rs::rand::SecureRandom;
use aws_sdk_kms::error::DisplayErrorContext;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
use bolt_aws::{EnvironmentError, Options};
use pkcs8::der::pem::{LineEnding, encode_string};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tough::schema::key::{EcdsaKey, EcdsaScheme, Key as PublicKey};
use tough::sign::Sign;

use super::key_files::{self, MAX_KEYS};
use super::{RepoError, block_on};
use crate::files;
use crate::repo::KeyError;

/// The version of the file that this code writes.
const FORMAT: u32 = 1;
/// The largest key file, in bytes.
const MAX_FILE: u64 = 16 << 10;

/// The file `<role>.kms`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceKey {
    format: u32,
    /// The key's ARN.
    key: String,
    public: PublicKey,
}

/// Writes the file for a key of `role` (`root`, `targets`, `snapshot`, `timestamp` or `team-<team>`) that is in KMS.
pub fn kms_key(role: &str, arn: &str, directory: &Path) -> Result<PathBuf, RepoError> {
    let region = region(arn).ok_or_else(|| RepoError::Keys(KeyError::NotAnArn(arn.chars().take(200).collect())))?;
    let free = (1..=MAX_KEYS).find(|n| {
        [key_files::path(directory, role, *n), key_files::service_path(directory, role, *n)]
            .iter()
            .all(|path| !path.exists())
    });
    let path = key_files::service_path(directory, role, free.unwrap_or(MAX_KEYS));
    files::refuse_existing(&[&path])?;
    files::create_dir(directory)?;
    let wrong = |problem: String| RepoError::Keys(KeyError::Kms { key: arn.to_owned(), problem });
    let found = block_on(async || {
        let asked = client(region).await?.get_public_key().key_id(arn).send().await;
        asked.map_err(|error| wrong(DisplayErrorContext(error).to_string()))
    })?;
    if found.key_spec() != Some(&KeySpec::EccNistP256) || found.key_usage() != Some(&KeyUsageType::SignVerify) {
        let (spec, usage) = (found.key_spec().map(KeySpec::as_str), found.key_usage().map(KeyUsageType::as_str));
        let is = format!("{} for {}", spec.unwrap_or("unknown"), usage.unwrap_or("unknown"));
        return Err(wrong(format!("it is {is}; a key of a repository is ECC_NIST_P256 for SIGN_VERIFY")));
    }
    let der = found.public_key().map(Blob::as_ref).unwrap_or_default();
    let pem = encode_string("PUBLIC KEY", LineEnding::LF, der).map_err(|e| wrong(e.to_string()))?;
    let public = pem.parse().map_err(|_| wrong("its public half cannot be read".to_owned()))?;
    let public = PublicKey::Ecdsa {
        keyval: EcdsaKey { public, _extra: HashMap::new() },
        scheme: EcdsaScheme::EcdsaSha2Nistp256,
        _extra: HashMap::new(),
    };
    // An alias could be another key tomorrow.
    let key = found.key_id().unwrap_or(arn).to_owned();
    let file = ServiceKey { format: FORMAT, key, public };
    let mut bytes = serde_json::to_vec_pretty(&file).expect("a key file serialises");
    bytes.push(b'\n');
    files::write_new(&path, &bytes, 0o644)?;
    Ok(path)
}

/// Reads such a file.
pub(super) fn read(path: &Path) -> Result<ServiceKey, RepoError> {
    let text = files::read_text(path, MAX_FILE)?;
    let read = serde_json::from_str(&text).ok();
    let read = read.filter(|key: &ServiceKey| key.format == FORMAT && region(&key.key).is_some());
    read.ok_or_else(|| RepoError::Keys(KeyError::NotAServiceKey(path.to_owned())))
}

/// The region of a key's ARN.
fn region(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", _, "kms", region, _, key] if !region.is_empty() && !key.is_empty() => Some(region),
        _ => None,
    }
}

/// A client lives as long as its runtime, so each call has its own.
async fn client(region: &str) -> Result<aws_sdk_kms::Client, EnvironmentError> {
    let options = Options { region: Some(region.to_owned()), ..Options::default() };
    Ok(aws_sdk_kms::Client::new(&bolt_aws::sdk_config(&options).await?))
}

impl ServiceKey {
    pub(super) fn public(&self) -> PublicKey {
        self.public.clone()
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceKey({})", self.key)
    }
}

/// Error returned when KMS did not sign.
#[derive(Debug, thiserror::Error)]
#[error("{key} did not sign: {problem}")]
struct NotSigned {
    key: String,
    problem: String,
}

#[async_trait]
impl Sign for ServiceKey {
    fn tuf_key(&self) -> PublicKey {
        self.public()
    }

    async fn sign(
        &self,
        message: &[u8],
        _: &(dyn SecureRandom + Sync),
    ) -> Result<Vec<u8>, Box<dyn Error + Send + Sync + 'static>> {
        let failed = |problem: String| NotSigned { key: self.key.clone(), problem };
        let client = client(region(&self.key).unwrap_or_default()).await;
        let client = client.map_err(|error| failed(error.to_string()))?;
        let signed = client
            .sign()
            .key_id(&self.key)
            .message(Blob::new(Sha256::digest(message).to_vec()))
            .message_type(MessageType::Digest)
            .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256)
            .send()
            .await
            .map_err(|error| failed(DisplayErrorContext(error).to_string()))?;
        let signature = signed.signature.ok_or_else(|| failed("its answer holds no signature".to_owned()))?;
        Ok(signature.into_inner())
    }
}
