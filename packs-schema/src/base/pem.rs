//! Diagnoses PEM files of keys and certificates from their text.
//!
//! A parser's own error must never be shown for such a file: it may quote the file, and the file may hold a private key
//! even where a certificate is expected. The messages here are fixed texts without any of the content.

use std::fmt;
use std::path::{Path, PathBuf};

/// Expected content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A private key.
    Key,
    /// A private key that signs for a repository.
    SigningKey,
    /// Certificates.
    Certificates,
    /// Certificate revocation lists (BEGIN X509 CRL).
    Crls,
}

/// Reason why a file does not hold the expected content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PemProblem {
    /// Nothing but white space.
    Empty,
    /// UTF-16 text, as some editors on Windows save it.
    Utf16,
    /// Binary DER in place of PEM.
    Der,
    /// Neither PEM nor DER.
    NotPem,
    /// The two characters `\n` in place of line ends.
    EscapedLineEnds,
    /// Several lines joined to one.
    JoinedLines,
    /// Lines that begin with blanks, as in a YAML block.
    Indented,
    /// A key that is encrypted with a passphrase.
    Encrypted,
    /// A key in the format of OpenSSH.
    OpenSsh,
    /// A certificate where a key is expected.
    CertificateOnly,
    /// A private key where a certificate is expected.
    KeyOnly,
    /// A public key.
    PublicKey,
    /// A certificate signing request.
    Request,
    /// A BEGIN line without its END line.
    Truncated,
    /// The right kind of section, with content that does not decode.
    Damaged,
    /// Well-formed, but of an algorithm or size that is not supported.
    Unsupported,
    /// A PEM section of another kind.
    OtherSection,
}

/// Error returned for a PEM file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemError {
    path: PathBuf,
    expected: Expected,
    problem: PemProblem,
}

impl PemError {
    /// Diagnoses why `text`, the content of the file at `path`, does not hold `expected`.
    pub fn diagnose(path: &Path, expected: Expected, text: &[u8]) -> PemError {
        PemError::new(path, expected, diagnose(expected, text))
    }

    /// Creates the error for a known problem.
    pub fn new(path: &Path, expected: Expected, problem: PemProblem) -> PemError {
        PemError { path: path.to_owned(), expected, problem }
    }

    /// Returns the problem.
    pub fn problem(&self) -> PemProblem {
        self.problem
    }
}

impl std::error::Error for PemError {}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = escape_path(&self.path);
        let expected = match self.expected {
            Expected::Key | Expected::SigningKey => "private key",
            Expected::Certificates => "certificate",
            Expected::Crls => "certificate revocation list",
        };
        write!(f, "{path} holds no usable {expected}: ")?;
        match self.problem {
            PemProblem::Empty => write!(f, "the file is empty")?,
            PemProblem::Utf16 => write!(f, "it is UTF-16 text; save it as ASCII or UTF-8")?,
            PemProblem::Der => match self.expected {
                Expected::Key | Expected::SigningKey => {
                    write!(f, "it is not PEM; if it is DER, convert it with `openssl pkey -inform DER`")?
                }
                Expected::Certificates => {
                    write!(f, "it is not PEM; if it is DER, convert it with `openssl x509 -inform DER`")?;
                }
                Expected::Crls => write!(f, "it is neither PEM nor one list in DER")?,
            },
            PemProblem::NotPem => write!(f, "it has no line that starts with -----BEGIN")?,
            PemProblem::EscapedLineEnds => write!(
                f,
                "its line ends are the two characters \\n; write real ones: \
                 `sed 's/\\\\n/\\n/g' {path} > FILE`, then use FILE"
            )?,
            PemProblem::JoinedLines => write!(
                f,
                "its lines are joined to one; copy it again with its line ends (BEGIN and END are on lines of their own)"
            )?,
            PemProblem::Indented => {
                write!(f, "its lines are indented; remove the blanks: `sed 's/^ *//' {path} > FILE`")?
            }
            PemProblem::Encrypted => write!(f, "the key is encrypted with a passphrase")?,
            PemProblem::OpenSsh => write!(f, "it is a key in OpenSSH's format; make a key with `openssl genpkey`")?,
            PemProblem::CertificateOnly => write!(f, "it holds a certificate; give the file with its private key")?,
            PemProblem::KeyOnly => write!(f, "it holds a private key; give the file with the certificate")?,
            PemProblem::PublicKey => write!(f, "it holds a public key")?,
            PemProblem::Request => {
                write!(f, "it holds a certificate signing request, which an authority must sign first")?
            }
            PemProblem::Truncated => {
                write!(f, "a line -----BEGIN has no matching -----END; copy the whole file again")?
            }
            PemProblem::Damaged => write!(f, "its content is damaged; copy the whole file again")?,
            PemProblem::Unsupported => match self.expected {
                Expected::Key | Expected::SigningKey => {
                    write!(f, "its algorithm or size is not supported, or the key is damaged")?
                }
                Expected::Certificates | Expected::Crls => {
                    write!(f, "its algorithm or version is not supported, or it is damaged")?
                }
            },
            PemProblem::OtherSection => write!(f, "its PEM section is of another kind")?,
        }
        if self.expected == Expected::Key && self.problem.is_about_kinds() {
            write!(
                f,
                "; supported are unencrypted keys (RSA from 2048 bits, ECDSA P-256, P-384 or P-521, Ed25519) in PEM as \
                 PKCS #8 (BEGIN PRIVATE KEY), SEC 1 (BEGIN EC PRIVATE KEY) or PKCS #1 (BEGIN RSA PRIVATE KEY); convert \
                 with `openssl pkcs8 -topk8 -nocrypt -in {path} -out FILE`"
            )?;
        }
        if self.expected == Expected::SigningKey && self.problem.is_about_kinds() {
            write!(
                f,
                "; supported are Ed25519 keys in PEM as PKCS #8, plain (BEGIN PRIVATE KEY) or encrypted with a passphrase \
                 by PBES2 with scrypt or PBKDF2 (BEGIN ENCRYPTED PRIVATE KEY); a key of another kind cannot be converted: \
                 make one with `openssl genpkey -algorithm ed25519 -out FILE`, or restore the file from a copy"
            )?;
        }
        Ok(())
    }
}

