//! Revocation lists in the shapes that common authorities make, by openssl.

use super::shapes::{CA, Pki};
use super::*;

/// Revocation list of an authority.
struct Shape {
    name: &'static str,
    /// Kind of the keys of root and issuing authority.
    key: &'static str,
    /// Extensions, in openssl's notation.
    extensions: &'static [&'static str],
    /// Sections that the extensions name.
    sections: &'static str,
    /// Number of the list, in hexadecimal.
    number: &'static str,
    /// Reason of a revocation; none for authorities that state none.
    reason: Option<&'static str>,
    is_der: bool,
}

/// A list of Vault, of version 2 with key identifier and number, which `/v1/<mount>/crl/pem` gives as PEM and `/crl` as DER.
const VAULT: Shape = Shape {
    name: "Vault PKI",
    key: "rsa",
    extensions: &["authorityKeyIdentifier=keyid:always"],
    sections: "",
    number: "05",
    reason: None,
    is_der: false,
};

const ACCEPTED: &[Shape] = &[
    VAULT,
    Shape { name: "Vault PKI in DER", is_der: true, ..VAULT },
    // `/crl` of step-ca: DER, for certificates of users only, with the address of the list in a critical extension.
    Shape {
        name: "step-ca",
        key: "p256",
        extensions: &["authorityKeyIdentifier=keyid:always", "issuingDistributionPoint=critical,@point"],
        sections: "[point]\nfullname=URI:https://ca.example.org/1.0/crl\nonlyuser=TRUE\n",
        number: "02",
        reason: None,
        is_der: true,
    },
    // A complete list of AWS Private CA: DER in S3, a number made of the time, and the reason of each revocation.
    Shape { name: "AWS Private CA", number: "0161D25BF2F8", reason: Some("keyCompromise"), is_der: true, ..VAULT },
    // A part of its list: critical, with the address of that part.
    Shape {
        name: "AWS Private CA, partitioned",
        extensions: &["authorityKeyIdentifier=keyid:always", "issuingDistributionPoint=critical,@point"],
        sections: "[point]\nfullname=URI:http://bucket.s3.example.org/crl/1234/part-1.crl\n",
        number: "0161D25BF2F8",
        reason: Some("superseded"),
        is_der: true,
        ..VAULT
    },
];

/// Lists that are refused, and why.
const REFUSED: &[(Shape, &str)] = &[
    (
        // Vault has it at `/crl/delta`.
        Shape { name: "delta", extensions: &["2.5.29.27=critical,ASN1:INTEGER:4"], ..VAULT },
        "it is a delta list, which has only what changed: fetch the complete list",
    ),
    (
        Shape { name: "version 1", extensions: &[], number: "", ..VAULT },
        "it is of version 1: have its authority make lists of version 2",
    ),
    (
        Shape {
            name: "indirect",
            extensions: &["issuingDistributionPoint=critical,@point"],
            sections: "[point]\nfullname=URI:http://crl.example.org/all.crl\nindirectCRL=TRUE\n",
            ..VAULT
        },
        "it is an indirect list, about certificates of other authorities: fetch the list of each authority",
    ),
    (
        Shape {
            name: "some reasons",
            extensions: &["issuingDistributionPoint=critical,@point"],
            sections: "[point]\nfullname=URI:http://crl.example.org/1.crl\nonlysomereasons=keyCompromise\n",
            ..VAULT
        },
        "it has revocations for some reasons only: fetch the list of all reasons",
    ),
];

impl Pki {
    /// Makes `ann`, `lost` and, for lists, the authorities `root` and `issuing`. Returns the serial number of `lost`.
    fn make_callers(&self, key: &str) -> String {
        let ca: Vec<&str> = CA.iter().copied().chain(["subjectKeyIdentifier=hash"]).collect();
        self.make("root", key, "/O=Example/CN=Root", None, &ca);
        self.make("issuing", key, "/O=Example/CN=Issuing", Some("root"), &ca);
        for name in ["ann", "lost"] {
            let names = "subjectAltName=URI:spiffe://x/ann";
            let point = "crlDistributionPoints=URI:http://bucket.s3.example.org/crl/1234/part-1.crl";
            self.make(name, "p256", "/CN=ann", Some("issuing"), &["extendedKeyUsage=clientAuth", names, point]);
        }
        let said = self.openssl(&["x509", "-in", "lost.pem", "-noout", "-serial"]);
        said.trim().strip_prefix("serial=").unwrap().to_owned()
    }

