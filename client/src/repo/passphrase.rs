//! The passphrase that key files are encrypted with: where it comes from, and that it goes nowhere.

use std::fmt;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::RepoError;
use crate::files;

/// The environment variable that may hold the passphrase.
pub const VARIABLE: &str = "BOLT_KEY_PASSPHRASE";
/// The longest passphrase, in bytes.
const LONGEST: u64 = 1024;
/// The shortest one that new keys are encrypted with, in characters.
const SHORTEST: usize = 8;

/// A passphrase. It is wiped when it is dropped, and cannot be printed.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes what somebody typed, without the end of its line.
    pub fn new(text: String) -> Passphrase {
        let text = Zeroizing::new(text);
        Passphrase(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Reads the first line of a file that only its owner may read.
    pub fn read(path: &Path) -> Result<Passphrase, RepoError> {
        let text = Zeroizing::new(files::read_private_text(path, LONGEST)?);
        Ok(Passphrase(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())))
    }

    /// Refuses one that is too short to keep anybody out.
    pub fn checked(self) -> Result<Passphrase, RepoError> {
        if self.0.chars().count() < SHORTEST { Err(RepoError::WeakPassphrase(SHORTEST)) } else { Ok(self) }
    }

    /// True if both are the same.
    pub fn is(&self, other: &Passphrase) -> bool {
        self.0 == other.0
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// How encrypted keys are opened.
#[derive(Debug, Clone, Default)]
pub enum Unlock {
    /// Not at all: an encrypted key is an error that says what to give.
    #[default]
    Never,
    /// With this passphrase.
    With(Passphrase),
    /// By asking for the passphrase of the file when one is met.
    Ask(fn(&Path) -> io::Result<Passphrase>),
}

impl Unlock {
    pub(super) fn passphrase(&self, path: &Path) -> Result<Passphrase, RepoError> {
        match self {
            Unlock::Never => Err(RepoError::Locked(path.to_owned())),
            Unlock::With(passphrase) => Ok(passphrase.clone()),
            Unlock::Ask(ask) => ask(path).map_err(|source| RepoError::File {
                what: "ask for the passphrase of",
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// From a file, from the environment, or by `ask`.
    pub fn find(file: Option<&Path>, ask: Option<fn(&Path) -> io::Result<Passphrase>>) -> Result<Unlock, RepoError> {
        if let Some(file) = file {
            return Ok(Unlock::With(Passphrase::read(file)?));
        }
        match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => Ok(Unlock::With(Passphrase::new(text))),
            Err(std::env::VarError::NotUnicode(_)) => Err(RepoError::PassphraseText),
            _ => Ok(ask.map_or(Unlock::Never, Unlock::Ask)),
        }
    }
}