/// Escapes control characters of a path, so that it stays on one line.
fn escape_path(path: &Path) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    path.to_string_lossy().chars().map(escape).collect()
}

impl PemProblem {
    /// True if the message should list the supported kinds of keys.
    fn is_about_kinds(self) -> bool {
        matches!(
            self,
            PemProblem::Der
                | PemProblem::NotPem
                | PemProblem::Encrypted
                | PemProblem::OpenSsh
                | PemProblem::Damaged
                | PemProblem::Unsupported
                | PemProblem::OtherSection
        )
    }
}

/// True if `path` is not a path but the content of a PEM file.
pub fn is_pem_content(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().windows(BEGIN.len()).any(|part| part == BEGIN.as_bytes())
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

fn diagnose(expected: Expected, bytes: &[u8]) -> PemProblem {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return PemProblem::Utf16;
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return PemProblem::Empty;
    }
    let text = String::from_utf8_lossy(bytes);
    if !text.contains(BEGIN) {
        // A DER structure starts with a SEQUENCE.
        return if bytes.first() == Some(&0x30) && std::str::from_utf8(bytes).is_err() {
            PemProblem::Der
        } else {
            PemProblem::NotPem
        };
    }
    if text.contains("\\n") {
        return PemProblem::EscapedLineEnds;
    }
    let lines = || text.split(['\n', '\r']);
    let begins = |line: &str| line.contains(BEGIN);
    if lines().any(|line| begins(line) && !line.trim().ends_with("-----"))
        || lines().any(|line| begins(line) && line.contains(END))
    {
        return PemProblem::JoinedLines;
    }
    if lines().any(|line| begins(line) && line.starts_with([' ', '\t'])) {
        return PemProblem::Indented;
    }
    let labels: Vec<&str> = lines().filter_map(label).collect();
    let has = |wanted: &str| labels.contains(&wanted);
    let ends = |label: &&&str| lines().any(|line| line.trim().starts_with(&format!("{END}{label}-----")));
    if labels.iter().filter(ends).count() < labels.len() {
        return PemProblem::Truncated;
    }
    let plain_key = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"].into_iter().any(has);
    let certificate = has("CERTIFICATE");
    match expected {
        Expected::SigningKey if text.contains("Proc-Type: 4,ENCRYPTED") => PemProblem::Unsupported,
        Expected::SigningKey if has("PRIVATE KEY") || has("ENCRYPTED PRIVATE KEY") => PemProblem::Damaged,
        Expected::SigningKey if plain_key => PemProblem::Unsupported,
        Expected::Key if has("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") => {
            PemProblem::Encrypted
        }
        Expected::Key if plain_key => PemProblem::Damaged,
        Expected::Key | Expected::SigningKey if has("OPENSSH PRIVATE KEY") => PemProblem::OpenSsh,
        Expected::Key | Expected::SigningKey if has("DSA PRIVATE KEY") => PemProblem::Unsupported,
        Expected::Key | Expected::SigningKey if certificate => PemProblem::CertificateOnly,
        Expected::Certificates if certificate => PemProblem::Damaged,
        Expected::Crls if has("X509 CRL") => PemProblem::Damaged,
        Expected::Crls if certificate => PemProblem::OtherSection,
        Expected::Certificates if plain_key || labels.iter().any(|label| label.ends_with("PRIVATE KEY")) => {
            PemProblem::KeyOnly
        }
        _ if labels.iter().any(|label| label.ends_with("PUBLIC KEY")) => PemProblem::PublicKey,
        _ if labels.iter().any(|label| label.ends_with("CERTIFICATE REQUEST")) => PemProblem::Request,
        _ => PemProblem::OtherSection,
    }
}