    /// Makes a list of `issuing` that names these serial numbers.
    fn list(&self, shape: &Shape, serials: &[&str]) -> Vec<u8> {
        let reason = shape.reason.map_or_else(String::new, |reason| format!(",{reason}"));
        let revoked = |serial: &&str| format!("R\t491231235959Z\t260101000000Z{reason}\t{serial}\tunknown\t/CN=x\n");
        std::fs::write(self.at("index.txt"), serials.iter().map(revoked).collect::<String>()).unwrap();
        std::fs::write(self.at("number"), format!("{}\n", shape.number)).unwrap();
        let of_version_2 = if shape.number.is_empty() { "" } else { "crlnumber=number\ncrl_extensions=extensions\n" };
        let config = format!(
            "[ca]\ndefault_ca=this\n[this]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=1\n{of_version_2}\
             [extensions]\n{}\n{}",
            shape.extensions.join("\n"),
            shape.sections
        );
        std::fs::write(self.at("list.cnf"), config).unwrap();
        let signer = ["-cert", "issuing.pem", "-keyfile", "issuing.key"];
        self.openssl(&[&["ca", "-gencrl", "-config", "list.cnf", "-out", "list"][..], &signer].concat());
        if shape.is_der {
            self.openssl(&["crl", "-in", "list", "-outform", "DER", "-out", "list"]);
        }
        std::fs::read(self.at("list")).unwrap()
    }

    fn sent(&self, name: &str) -> Identity {
        let certificate = self.read(&format!("{name}.pem")) + &self.read("issuing.pem");
        Identity { certificate, key: self.read(&format!("{name}.key")) }
    }
}

/// Starts an api that trusts `root.pem`, with this list.
async fn start(pki: &Pki, list: &[u8]) -> Api {
    let root = pki.read("root.pem");
    Api::start_changed(|config, _| {
        std::fs::write(config.tls.client_ca.as_ref().unwrap(), &root).unwrap();
        let path = config.tls.key.with_file_name("crl.pem");
        std::fs::write(&path, list).unwrap();
        config.tls.crls = vec![path];
    })
    .await
}

#[tokio::test]
async fn a_list_of_each_authority_revokes_what_it_names() {
    for shape in ACCEPTED {
        let pki = Pki::new();
        let serial = pki.make_callers(shape.key);
        let (ann, lost) = (pki.sent("ann"), pki.sent("lost"));
        let ask = async |api: &Api, who: &Identity| api.ask(Some(who), "GET", "/v1/health", "").await;
        for serials in [&[][..], &[&*serial]] {
            let api = start(&pki, &pki.list(shape, serials)).await;
            let answer = ask(&api, &ann).await.unwrap();
            assert!(status(&answer) == 200 && !answer.contains("crl"), "{}: {answer}", shape.name);
            assert_eq!(ask(&api, &lost).await.is_ok(), serials.is_empty(), "{}: {serials:?}", shape.name);
            api.stop().await;
        }
    }
}

#[tokio::test]
async fn a_list_of_another_kind_is_refused_with_the_reason() {
    let pki = Pki::new();
    let serial = pki.make_callers("p256");
    let (ann, lost) = (pki.sent("ann"), pki.sent("lost"));
    let api = start(&pki, &pki.list(&VAULT, &[&serial])).await;
    let path = api.dir.path().join("crl.pem");
    for (shape, reason) in REFUSED {
        crate::site_file::replace(&path, pki.list(shape, &[]));
        let answer = api.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
        assert!(answer.contains("tls_invalid") && answer.contains(reason), "{}: {answer}", shape.name);
        assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_err(), "{}: it stays revoked", shape.name);
    }
    api.stop().await;
}
