//! Certificates of callers in the shapes that common authorities issue, made by openssl.
//!
//! Each is an authority, perhaps with an intermediate, and a caller's certificate with the extensions of that program.

use std::path::PathBuf;
use std::process::Command;

use packs_schema::agent::config::ClientAuthority;

use super::*;

/// Extensions of a certificate, in openssl's notation.
pub(super) type Extensions<'a> = &'a [&'a str];

/// Directory in which openssl works.
pub(super) struct Pki(tempfile::TempDir);

impl Pki {
    pub(super) fn new() -> Pki {
        Pki(tempfile::tempdir().unwrap())
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap()
    }

    pub(super) fn openssl(&self, arguments: &[&str]) -> String {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes `<name>.key` and `<name>.pem` with this subject, signed by `issuer` or by itself.
    pub(super) fn make(&self, name: &str, key: &str, subject: &str, issuer: Option<&str>, extensions: Extensions<'_>) {
        let (key_file, pem, csr, ext) =
            (format!("{name}.key"), format!("{name}.pem"), format!("{name}.csr"), format!("{name}.ext"));
        let (algorithm, option) = match key {
            "rsa" => ("RSA", "rsa_keygen_bits:2048"),
            curve => ("EC", if curve == "p384" { "ec_paramgen_curve:P-384" } else { "ec_paramgen_curve:P-256" }),
        };
        self.openssl(&["genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", &key_file]);
        std::fs::write(self.at(&ext), extensions.join("\n")).unwrap();
        self.openssl(&["req", "-new", "-key", &key_file, "-subj", subject, "-out", &csr]);
        let mut arguments = vec!["x509", "-req", "-in", &csr, "-extfile", &ext, "-out", &pem, "-days", "1"];
        let (ca, ca_key);
        match issuer {
            Some(issuer) => {
                (ca, ca_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
                arguments.extend(["-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"]);
            }
            None => arguments.extend(["-signkey", &key_file]),
        }
        self.openssl(&arguments);
    }

    /// Returns the caller `leaf` with the certificates that follow its own.
    fn caller(&self, chain: &[&str]) -> Identity {
        let certificate = std::iter::once(&"leaf").chain(chain).map(|name| self.read(&format!("{name}.pem"))).collect();
        Identity { certificate, key: self.read("leaf.key") }
    }
}

/// Starts an api that trusts `root.pem` for these principals, and asks it as the caller.
async fn accepts(pki: &Pki, chain: &[&str], principals: Option<&str>) -> String {
    let root = pki.read("root.pem");
    let api = Api::start_changed(|config, _| {
        let file = config.tls.key.with_file_name("callers.pem");
        std::fs::write(&file, &root).unwrap();
        match principals {
            Some(pattern) => {
                let principals = vec![pattern.to_owned().try_into().unwrap()];
                config.tls.client_authorities = vec![ClientAuthority { file, principals }];
                config.tls.client_ca = None;
            }
            None => config.tls.client_ca = Some(file),
        }
        let grants = GRANTS.replace("spiffe://x/ann", "spiffe://example.org/*");
        std::fs::write(&config.paths.grants, grants).unwrap();
    })
    .await;
    let answer = api.ask(Some(&pki.caller(chain)), "GET", "/v1/access?verb=read", "").await;
    api.stop().await;
    answer.unwrap_or_else(|error| error.to_string())
}

fn accepted(answer: &str, principal: &str, authority: &str) {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("\"principal\":\"{principal}\"")), "{answer}");
    assert!(answer.contains(&format!("\"authority\":\"{authority}\"")), "{answer}");
}

pub(super) const CA: Extensions<'_> = &["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];

/// SVID of SPIRE: an authority without common name and with a URI of its trust domain, an intermediate of the server, EC keys,
/// a URI as the only alternative name, key usage digitalSignature.
#[tokio::test]
async fn a_spire_svid_is_accepted() {
    let pki = Pki::new();
    let domain = "subjectAltName=URI:spiffe://example.org";
    let ca: Vec<&str> = CA.iter().copied().chain([domain]).collect();
    pki.make("root", "p384", "/C=US/O=SPIFFE", None, &ca);
    pki.make("server", "p256", "/C=US/O=SPIRE/OU=DOWNSTREAM-1", Some("root"), &ca);
    let svid = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth,clientAuth",
        "subjectAltName=URI:spiffe://example.org/ns/prod/sa/robot",
    ];
    pki.make("leaf", "p256", "/C=US/O=SPIRE", Some("server"), &svid);
    let answer = accepts(&pki, &["server"], Some("spiffe://example.org/*")).await;
    accepted(&answer, "spiffe://example.org/ns/prod/sa/robot", "O=SPIFFE");
    // Without a subject the names are critical (RFC 5280, section 4.2.1.6).
    let critical: Vec<String> = svid.map(|line| line.replace("subjectAltName=", "subjectAltName=critical,")).into();
    let critical: Vec<&str> = critical.iter().map(String::as_str).collect();
    pki.make("leaf", "p256", "/", Some("server"), &critical);
    let answer = accepts(&pki, &["server"], Some("spiffe://example.org/*")).await;
    accepted(&answer, "spiffe://example.org/ns/prod/sa/robot", "O=SPIFFE");
    assert!(
        !accepts(&pki, &[], Some("spiffe://example.org/*")).await.contains("200 OK"),
        "the intermediate is missing"
    );
}

