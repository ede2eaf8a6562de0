//! Tests of `linux.certificate_expiry`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Ended, action, have};
use crate::pki::{certificate, pem, tlv, with_times};

fn look(paths: &[&Path], more: &[(&str, Value)]) -> Ended {
    let mut parameters = json!({"paths": paths});
    for (name, value) in more {
        parameters[name] = value.clone();
    }
    action("linux.certificate_expiry", parameters).go()
}

/// Returns file name and status of each certificate, in the order of the result.
fn statuses(ended: &Ended) -> Vec<(String, String)> {
    let name = |c: &Value| c["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let list = ended.result["certificates"].as_array().unwrap();
    list.iter().map(|c| (name(c), c["status"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn each_certificate_has_its_status_and_the_soonest_comes_first() {
    let top = TempDir::new().unwrap();
    let put = |name: &str, der: &[u8]| fs::write(top.path().join(name), pem(der)).unwrap();
    put("good.pem", &certificate("good", -10, 90));
    put("gone.crt", &certificate("gone", -90, -2));
    put("soon.pem", &certificate("soon", -10, 20));
    put("very-soon.pem", &certificate("very soon", -10, 3));
    put("early.pem", &certificate("early", 5, 100));
    fs::create_dir(top.path().join("deeper")).unwrap();
    fs::write(top.path().join("deeper/raw.der"), certificate("raw", -10, 400)).unwrap();
    fs::write(top.path().join("notes.txt"), pem(&certificate("not looked at", -9, -8))).unwrap();
    let ended = look(&[top.path()], &[]).well();
    let expected = [
        ("gone.crt", "expired"),
        ("very-soon.pem", "critical"),
        ("soon.pem", "warning"),
        ("good.pem", "ok"),
        ("early.pem", "not_yet_valid"),
        ("raw.der", "ok"),
    ];
    let found = statuses(&ended);
    let found: Vec<(&str, &str)> = found.iter().map(|(n, s)| (n.as_str(), s.as_str())).collect();
    assert_eq!(found, expected);
    let soon = &ended.result["certificates"][2];
    assert_eq!(
        (&soon["subject"], &soon["names"], &soon["serial"]),
        (&json!("soon"), &json!(["www.example.com"]), &json!("1234"))
    );
    assert_eq!(soon["days_left"], 20);
}

#[test]
fn fail_on_makes_it_a_check() {
    let top = TempDir::new().unwrap();
    let soon = top.path().join("soon.pem");
    fs::write(&soon, pem(&certificate("soon", -10, 20))).unwrap();
    for (fail_on, warn_days, status) in [("never", 30, 0), ("critical", 30, 0), ("warning", 30, 1), ("warning", 10, 0)]
    {
        let ended = look(&[&soon], &[("fail_on", json!(fail_on)), ("warn_days", json!(warn_days))]);
        assert_eq!(ended.status, Some(status), "{fail_on} {warn_days}");
    }
}

#[test]
fn blocks_without_an_end_hide_no_certificate_and_take_no_time() {
    let top = TempDir::new().unwrap();
    let text = "-----BEGIN CERTIFICATE-----\n".repeat(36_000) + &pem(&certificate("good", -10, 90));
    fs::write(top.path().join("many.pem"), text).unwrap();
    assert_eq!(statuses(&look(&[top.path()], &[]).well()), [("many.pem".to_owned(), "ok".to_owned())]);
}

#[test]
fn a_certificate_chain_is_read_and_keys_are_skipped() {
    let top = TempDir::new().unwrap();
    let chain = [pem(&certificate("leaf", -1, 50)), pem(&certificate("middle", -1, 500))].concat();
    fs::write(top.path().join("chain.pem"), chain).unwrap();
    fs::write(top.path().join("key.pem"), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
        .unwrap();
    let ended = look(&[top.path()], &[]).well();
    assert_eq!((statuses(&ended).len(), &ended.result["not_read"]), (2, &json!([])));
    assert!(!ended.stdout.contains("c2VjcmV0"));
}

#[test]
fn invalid_files_are_reported_and_skipped() {
    let top = TempDir::new().unwrap();
    let good = certificate("good", -1, 90);
    let files: Vec<(String, Vec<u8>)> = vec![
        ("empty.pem".into(), Vec::new()),
        ("text.pem".into(), b"hello".to_vec()),
        ("base64.pem".into(), b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n".to_vec()),
        ("long-length.der".into(), vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]),
        ("endless-length.der".into(), vec![0x30, 0xff, 1, 1]),
        ("other.der".into(), tlv(0x30, &tlv(0x30, &tlv(0x02, &[1])))),
        ("no-time.der".into(), with_times("x", &tlv(0x17, b"noon"), &tlv(0x17, b"991399999999Z"))),
        ("month.der".into(), with_times("x", &tlv(0x17, b"200101000000Z"), &tlv(0x17, b"201301000000Z"))),
    ];
    for (name, bytes) in &files {
        fs::write(top.path().join(name), bytes).unwrap();
    }
    for cut in (1..good.len()).step_by(7).take(25) {
        fs::write(top.path().join(format!("cut-{cut}.der")), &good[..cut]).unwrap();
    }
    fs::write(top.path().join("good.der"), &good).unwrap();
    fs::write(top.path().join("big.pem"), vec![b'x'; (1 << 20) + 1]).unwrap();
    let ended = look(&[top.path()], &[]).well();
    let found = statuses(&ended);
    assert!(found.contains(&("good.der".into(), "ok".into())), "{found:?}");
    // A certificate without its signature still has an expiry date.
    assert!(found.iter().all(|(name, _)| name.starts_with("cut-") || name == "good.der"), "{found:?}");
    let not_read = ended.result["not_read"].as_array().unwrap();
    let named = |name: &str| not_read.iter().any(|n| n["file"].as_str().unwrap().ends_with(name));
    assert!(files.iter().all(|(name, _)| named(name)) && named("big.pem"), "{not_read:?}");
}

#[test]
fn two_digit_years_are_read_as_rfc_5280_says() {
    let top = TempDir::new().unwrap();
    for (name, end, year) in [("a", "491231235959Z", "2049"), ("b", "500101000000Z", "1950")] {
        let der = with_times(name, &tlv(0x17, b"500101000000Z"), &tlv(0x17, end.as_bytes()));
        fs::write(top.path().join(name), der).unwrap();
        let ended = look(&[&top.path().join(name)], &[]).well();
        assert!(ended.result["certificates"][0]["not_after"].as_str().unwrap().starts_with(year));
    }
}

#[test]
fn a_hostile_subject_cannot_forge_output() {
    let top = TempDir::new().unwrap();
    let path = top.path().join("x.pem");
    fs::write(&path, pem(&certificate("evil\u{1b}]0;title\u{7}\n  ok  99  \u{202e}", -1, 90))).unwrap();
    let ended = look(&[&path], &[]).well();
    let subject = ended.result["certificates"][0]["subject"].as_str().unwrap();
    assert_eq!(subject, "evil\\x1b]0;title\\x07\\x0a  ok  99  \\u202e");
}

#[test]
fn pipes_do_not_block_and_missing_paths_are_reported() {
    let top = TempDir::new().unwrap();
    let pipe = top.path().join("pipe.pem");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ended = look(&[top.path()], &[]).well();
    assert_eq!(ended.result["not_read"][0]["reason"], "not a regular file");
    look(&[Path::new("/nonexistent/a.pem")], &[]).refused(3, "/nonexistent/a.pem");
}

#[test]
fn openssl_agrees() {
    if !have("openssl_agrees", "openssl") {
        return;
    }
    let top = TempDir::new().unwrap();
    let (key, path) = (top.path().join("key"), top.path().join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "11"])
        .args(["-subj", "/O=Example/CN=real.example.com", "-addext", "subjectAltName=DNS:real.example.com,IP:10.0.0.1"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = Command::new("openssl")
        .args(["x509", "-noout", "-enddate", "-serial", "-dateopt", "iso_8601", "-in"])
        .arg(&path)
        .output()
        .unwrap();
    let ended = look(&[&path], &[]).well();
    let certificate = &ended.result["certificates"][0];
    assert_eq!((&certificate["subject"], &certificate["days_left"]), (&json!("real.example.com"), &json!(10)));
    assert_eq!(certificate["names"], json!(["real.example.com", "10.0.0.1"]));
    // -dateopt requires OpenSSL 3.0; skip the test with an older one.
    if said.status.success() {
        let said = String::from_utf8(said.stdout).unwrap().to_lowercase();
        let end = certificate["not_after"].as_str().unwrap().replace('T', " ").to_lowercase();
        assert!(said.contains(&format!("notafter={end}")), "{said} {certificate}");
        let serial = certificate["serial"].as_str().unwrap().trim_start_matches("00");
        assert!(said.contains(&format!("serial={serial}")), "{said} {certificate}");
    }
}
