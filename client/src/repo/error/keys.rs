//! Errors of the keys that sign for a repository.

use std::path::PathBuf;

/// Error about signing keys or their passphrase.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The passphrase in the environment is not UTF-8.
    #[error("environment variable BOLT_KEY_PASSPHRASE is invalid: it is not UTF-8")]
    PassphraseText,
    /// A `.kms` file names no key.
    #[error("{} names no key in KMS; write it with `bolt repo kms-key`", crate::show::path(.0))]
    NotAServiceKey(PathBuf),
    /// A key is in a key service, and this program was built without it.
    #[error("{} names a key in AWS KMS, and this `bolt` was built without it (cargo build --features kms)", crate::show::path(.0))]
    NoKeyService(PathBuf),
    /// The text is not the ARN of a key in KMS.
    #[error(
        "{0:?} is no ARN of a key in KMS, such as arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    )]
    NotAnArn(String),
    /// A key in KMS cannot be used.
    #[error("key {key} in KMS cannot be used: {problem}")]
    Kms {
        /// Its ARN.
        key: String,
        /// Error of the operating system or library.
        problem: String,
    },
    /// A key is encrypted, and no passphrase was given.
    #[error(
        "{} is encrypted: give --passphrase-file, set BOLT_KEY_PASSPHRASE, or run this on a terminal to be asked",
        crate::show::path(.0)
    )]
    Locked(PathBuf),
    /// The passphrase does not open the key.
    #[error(
        "the passphrase does not open {}; all keys of a directory need the same one: `bolt repo key-passphrase` changes it",
        crate::show::path(.0)
    )]
    WrongPassphrase(PathBuf),
    /// A new key could not be encrypted.
    #[error("cannot encrypt the key for {}", crate::show::path(.0))]
    Encrypt(PathBuf),
    /// The passphrase is too short.
    #[error("the passphrase for new keys is too short: give one of at least {0} characters")]
    WeakPassphrase(usize),
    /// A key could not be made.
    #[error("cannot make a key")]
    Generate(#[source] rcgen::Error),
    /// Number of keys or threshold out of bounds.
    #[error("{threshold} of {keys} keys must sign: use 1 to 16 keys, and a threshold of 1 up to their number")]
    Threshold {
        /// Number of keys.
        keys: u8,
        /// Number of keys that must sign.
        threshold: u8,
    },
    /// The keys belong to another repository.
    #[error(
        "the keys for {role} in {} may not sign for this repository: give the directory that `bolt repo init` made with it, \
         and where keys were replaced since, move the new ones into it, over the old ones of the same names",
        crate::show::path(directory)
    )]
    OtherKeys {
        /// The role.
        role: String,
        /// The directory.
        directory: PathBuf,
    },
    /// Fewer keys than the threshold are here.
    #[error(
        "{role} is signed with {threshold} of its keys, and {} has {good} of them: use the directory with the key files of {role} \
         (after a rotation, new ones beside those that stayed); a pack that is delegated is published by its team",
        crate::show::path(directory)
    )]
    TooFewKeys {
        /// The role.
        role: String,
        /// Number of valid keys that are here.
        good: u64,
        /// Number of keys that must sign.
        threshold: u64,
        /// The directory.
        directory: PathBuf,
    },
    /// No root key has this id.
    #[error(
        "{0:?} is not the beginning (of at least 8 digits) of one root key's id: `bolt repo status --json` lists them"
    )]
    NoSuchKey(String),
    /// New keys are to be made, and no directory was given.
    #[error("no directory for the new keys is given: use --new-keys DIR")]
    NoNewKeys,
}
