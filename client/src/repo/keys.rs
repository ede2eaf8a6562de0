//! The repository's private keys: Ed25519 in PKCS #8 PEM, in files that only their owner may read, encrypted with a
//! passphrase (PBES2: scrypt and AES-256-CBC, which `openssl pkey` reads as well) unless the publisher chose plain files.
//!
//! A keys directory holds `<role>.pem`, `<role>-2.pem` and so on (or `.kms` files, of keys in a key service) for the roles `root`,
//! `targets`, `snapshot`, `timestamp`, or a team's `team-<team>`. A publisher needs the files of the roles that change and no
//! others. Keys leave this module as signers only; no key and no passphrase is ever in an error, a log or an argument.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use packs_schema::base::pem::{Expected, PemError, PemProblem};
use pkcs8::der::pem::{LineEnding, PemLabel};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use tough::key_source::KeySource;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key as PublicKey;
use tough::sign::Sign;

use super::RepoError;
use super::key_files::{MAX_KEYS, path, service_path};
use super::passphrase::{Passphrase, Unlock};
use crate::files;
use crate::repo::KeyError;

/// Maximum size of a key file, in bytes.
const MAX_KEY_FILE: u64 = 16 << 10;
/// Id of a key: a SHA-256 over its public half.
pub(super) type KeyId = Decoded<Hex>;

/// Makes a key and writes it, encrypted when there is a passphrase; an existing file is an error.
pub(super) fn generate(path: &Path, passphrase: Option<&Passphrase>) -> Result<Key, RepoError> {
    let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(KeyError::Generate)?;
    let not_a_key = || PemError::new(path, Expected::SigningKey, PemProblem::Unsupported);
    let made = PrivateKeyInfoRef::try_from(made.serialized_der()).map_err(|_| not_a_key())?;
    // Version 1, without the public half: OpenSSL before 3.2 reads no other.
    let plain = PrivateKeyInfoRef::new(made.algorithm, made.private_key);
    let der = SecretDocument::encode_msg(&plain).map_err(|_| not_a_key())?;
    let text = encode(path, der.as_bytes(), passphrase)?;
    files::write_new(path, text.as_bytes(), 0o600)?;
    parse(path, der.as_bytes())
}

/// Returns the key in a file as PEM, encrypted with another passphrase.
pub(super) fn encrypt_again(
    path: &Path,
    ring: &mut KeyRing,
    new: &Passphrase,
) -> Result<zeroize::Zeroizing<String>, RepoError> {
    let der = ring.read(path)?;
    parse(path, der.as_bytes())?;
    encode(path, der.as_bytes(), Some(new))
}

/// Encodes a private key as PEM, encrypted when there is a passphrase.
fn encode(path: &Path, der: &[u8], passphrase: Option<&Passphrase>) -> Result<zeroize::Zeroizing<String>, RepoError> {
    let not_a_key = || PemError::new(path, Expected::SigningKey, PemProblem::Unsupported);
    let plain = PrivateKeyInfoRef::try_from(der).map_err(|_| not_a_key())?;
    let text = match passphrase {
        None => {
            SecretDocument::encode_msg(&plain).and_then(|der| der.to_pem(PrivateKeyInfoRef::PEM_LABEL, LineEnding::LF))
        }
        Some(passphrase) => {
            let encrypted =
                plain.encrypt(passphrase.bytes()).map_err(|_| RepoError::Keys(KeyError::Encrypt(path.to_owned())))?;
            encrypted.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        }
    };
    Ok(text.map_err(|_| not_a_key())?)
}

/// Keys in some directories, opened when they are needed.
#[derive(Debug)]
pub(super) struct KeyRing {
    directories: Vec<PathBuf>,
    unlock: Unlock,
    /// Passphrases that opened a key before: each is asked for once.
    passphrases: Vec<Passphrase>,
}

impl KeyRing {
    pub(super) fn new(directory: &Path, unlock: &Unlock) -> KeyRing {
        KeyRing { directories: vec![directory.to_owned()], unlock: unlock.clone(), passphrases: Vec::new() }
    }

    /// Adds a directory, whose keys this passphrase opens.
    pub(super) fn also(&mut self, directory: &Path, passphrase: Option<&Passphrase>) {
        self.directories.push(directory.to_owned());
        self.passphrases.extend(passphrase.cloned());
    }

    /// Returns the first directory.
    pub(super) fn directory(&self) -> &Path {
        self.directories.first().expect("there is one")
    }

    /// Returns every key of `role` in the directories.
    pub(super) fn role(&mut self, role: &str) -> Result<Vec<Key>, RepoError> {
        let numbers = |directory| (1..=MAX_KEYS).map(move |n| (directory, n));
        let places = self.directories.iter().flat_map(numbers);
        let places = places.flat_map(|(d, n)| [path(d, role, n), service_path(d, role, n)]);
        let places: Vec<PathBuf> = places.filter(|path| path.symlink_metadata().is_ok()).collect();
        places.iter().map(|path| self.open(path)).collect()
    }

