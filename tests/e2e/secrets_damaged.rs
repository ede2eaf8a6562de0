//! Damaged files with secrets: an error about one names the file and the remedy, and shows nothing of the content, on the
//! terminal, in `--json`, in the log and in `/v1/health`.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bolt_client::pki::Validity;
use bolt_tests::http::Call;
use bolt_tests::{CommandOutput, PackSource, World, spec};
use packs_schema::base::name::Principal;

use crate::calls::until;

const CANARY: &str = "canary9c2e71b5";

/// Each way to damage a key, with words of the error.
fn damages(key: &str, certificate: &str) -> Vec<(&'static str, String, &'static str)> {
    let body: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    vec![
        ("escaped", key.replace('\n', "\\n"), "two characters \\n"),
        ("blanks", key.replace('\n', " "), "joined to one"),
        ("one line", key.replace('\n', ""), "joined to one"),
        ("indented", key.lines().map(|line| format!("    {line}\n")).collect(), "indented"),
        ("truncated", key.replace("-----END PRIVATE KEY-----", ""), "no matching -----END"),
        ("no header", body.join("\n"), "no line that starts with -----BEGIN"),
        ("illegal", key.replace(body[0], &format!("{}!{}", &body[0][..20], &body[0][20..])), "damaged"),
        ("encrypted", key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "openssl pkcs8 -topk8 -nocrypt"),
        ("no key", key.replace(body[0], &body[0][4..]), "not supported"),
        ("certificate", certificate.to_owned(), "holds a certificate"),
    ]
}

/// The longest texts that may not be shown: every 16 characters of a key's lines, and the key as decimal numbers.
fn leaks(key: &str, said: &str) -> Option<String> {
    let lines = key.lines().filter(|line| !line.starts_with("-----") && line.len() >= 16);
    let parts = lines.flat_map(|line| (0..=line.len() - 16).map(move |at| &line[at..at + 16]));
    let text = parts.into_iter().find(|part| said.contains(part)).map(str::to_owned);
    text.or_else(|| said.contains("45, 45, 45").then(|| "the key as numbers".to_owned()))
}

fn write_private(path: &Path, text: &str) {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

fn check(label: &str, key: &str, said: &CommandOutput, words: &str) {
    let all = format!("{}{}", said.stdout, said.stderr);
    assert_ne!(said.code, 0, "{label}: {said:?}");
    assert_eq!(leaks(key, &all), None, "{label}: {said:?}");
    assert!(all.contains(words) || all.contains(&words.replace('\\', "\\\\")), "{label}: {words}: {said:?}");
}

#[test]
fn a_damaged_key_of_a_caller_is_told_and_not_shown() {
    let world = World::empty();
    let bolt = world.bolt(&[]);
    fs::write(world.path().join("inventory.toml"), "[[instances]]\nid = \"i-1\"\naddress = \"127.0.0.1:1\"\n").unwrap();
    let operator = world.site.operator();
    let key = fs::read_to_string(&operator.key).unwrap();
    let certificate = fs::read_to_string(&operator.certificate).unwrap();
    let file = world.path().join("damaged.key");
    let path = file.display().to_string();
    for (label, text, words) in damages(&key, &certificate) {
        write_private(&file, &text);
        for more in [&["instances", "--check"][..], &["instances", "--check", "--json"]] {
            let said = bolt.run([&["--key", &path], more].concat());
            check(label, &key, &said, words);
            assert!(said.stderr.contains(&path) || said.stdout.contains(&path), "{label}: {said:?}");
        }
        // The same file where a certificate or an authority belongs.
        for flag in ["--cert", "--ca"].into_iter().filter(|_| label != "certificate") {
            let said = bolt.run([flag, &path, "instances", "--check"]);
            check(label, &key, &said, "holds no usable certificate");
        }
    }
    // The content itself in place of the path.
    let said = bolt.run(["--key", &key, "instances", "--check"]);
    check("inline", &key, &said, "give the path");
    // A key of another issue.
    let other =
        world.site.caller("other", &Principal::new("spiffe://bolt.local/other").unwrap(), Validity::days(1)).unwrap();
    let said = bolt.run(["--key", &other.key.display().to_string(), "instances", "--check"]);
    check("mismatch", &key, &said, "does not belong to the first certificate");
    // The authority's key, for `bolt pki`.
    let authority = world.path().join("authority");
    fs::create_dir(&authority).unwrap();
    fs::copy(world.site.ca(), authority.join("ca.pem")).unwrap();
    for (label, text, words) in damages(&key, &certificate) {
        write_private(&authority.join("ca.key"), &text);
        let arguments = ["pki", "issue", "--ca", &authority.display().to_string(), "instance", "i-9", "--out"];
        let said = bolt.run([&arguments[..], &[&world.path().join("out").display().to_string()]].concat());
        check(label, &key, &said, words);
    }
}

#[tokio::test]
async fn a_damaged_key_of_an_agent_is_told_and_not_shown() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let path = agent.directory().join("etc/tls/agent.key");
    let key = fs::read_to_string(&path).unwrap();
    let certificate = fs::read_to_string(agent.directory().join("etc/tls/agent.pem")).unwrap();
    for (label, text, words) in damages(&key, &certificate) {
        fs::write(&path, &text).unwrap();
        let mut health = String::new();
        until(label, async || {
            health = operator.send(Call::get("/v1/health")).await.text();
            health.contains("tls_invalid") && health.contains(&words.replace('\\', "\\\\"))
        })
        .await;
        assert_eq!(leaks(&key, &health), None, "{label}: {health}");
        let log = fs::read_to_string(agent.log()).unwrap();
        assert_eq!(leaks(&key, &log), None, "{label}: {log}");
        assert!(log.contains("agent.key"), "{label}: {log}");
    }
    fs::write(&path, &key).unwrap();
    until("repaired", async || !operator.send(Call::get("/v1/health")).await.text().contains("tls_invalid")).await;
}