/// Returns the label of a BEGIN line.
fn label(line: &str) -> Option<&str> {
    line.trim().strip_prefix(BEGIN)?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "CANARY4cd1f7a2CANARY4cd1f7a2";

    fn section(label: &str) -> String {
        format!("-----BEGIN {label}-----\n{BODY}\n-----END {label}-----\n")
    }

    #[test]
    fn each_kind_of_damage_is_diagnosed_without_quoting_the_file() {
        use PemProblem as P;
        let key = section("PRIVATE KEY");
        let mut utf16 = vec![0xff, 0xfe];
        utf16.extend(key.encode_utf16().flat_map(u16::to_le_bytes));
        let openssl = format!(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{BODY}\n-----END RSA PRIVATE KEY-----\n"
        );
        let cases: Vec<(Vec<u8>, PemProblem)> = vec![
            (Vec::new(), P::Empty),
            (b" \r\n".to_vec(), P::Empty),
            (utf16, P::Utf16),
            (BODY.into(), P::NotPem),
            ([b"\x30\x82\xff\xff", BODY.as_bytes()].concat(), P::Der),
            (key.replace('\n', "\\n").into(), P::EscapedLineEnds),
            (format!("\"{}\"", key.replace('\n', "\\n")).into(), P::EscapedLineEnds),
            (key.replace('\n', " ").into(), P::JoinedLines),
            (key.replace('\n', "").into(), P::JoinedLines),
            (key.replace('\n', "\n  ").replacen("-----BEGIN", "  -----BEGIN", 1).into(), P::Indented),
            (key.replace('\n', "\r\n").into(), P::Damaged),
            (key.clone().into(), P::Damaged),
            (key.replace("-----END PRIVATE KEY-----", "").into(), P::Truncated),
            (section("ENCRYPTED PRIVATE KEY").into(), P::Encrypted),
            (openssl.into(), P::Encrypted),
            (section("OPENSSH PRIVATE KEY").into(), P::OpenSsh),
            (section("DSA PRIVATE KEY").into(), P::Unsupported),
            (section("CERTIFICATE").into(), P::CertificateOnly),
            (section("PUBLIC KEY").into(), P::PublicKey),
            (section("CERTIFICATE REQUEST").into(), P::Request),
            (section("EC PARAMETERS").into(), P::OtherSection),
        ];
        for (bytes, problem) in cases {
            let error = PemError::diagnose(Path::new("/etc/bolt/tls/agent.key"), Expected::Key, &bytes);
            assert_eq!(error.problem(), problem, "{}", String::from_utf8_lossy(&bytes));
            let said = error.to_string();
            assert!(said.contains("/etc/bolt/tls/agent.key") && !said.contains("4cd1f7a2"), "{said}");
        }
    }

    #[test]
    fn only_ed25519_signing_keys_in_pkcs8_are_supported() {
        for (label, problem) in [
            ("PRIVATE KEY", PemProblem::Damaged),
            ("ENCRYPTED PRIVATE KEY", PemProblem::Damaged),
            ("EC PRIVATE KEY", PemProblem::Unsupported),
            ("RSA PRIVATE KEY", PemProblem::Unsupported),
            ("OPENSSH PRIVATE KEY", PemProblem::OpenSsh),
            ("CERTIFICATE", PemProblem::CertificateOnly),
            ("PUBLIC KEY", PemProblem::PublicKey),
        ] {
            let error = PemError::diagnose(Path::new("a\nb.pem"), Expected::SigningKey, section(label).as_bytes());
            assert_eq!(error.problem(), problem, "{label}");
            let said = error.to_string();
            assert!(said.starts_with("a\\nb.pem holds no usable private key: ") && !said.contains(BODY), "{said}");
            assert!(!said.contains("RSA from 2048 bits"), "{said}");
        }
    }

    #[test]
    fn a_key_in_place_of_a_certificate_is_recognised() {
        for (label, problem) in [
            ("PRIVATE KEY", PemProblem::KeyOnly),
            ("ENCRYPTED PRIVATE KEY", PemProblem::KeyOnly),
            ("CERTIFICATE", PemProblem::Damaged),
        ] {
            let error = PemError::diagnose(Path::new("x.pem"), Expected::Certificates, section(label).as_bytes());
            assert_eq!(error.problem(), problem, "{label}");
        }
    }

    #[test]
    fn the_error_for_an_encrypted_key_tells_how_to_convert_it() {
        let text = section("ENCRYPTED PRIVATE KEY");
        let said = PemError::diagnose(Path::new("me.key"), Expected::Key, text.as_bytes()).to_string();
        for part in ["PKCS #8", "SEC 1", "PKCS #1", "openssl pkcs8 -topk8 -nocrypt -in me.key"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
