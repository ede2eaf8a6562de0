//! Certificates of instances in the shapes that common authorities issue, made by openssl: the agent serves them, and the client
//! accepts them. Those of callers, and revocation lists, are tested beside the agent (`agent/src/serve/tests`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bolt_client::local::{LocalAgent, binary};
use bolt_tests::{Bolt, World, http::Call, skip};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::calls::until;
use crate::renewal::{put, served};

/// Extensions of a certificate, in openssl's notation.
type Extensions = &'static [&'static str];

/// Directory in which openssl works.
struct Pki(tempfile::TempDir);

impl Pki {
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes `<name>.key` (PKCS #8, but for `ecparam`) and `<name>.pem`, signed by `issuer` or by itself.
    fn make(&self, name: &str, key: &str, subject: &str, issuer: Option<&str>, extensions: Extensions, days: u32) {
        let generate = match key {
            "ed25519" => "genpkey -algorithm ED25519".to_owned(),
            "rsa" => "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048".to_owned(),
            // Its parameters come before the key, in a section of their own.
            "ecparam" => "ecparam -name secp384r1 -genkey".to_owned(),
            curve => format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve}"),
        };
        self.openssl(&format!("{generate} -out {name}.key"));
        fs::write(self.at("extensions"), extensions.join("\n")).unwrap();
        self.openssl(&format!("req -new -key {name}.key -subj {subject} -out request"));
        let signer = issuer.map_or_else(
            || format!("-signkey {name}.key"),
            |issuer| format!("-CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial"),
        );
        self.openssl(&format!("x509 -req -in request -extfile extensions -out {name}.pem -days {days} {signer}"));
    }
}

/// Way to issue a certificate for `i-1`.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    /// Kind of the keys of the authorities.
    authorities: &'static str,
    /// Kind of the instance's key.
    key: &'static str,
    /// Subject of the certificate.
    subject: &'static str,
    extensions: Extensions,
    days: u32,
    /// Commands of openssl that write the key into `file` as the authority's tools do; `PKCS #8` without any.
    key_file: &'static str,
    /// Certificates behind the instance's own.
    chain: &'static [&'static str],
}