#[test]
fn damaged_passphrases_repository_keys_and_credentials_are_told_and_not_shown() {
    let world = World::with_bucket();
    let bolt = world.bolt(&[]);
    let keys = world.site.keys();
    let repository = world.site.repository().display().to_string();
    let refresh = |repository: &str| {
        ["repo", "refresh", "--repo", repository, "--keys", &keys.display().to_string()].map(str::to_owned).to_vec()
    };
    let hidden = |label: &str, said: &CommandOutput| {
        assert!(said.code != 0 && !format!("{said:?}").contains(CANARY), "{label}: {said:?}");
    };
    let timestamp = keys.join("timestamp.pem");
    let key = fs::read_to_string(&timestamp).unwrap();
    for (label, text, words) in damages(&key, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") {
        write_private(&timestamp, &text);
        for json in [false, true] {
            let mut arguments = refresh(&repository);
            arguments.extend(json.then(|| "--json".to_owned()));
            let said = bolt.run(arguments);
            check(label, &key, &said, "timestamp.pem holds no usable private key");
            // These keys may be encrypted, so an encrypted one is an error only if it is damaged.
            let words = match label {
                "encrypted" => "not supported",
                "no key" => "damaged",
                _ => words,
            };
            check(label, &key, &said, words);
            assert!(!format!("{said:?}").contains("RSA from 2048 bits"), "{label}: {said:?}");
        }
    }
    write_private(&timestamp, &key);
    let passphrase = world.path().join("passphrase");
    for text in [format!("{CANARY}\0\n"), format!("{CANARY}\n").repeat(200), format!("\u{feff}{CANARY}")] {
        write_private(&passphrase, &text);
        let mut arguments = refresh(&repository);
        arguments.extend(["--passphrase-file".to_owned(), passphrase.display().to_string()]);
        let said = bolt.run(arguments);
        assert!(!format!("{said:?}").contains(CANARY), "{said:?}");
    }
    let credentials = world.path().join("credentials");
    for (label, text) in [
        ("no section", format!("aws_secret_access_key = {CANARY}\n")),
        ("no sign", format!("[default]\naws_secret_access_key {CANARY}\n")),
        ("continued", format!("[default]\naws_secret_access_key =\n  {CANARY}\n")),
        ("half", format!("[default]\naws_access_key_id = {CANARY}\n")),
        ("source", format!("[default]\nrole_arn = {CANARY}\nsource_profile = {CANARY}\n")),
    ] {
        write_private(&credentials, &text);
        let mut command = bolt.command(["repo", "status", "--repo", &world.bucket().location("bolt")]);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_SHARED_CREDENTIALS_FILE", &credentials);
        let said = CommandOutput::from(command.output().unwrap());
        hidden(label, &said);
    }
}

#[tokio::test]
async fn a_damaged_site_configuration_is_told_and_not_shown() {
    let world = World::empty();
    let pack = PackSource::new("site", "1.0.0")
        .file("config.schema.yaml", "password: {type: string, secret: true}\nport: {type: integer}\n", 0o644)
        .action("nothing", "bolt: {class: diagnostic}", "#!/bin/true\n");
    world.publish(&pack);
    let texts = [
        format!("password: *{CANARY}\n"),
        format!("password: \"{CANARY}\n"),
        format!("password: !vault {CANARY}\n"),
        format!("password: !!int {CANARY}\n"),
        format!("password:{CANARY}\n"),
        format!("password: [{CANARY}]\n"),
        format!("port: {CANARY}\n"),
        format!("password: {CANARY}: x\n"),
        format!("\tpassword: {CANARY}\n"),
        format!("password: @{CANARY}\n"),
        format!("- {CANARY}\n"),
    ];
    for (number, text) in texts.into_iter().enumerate() {
        let mut spec = spec(&format!("i-{number}"));
        spec.pack_config = vec![("site".to_owned(), text.clone())];
        let agent = world.start(&spec);
        let operator = world.operator(&agent);
        for path in ["/v1/health", "/v1/packs", "/v1/packs/site"] {
            let said = operator.send(Call::get(path)).await.text();
            assert!(!said.contains(CANARY), "{text:?}: {path}: {said}");
        }
        let log = fs::read_to_string(agent.log()).unwrap();
        assert!(!log.contains(CANARY), "{text:?}: {log}");
        for name in ["packs/.status.json", "run/sync.json"] {
            let file = fs::read_to_string(agent.directory().join(name)).unwrap_or_default();
            assert!(!file.contains(CANARY), "{text:?}: {name}: {file}");
        }
    }
}