    /// Opens the key in a file.
    pub(super) fn open(&mut self, path: &Path) -> Result<Key, RepoError> {
        if path.extension().is_some_and(|extension| extension == "kms") {
            return service(path);
        }
        let der = self.read(path)?;
        parse(path, der.as_bytes())
    }

    /// Reads the private key in a file, decrypted.
    fn read(&mut self, path: &Path) -> Result<SecretDocument, RepoError> {
        let text = zeroize::Zeroizing::new(files::read_private_text(path, MAX_KEY_FILE)?);
        let (label, der) = SecretDocument::from_pem(&text)
            .map_err(|_| PemError::diagnose(path, Expected::SigningKey, text.as_bytes()))?;
        if label == PrivateKeyInfoRef::PEM_LABEL {
            return Ok(der);
        }
        if label != EncryptedPrivateKeyInfoRef::PEM_LABEL {
            return Err(PemError::diagnose(path, Expected::SigningKey, text.as_bytes()).into());
        }
        let unsupported = || PemError::new(path, Expected::SigningKey, PemProblem::Unsupported);
        let encrypted = EncryptedPrivateKeyInfoRef::try_from(der.as_bytes()).map_err(|_| unsupported())?;
        if !matches!(encrypted.encryption_algorithm, EncryptionScheme::Pbes2(_)) {
            return Err(unsupported().into());
        }
        let opened = |passphrase: &Passphrase| encrypted.decrypt(passphrase.bytes()).ok();
        if let Some(plain) = self.passphrases.iter().find_map(opened) {
            return Ok(plain);
        }
        let passphrase = self.unlock.passphrase(path)?;
        let plain = opened(&passphrase).ok_or_else(|| RepoError::Keys(KeyError::WrongPassphrase(path.to_owned())))?;
        self.passphrases.push(passphrase);
        Ok(plain)
    }
}

fn parse(path: &Path, der: &[u8]) -> Result<Key, RepoError> {
    let unsupported = |_| PemError::new(path, Expected::SigningKey, PemProblem::Unsupported);
    let pair = Ed25519KeyPair::from_pkcs8(der).map_err(unsupported)?;
    Ok(Key::File(Arc::new(pair)))
}

#[cfg(feature = "kms")]
fn service(path: &Path) -> Result<Key, RepoError> {
    super::kms::read(path).map(|key| Key::Service(Arc::new(key)))
}

#[cfg(not(feature = "kms"))]
fn service(path: &Path) -> Result<Key, RepoError> {
    Err(RepoError::Keys(KeyError::NoKeyService(path.to_owned())))
}

/// Signing key.
#[derive(Clone)]
pub(super) enum Key {
    /// A private key from a file.
    File(Arc<Ed25519KeyPair>),
    /// A key in a key service.
    #[cfg(feature = "kms")]
    Service(Arc<super::kms::ServiceKey>),
}

impl Key {
    pub(super) fn public(&self) -> PublicKey {
        match self {
            Key::File(pair) => pair.tuf_key(),
            #[cfg(feature = "kms")]
            Key::Service(key) => key.public(),
        }
    }

    pub(super) fn id(&self) -> Result<KeyId, RepoError> {
        id(&self.public())
    }
}

/// Returns the id of a public key.
pub(super) fn id(key: &PublicKey) -> Result<KeyId, RepoError> {
    key.key_id().map_err(|error| RepoError::Tuf { what: "name a key", error: error.to_string() })
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[async_trait]
impl Sign for Key {
    fn tuf_key(&self) -> PublicKey {
        self.public()
    }

    async fn sign(
        &self,
        message: &[u8],
        random: &(dyn SecureRandom + Sync),
    ) -> Result<Vec<u8>, Box<dyn Error + Send + Sync + 'static>> {
        match self {
            Key::File(pair) => Sign::sign(&**pair, message, random).await,
            #[cfg(feature = "kms")]
            Key::Service(key) => Sign::sign(&**key, message, random).await,
        }
    }
}

#[async_trait]
impl KeySource for Key {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, Box<dyn Error + Send + Sync + 'static>> {
        Ok(Box::new(self.clone()))
    }

    async fn write(&self, _: &str, _: &str) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Err("a key file is written once, when it is made".into())
    }
}

/// Converts keys to the type that tough takes.
pub(super) fn sources(keys: &[Key]) -> Vec<Box<dyn KeySource>> {
    keys.iter().map(|key| Box::new(key.clone()) as Box<dyn KeySource>).collect()
}