const CA: Extensions = &["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];

const STEP: Shape = Shape {
    name: "step-ca",
    authorities: "P-256",
    key: "P-256",
    subject: "/CN=i-1",
    extensions: &[
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth,clientAuth",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
        "subjectAltName=DNS:i-1,URI:bolt://instance/i-1",
        "1.3.6.1.4.1.37476.9000.64.1=ASN1:SEQUENCE:provisioner",
        "[provisioner]",
        "type=INTEGER:1",
        "name=OCTETSTRING:admin",
        "credential=OCTETSTRING:abc",
    ],
    days: 1,
    key_file: "ec -in leaf.key -out file",
    chain: &["issuing"],
};

const VAULT: Shape = Shape {
    name: "Vault PKI",
    authorities: "rsa",
    key: "rsa",
    subject: "/CN=i-1",
    extensions: &[
        "keyUsage=critical,digitalSignature,keyEncipherment,keyAgreement",
        "extendedKeyUsage=serverAuth,clientAuth",
        "authorityKeyIdentifier=keyid",
        "subjectKeyIdentifier=hash",
        "subjectAltName=DNS:i-1,URI:bolt://instance/i-1",
    ],
    days: 3,
    key_file: "rsa -traditional -in leaf.key -out file",
    chain: &["issuing"],
};

const AWS: Shape = Shape {
    name: "AWS Private CA",
    authorities: "rsa",
    key: "rsa",
    subject: "/C=US/O=Example/CN=i-1",
    extensions: &[
        "basicConstraints=CA:FALSE",
        "keyUsage=critical,digitalSignature,keyEncipherment",
        "extendedKeyUsage=serverAuth",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
        "subjectAltName=URI:bolt://instance/i-1",
        "crlDistributionPoints=URI:http://bucket.s3.example.org/crl/1.crl",
    ],
    days: 395,
    key_file: "",
    chain: &["issuing"],
};

/// An SVID: no subject, so that its names are critical, and one URI of the trust domain.
const SPIRE: Shape = Shape {
    name: "SPIRE",
    authorities: "P-384",
    key: "P-256",
    subject: "/",
    extensions: &[
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth,clientAuth",
        "subjectAltName=critical,URI:spiffe://example.org/host/i-1",
    ],
    days: 1,
    key_file: "",
    chain: &["issuing"],
};

const ACCEPTED: &[Shape] = &[
    STEP,
    Shape { name: "step-ca, --kty OKP", key: "ed25519", key_file: "", ..STEP },
    Shape { name: "openssl ecparam", key: "ecparam", key_file: "", ..STEP },
    VAULT,
    Shape { name: "Vault PKI, private_key_format=pkcs8", key_file: "", ..VAULT },
    Shape { name: "Vault PKI, key_type=ec", key: "P-521", key_file: "ec -in leaf.key -out file", ..VAULT },
    // `ca_chain` ends with the root, in later versions.
    Shape { name: "Vault PKI, with the root", key: "P-256", key_file: "", chain: &["issuing", "root"], ..VAULT },
    AWS,
    Shape {
        name: "no subject, critical names",
        extensions: &["extendedKeyUsage=serverAuth", "subjectAltName=critical,URI:bolt://instance/i-1"],
        ..SPIRE
    },
];

/// Files that the agent refuses: what `check-config` and health say.
const REFUSED: &[(Shape, &str)] = &[
    (SPIRE, "names no instance, and this is i-1"),
    (
        // A template without the URI of the request.
        Shape { extensions: &["extendedKeyUsage=serverAuth", "subjectAltName=DNS:i-1"], ..AWS },
        "names no instance, and this is i-1",
    ),
    (
        Shape {
            name: "AWS Private CA, EndEntityClientAuthCertificate",
            extensions: &["extendedKeyUsage=clientAuth", "subjectAltName=URI:bolt://instance/i-1"],
            ..AWS
        },
        "is not for servers: its extended key usage lacks serverAuth",
    ),
    (
        Shape {
            name: "two instances",
            extensions: &[SERVER, "subjectAltName=URI:bolt://instance/i-1,URI:bolt://instance/i-2"],
            ..STEP
        },
        "names \"i-1\" and \"i-2\", and this is i-1",
    ),
    (
        Shape {
            name: "step-ca, with a password",
            key_file: "ec -in leaf.key -aes128 -passout pass:x -out file",
            ..STEP
        },
        "the key is encrypted with a passphrase",
    ),
    (
        Shape {
            name: "PKCS #8 with a password",
            key_file: "pkcs8 -topk8 -in leaf.key -passout pass:x -out file",
            ..VAULT
        },
        "the key is encrypted with a passphrase",
    ),
    (
        Shape { name: "a key in DER", key_file: "pkey -in leaf.key -outform DER -out file", ..VAULT },
        "convert it with `openssl pkey -inform DER`",
    ),
    (Shape { name: "the wrong order", key_file: "", chain: &[], ..STEP }, "does not belong to the first certificate"),
];

const SERVER: &str = "extendedKeyUsage=serverAuth";

impl Shape {
    /// Makes the files, and writes them into the agent's places. Returns the certificate of the instance, in DER.
    fn install(&self, pki: &Pki, agent: &LocalAgent) -> Vec<u8> {
        pki.make("root", self.authorities, "/O=Example/CN=Root", None, CA, 3650);
        pki.make("issuing", self.authorities, "/O=Example/CN=Issuing", Some("root"), CA, 1825);
        pki.make("leaf", self.key, self.subject, Some("issuing"), self.extensions, self.days);
        fs::copy(pki.at("leaf.key"), pki.at("file")).unwrap();
        if !self.key_file.is_empty() {
            pki.openssl(self.key_file);
        }
        put(agent, "agent.key", fs::read(pki.at("file")).unwrap());
        // Without the rest: the authority's certificate first.
        let all: &[&str] = if self.chain.is_empty() { &["issuing", "leaf"] } else { &["leaf"] };
        let chain: String = all.iter().chain(self.chain).map(|name| pki.read(&format!("{name}.pem"))).collect();
        put(agent, "agent.pem", chain);
        CertificateDer::from_pem_slice(pki.read("leaf.pem").as_bytes()).unwrap().to_vec()
    }
}

/// Runs `bolt-agent check-config`; returns whether it is content, and its report.
fn check(agent: &LocalAgent) -> (bool, String) {
    let mut command = Command::new(binary("bolt-agent").unwrap());
    let output = command.arg("check-config").arg("--config").arg(agent.config()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// Asks the agent for something, by the client, which knows the root alone.
fn ask(bolt: &Bolt, pki: &Pki) -> (i32, String) {
    let root = pki.at("root.pem").display().to_string();
    let asked = bolt.run(["--ca", &root, "can-i", "run", "probe.hello"]);
    (asked.code, asked.stderr)
}

fn has_openssl(test: &str) -> bool {
    let has = Command::new("openssl").arg("version").output().is_ok();
    if !has {
        skip(test, "openssl is not installed");
    }
    has
}

#[tokio::test]
async fn certificates_of_each_authority_are_served_and_accepted() {
    if !has_openssl("certificates_of_each_authority_are_served_and_accepted") {
        return;
    }
    let world = World::with_probe();
    let agent = world.agent();
    let (bolt, operator) = (world.bolt(&[&agent]), world.operator(&agent));
    let pki = Pki(tempfile::tempdir().unwrap());
    for shape in ACCEPTED {
        let certificate = shape.install(&pki, &agent);
        assert!(served(&world, &agent).await == certificate, "{}", shape.name);
        let (code, said) = ask(&bolt, &pki);
        assert_eq!((code, said.as_str()), (0, ""), "{}", shape.name);
        let (is_content, report) = check(&agent);
        assert!(
            is_content && !report.contains("agent.pem") && !report.contains("agent.key"),
            "{}: {report}",
            shape.name
        );
        let health = operator.send(Call::get("/v1/health")).await.text();
        assert!(!health.contains("certificate") && !health.contains("tls_invalid"), "{}: {health}", shape.name);
    }
    // The agent does not know the root, so that only its callers see what is missing.
    Shape { chain: &["root"], ..VAULT }.install(&pki, &agent);
    let (code, said) = ask(&bolt, &pki);
    assert!(code != 0 && said.contains("authority"), "{code} {said}");
}

#[tokio::test]
async fn files_that_no_caller_would_accept_are_refused_with_the_reason() {
    if !has_openssl("files_that_no_caller_would_accept_are_refused_with_the_reason") {
        return;
    }
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let pki = Pki(tempfile::tempdir().unwrap());
    for (shape, reason) in REFUSED {
        shape.install(&pki, &agent);
        let (is_content, report) = check(&agent);
        assert!(!is_content && report.contains(reason), "{}: {report}", shape.name);
        until(shape.name, async || {
            let health = operator.send(Call::get("/v1/health")).await.text();
            health.contains("tls_invalid") && health.contains(&reason.replace('"', "\\\""))
        })
        .await;
    }
}
