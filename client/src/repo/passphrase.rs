//! The passphrase that key files are encrypted with: its sources, and the type that keeps it out of any output.

use std::fmt;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::RepoError;
use crate::files;
use crate::repo::KeyError;

/// Environment variable that may hold the passphrase.
pub const VARIABLE: &str = "BOLT_KEY_PASSPHRASE";
/// Maximum length of a passphrase, in bytes.
const LONGEST: u64 = 1024;
/// Minimum length of a passphrase for new keys, in characters.
const SHORTEST: usize = 8;

/// Passphrase that is wiped when it is dropped, and cannot be printed.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Makes a passphrase of a typed line, without the line end.
    pub fn new(text: String) -> Passphrase {
        let text = Zeroizing::new(text);
        Passphrase(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Reads the first line of a file that must be readable by its owner only.
    pub fn read(path: &Path) -> Result<Passphrase, RepoError> {
        let text = Zeroizing::new(files::read_private_text(path, LONGEST)?);
        Ok(Passphrase(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())))
    }

    /// Returns an error if it is too short for new keys.
    pub fn checked(self) -> Result<Passphrase, RepoError> {
        if self.0.chars().count() < SHORTEST {
            Err(RepoError::Keys(KeyError::WeakPassphrase(SHORTEST)))
        } else {
            Ok(self)
        }
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

/// Source of the passphrase of encrypted keys.
#[derive(Debug, Clone, Default)]
pub enum Unlock {
    /// None: an encrypted key is an error that says what to give.
    #[default]
    Never,
    /// This passphrase.
    With(Passphrase),
    /// A function that asks for the passphrase of a file when one is met.
    Ask(fn(&Path) -> io::Result<Passphrase>),
}

impl Unlock {
    pub(super) fn passphrase(&self, path: &Path) -> Result<Passphrase, RepoError> {
        match self {
            Unlock::Never => Err(RepoError::Keys(KeyError::Locked(path.to_owned()))),
            Unlock::With(passphrase) => Ok(passphrase.clone()),
            Unlock::Ask(ask) => ask(path).map_err(|source| RepoError::File {
                what: "ask for the passphrase of",
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Finds the passphrase: in a file, else in the environment, else by `ask`.
    pub fn find(file: Option<&Path>, ask: Option<fn(&Path) -> io::Result<Passphrase>>) -> Result<Unlock, RepoError> {
        if let Some(file) = file {
            return Ok(Unlock::With(Passphrase::read(file)?));
        }
        match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => Ok(Unlock::With(Passphrase::new(text))),
            Err(std::env::VarError::NotUnicode(_)) => Err(RepoError::Keys(KeyError::PassphraseText)),
            _ => Ok(ask.map_or(Unlock::Never, Unlock::Ask)),
        }
    }
}
