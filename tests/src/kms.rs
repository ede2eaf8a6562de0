//! Signing part of AWS KMS: two calls over real HTTP, with a key made and used by `openssl`.
//!
//! <https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html>

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::answering::{Answer, Answering, Request};
use crate::bucket::ACCESS_KEY;

/// ARN of the key that may be used.
pub const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
/// ARN of an RSA key, which no repository accepts.
pub const RSA: &str = "arn:aws:kms:eu-west-1:111122223333:key/rsa";
/// Alias of the first key.
pub const ALIAS: &str = "arn:aws:kms:eu-west-1:111122223333:alias/packs";

/// A running service; stops when dropped.
#[derive(Debug)]
pub struct Kms {
    server: Answering,
}

impl Kms {
    /// Starts the service on a free loopback port, with a new key in `directory`.
    pub fn start(directory: &Path) -> Kms {
        let private = directory.join("kms.pem");
        openssl(&["ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", &private.display().to_string()], b"");
        Kms { server: Answering::start(move |request| answer(request, &private)) }
    }

    /// Returns the value for `AWS_ENDPOINT_URL_KMS`.
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl is installed");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

fn answer(request: &Request, private: &Path) -> Answer {
    let (status, body) = match respond(request, private) {
        Ok(body) => ("200 OK", body),
        Err((kind, message)) => ("400 Bad Request", json!({"__type": kind, "message": message})),
    };
    (status, "content-type: application/x-amz-json-1.1\r\n".to_owned(), body.to_string().into_bytes())
}

fn respond(request: &Request, private: &Path) -> Result<Value, (&'static str, String)> {
    let signed = request.header("authorization").unwrap_or_default();
    // Only the credential scope is checked here, not the SDK's signature.
    let scope = "/eu-west-1/kms/aws4_request";
    if !signed.starts_with(&format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/")) || !signed.contains(scope) {
        return Err(("UnrecognizedClientException", format!("not signed for {scope}: {signed}")));
    }
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let key = match asked["KeyId"].as_str() {
        Some(KEY | ALIAS) => KEY,
        Some(RSA) => RSA,
        _ => return Err(("AccessDeniedException", "User is not authorized to perform this on this key".to_owned())),
    };
    let file = private.display().to_string();
    let text = |bytes: &[u8]| String::from_utf8(openssl(&["base64", "-A"], bytes)).expect("it is text");
    match request.header("x-amz-target") {
        Some("TrentService.GetPublicKey") if key == RSA => {
            Ok(json!({"KeyId": key, "KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY", "PublicKey": ""}))
        }
        Some("TrentService.GetPublicKey") => {
            let der = openssl(&["pkey", "-in", &file, "-pubout", "-outform", "DER"], b"");
            Ok(json!({"KeyId": key, "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY", "PublicKey": text(&der),
                "SigningAlgorithms": ["ECDSA_SHA_256"]}))
        }
        Some("TrentService.Sign") => {
            if (&asked["MessageType"], &asked["SigningAlgorithm"]) != (&json!("DIGEST"), &json!("ECDSA_SHA_256")) {
                return Err(("ValidationException", asked.to_string()));
            }
            let message = asked["Message"].as_str().unwrap_or_default();
            let digest = openssl(&["base64", "-A", "-d"], message.as_bytes());
            let signature = openssl(&["pkeyutl", "-sign", "-inkey", &file], &digest);
            Ok(json!({"KeyId": key, "SigningAlgorithm": "ECDSA_SHA_256", "Signature": text(&signature)}))
        }
        other => Err(("UnknownOperationException", format!("{other:?}"))),
    }
}