/// Certificate of Vault's PKI engine: RSA throughout, an intermediate mount, a common name and `uri_sans`.
#[tokio::test]
async fn a_vault_certificate_is_accepted() {
    let pki = Pki::new();
    pki.make("root", "rsa", "/CN=example.org", None, CA);
    pki.make("issuing", "rsa", "/CN=example.org Intermediate Authority", Some("root"), CA);
    let leaf = |names: &str| {
        let names = format!("subjectAltName={names}");
        let extensions = [
            "keyUsage=critical,digitalSignature,keyEncipherment,keyAgreement",
            "extendedKeyUsage=serverAuth,clientAuth",
            "authorityKeyIdentifier=keyid",
            "subjectKeyIdentifier=hash",
            &names,
        ];
        pki.make("leaf", "rsa", "/CN=ann", Some("issuing"), &extensions);
    };
    leaf("URI:spiffe://example.org/ann");
    accepted(&accepts(&pki, &["issuing"], None).await, "spiffe://example.org/ann", "CN=example.org");
    // Vault adds the common name as a host name unless `exclude_cn_from_sans` is set: it does no harm.
    leaf("DNS:ann,URI:spiffe://example.org/ann");
    accepted(&accepts(&pki, &["issuing"], None).await, "spiffe://example.org/ann", "CN=example.org");
    // The bundle of `ca_chain` ends with the root.
    accepted(&accepts(&pki, &["issuing", "root"], None).await, "spiffe://example.org/ann", "CN=example.org");
}

/// Certificate of step-ca: EC P-256, root and intermediate with path lengths, and the extension of its provisioner.
#[tokio::test]
async fn a_step_ca_certificate_is_accepted() {
    let pki = Pki::new();
    let ca = |length: u8| format!("basicConstraints=critical,CA:TRUE,pathlen:{length}");
    let usage = "keyUsage=critical,keyCertSign,cRLSign";
    pki.make("root", "p256", "/O=Example/CN=Example Root CA", None, &[&ca(1), usage]);
    pki.make("issuing", "p256", "/O=Example/CN=Example Intermediate CA", Some("root"), &[&ca(0), usage]);
    let leaf = [
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth,clientAuth",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
        "subjectAltName=URI:spiffe://example.org/ann",
        "1.3.6.1.4.1.37476.9000.64.1=ASN1:SEQUENCE:provisioner",
        "[provisioner]",
        "type=INTEGER:1",
        "name=OCTETSTRING:admin",
        "credential=OCTETSTRING:abc",
    ];
    pki.make("leaf", "p256", "/CN=spiffe:\\/\\/example.org\\/ann", Some("issuing"), &leaf);
    accepted(&accepts(&pki, &["issuing"], None).await, "spiffe://example.org/ann", "CN=Example Root CA");
}

/// Certificate of AWS Private CA: RSA 2048, a subject of several parts, common name and URI, distribution point of lists.
#[tokio::test]
async fn a_certificate_of_aws_private_ca_is_accepted() {
    let pki = Pki::new();
    pki.make("root", "rsa", "/C=US/O=Example/OU=Security/CN=Example Private CA", None, CA);
    let leaf = [
        "basicConstraints=CA:FALSE",
        "keyUsage=critical,digitalSignature,keyEncipherment",
        "extendedKeyUsage=serverAuth,clientAuth",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
        "subjectAltName=URI:spiffe://example.org/ann",
        "crlDistributionPoints=URI:http://bucket.s3.example.org/crl/1.crl",
    ];
    pki.make("leaf", "rsa", "/O=Example/CN=ann", Some("root"), &leaf);
    accepted(&accepts(&pki, &[], None).await, "spiffe://example.org/ann", "CN=Example Private CA");
    // From a subordinate authority, with the path length of its template, and its certificate as `CertificateChain` without the root.
    let subordinate =
        ["basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,digitalSignature,keyCertSign,cRLSign"];
    pki.make("issuing", "rsa", "/C=US/O=Example/OU=Security/CN=Example Issuing CA", Some("root"), &subordinate);
    pki.make("leaf", "rsa", "/O=Example/CN=ann", Some("issuing"), &leaf);
    accepted(&accepts(&pki, &["issuing"], None).await, "spiffe://example.org/ann", "CN=Example Private CA");
    let answer = accepts(&pki, &[], None).await;
    assert!(!answer.contains("200 OK"), "the chain is missing: {answer}");
    // Without a URI, as its templates issue by default, there is no principal.
    let without: Vec<&str> = leaf.into_iter().filter(|line| !line.starts_with("subjectAltName")).collect();
    pki.make("leaf", "rsa", "/O=Example/CN=ann", Some("issuing"), &without);
    let answer = accepts(&pki, &["issuing"], None).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("has no URI name"), "{answer}");
}
