use std::os::unix::fs::PermissionsExt;

use packs_schema::base::name::{InstanceId, Principal};

use super::*;
use crate::tls;

#[test]
fn an_authority_reads_back_and_signs() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    Authority::create("test").unwrap().write(&ca).unwrap();
    let mode = std::fs::metadata(ca.join(CA_KEY)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = Authority::load(&ca).unwrap();
    let id = InstanceId::new("i-1").unwrap();
    assert!(again.issue_instance_at(&id, &["127.0.0.1".into(), "localhost".into()], Validity::days(1)).is_ok());
}

/// Loads an authority whose files are these.
fn loaded(cert_pem: &str, key_pem: &str) -> Result<Authority, String> {
    let dir = tempfile::tempdir().unwrap();
    let issued = Issued { cert_pem: cert_pem.to_owned(), key_pem: key_pem.to_owned() };
    issued.write(dir.path(), "ca").unwrap();
    Authority::load(dir.path()).map_err(|error| match error {
        PkiError::Load { source, .. } => source.to_string(),
        other => other.to_string(),
    })
}

#[test]
fn what_is_no_authority_signs_nothing() {
    let (one, two) = (Authority::create("one").unwrap(), Authority::create("two").unwrap());
    assert!(loaded(one.cert_pem(), two.key_pem()).unwrap_err().contains("not its key"));
    let leaf = one.issue_instance(&InstanceId::new("i-1").unwrap(), Validity::days(1)).unwrap();
    assert!(loaded(&leaf.cert_pem, &leaf.key_pem).unwrap_err().contains("CA:TRUE"));
    let now = OffsetDateTime::now_utc();
    let hours = |from: i64, to: i64| Validity {
        not_before: now + time::Duration::hours(from),
        not_after: now + time::Duration::hours(to),
    };
    let old = Authority::create_with("old", hours(-2, -1)).unwrap();
    assert!(loaded(old.cert_pem(), old.key_pem()).unwrap_err().contains("expired at"));
    let early = Authority::create_with("early", hours(1, 2)).unwrap();
    assert!(loaded(early.cert_pem(), early.key_pem()).unwrap_err().contains("not valid before"));
    for (pem, words) in [
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "is encrypted"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "OpenSSH"),
        ("-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "openssl"),
        ("AAAA", "no line that starts with -----BEGIN"),
    ] {
        let error = loaded(one.cert_pem(), pem).unwrap_err();
        assert!(error.contains(words) && !error.contains("AAAA"), "{error}");
    }
    assert!(loaded("AAAA", one.key_pem()).unwrap_err().contains("no usable certificate"));
    assert!(loaded(one.cert_pem(), one.key_pem()).is_ok());
}

#[test]
fn no_certificate_outlives_its_authority() {
    let short = Authority::create_with("short", Validity::days(10)).unwrap();
    let id = InstanceId::new("i-1").unwrap();
    assert!(short.issue_instance(&id, Validity::days(9)).is_ok());
    let error = short.issue_instance(&id, Validity::days(365)).unwrap_err().to_string();
    assert!(error.contains("--days 9"), "{error}");
}

#[test]
fn an_id_that_can_be_a_host_name_is_one() {
    for (id, can) in [("i-0abc", true), ("web.example-1.org", true), ("a_b", false), ("x-", false), ("10.0.0.7", false)]
    {
        assert_eq!(is_host_name(id), can, "{id}");
    }
    assert!(!is_host_name(&"a".repeat(64)));
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create("test").unwrap();
    authority.write(dir.path()).unwrap();
    let before = std::fs::read(dir.path().join(CA_KEY)).unwrap();
    let error = Authority::create("other").unwrap().write(dir.path()).unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(std::fs::read(dir.path().join(CA_KEY)).unwrap(), before);
}

#[test]
fn a_life_that_ends_before_it_begins_is_refused() {
    let now = OffsetDateTime::now_utc();
    let validity = Validity { not_before: now, not_after: now - Duration::from_secs(1) };
    assert!(matches!(Authority::create_with("x", validity), Err(PkiError::Validity(..))));
}

fn instance(id: &str, addresses: &[&str]) -> Subject {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    Subject::Instance { id: InstanceId::new(id).unwrap(), addresses }
}

fn client(uri: &str) -> Subject {
    Subject::Client(Principal::new(uri).unwrap())
}

#[test]
fn a_request_is_signed_for_the_names_that_it_asks_for_and_its_own_key() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create("test").unwrap();
    for subject in [instance("i-1", &["10.0.0.7", "web.example.org"]), client("spiffe://example.org/oncall")] {
        let new = NewRequest::create(&subject).unwrap();
        let (path, key) = new.write(&dir.path().join(new.fingerprint.clone()), "x").unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let request = Request::read(&path).unwrap();
        assert_eq!((&request.subject, &request.fingerprint), (&subject, &new.fingerprint));
        let signed = authority.sign_request(&request, Validity::days(1)).unwrap();
        let certificate = path.with_extension("pem");
        std::fs::write(&certificate, &signed).unwrap();
        let described = &describe(&certificate).unwrap()[0];
        assert_eq!((&described.key_sha256, described.authority), (&new.fingerprint, false));
        let der = &tls::parse_certificates(&certificate, signed.as_bytes()).unwrap()[0];
        assert_eq!(Subject::of_certificate(der).unwrap(), subject);
        // The key on the host belongs to it.
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, authority.cert_pem()).unwrap();
        tls::Identity::load(&certificate, &key, &ca).unwrap();
    }
}

/// Signs a request with names and settings of its own.
fn request(names: &[SanType], change: impl FnOnce(&mut CertificateParams)) -> Result<Request, RequestProblem> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    change(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    Request::parse(&params.serialize_request(&key).unwrap().pem().unwrap())
}

#[test]
fn a_request_for_anything_else_is_refused() {
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let problem = |names: &[SanType]| match request(names, |_| {}).unwrap_err() {
        RequestProblem::Subject(problem) => problem,
        other => panic!("{other}"),
    };
    assert!(request(&[uri("bolt://instance/i-1")], |_| {}).is_ok());
    assert_eq!(problem(&[]), SubjectProblem::Uris(0));
    assert_eq!(problem(&[uri("bolt://instance/i-1"), uri("spiffe://a/b")]), SubjectProblem::Uris(2));
    assert_eq!(problem(&[uri("bolt://instance/../x")]), SubjectProblem::InstanceId);
    assert_eq!(problem(&[uri("bolt://Instance/i-1")]), SubjectProblem::InstanceId);
    assert_eq!(problem(&[uri("spiffe://a/*")]), SubjectProblem::Principal);
    assert_eq!(problem(&[uri("local://root")]), SubjectProblem::Local);
    assert_eq!(problem(&[uri("spiffe://a/b"), dns("web.example.org")]), SubjectProblem::CallerWithAddress);
    assert_eq!(problem(&[uri("bolt://instance/i-1"), dns("*.example.org")]), SubjectProblem::HostName);
    let mail = SanType::Rfc822Name("a@example.org".try_into().unwrap());
    assert_eq!(problem(&[uri("bolt://instance/i-1"), mail]), SubjectProblem::OtherName);
    let names = [uri("bolt://instance/i-1")];
    let ca = request(&names, |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    assert_eq!(ca.unwrap_err(), RequestProblem::Subject(SubjectProblem::Authority));
    let usage = request(&names, |params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth]);
    assert_eq!(usage.unwrap_err(), RequestProblem::Subject(SubjectProblem::Usage));
    assert_eq!(Request::parse("x").unwrap_err(), RequestProblem::NotARequest);
}

#[test]
fn a_request_with_another_key_s_signature_is_refused() {
    let new = NewRequest::create(&client("spiffe://a/b")).unwrap();
    let lines: Vec<&str> = new.request_pem.lines().collect();
    let body = lines[1..lines.len() - 1].concat();
    use base64::Engine as _;
    let mut der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    // The last bytes are of the signature.
    let last = der.len() - 1;
    der[last] ^= 1;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    let refused = Request::parse(&pem).unwrap_err();
    assert!(matches!(refused, RequestProblem::Signature | RequestProblem::NotARequest), "{refused}");
}

#[test]
fn a_renewed_certificate_has_the_same_names_and_key_and_replaces_the_old_one_with_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create("test").unwrap();
    let id = InstanceId::new("i-1").unwrap();
    let now = OffsetDateTime::now_utc();
    let past = Validity { not_before: now - Duration::from_secs(7200), not_after: now - Duration::from_secs(3600) };
    let issued = authority.issue_instance_at(&id, &["10.0.0.7".to_owned()], past).unwrap();
    let (certificate, key) = issued.write(dir.path(), "i-1").unwrap();
    std::fs::set_permissions(&certificate, std::fs::Permissions::from_mode(0o640)).unwrap();
    let before = describe(&certificate).unwrap().remove(0);

    let renewal = authority.renew(&certificate, Some(Validity::days(9)), false).unwrap();
    assert_eq!(renewal.renewed, Renewed::Leaf(instance("i-1", &["10.0.0.7"])));
    renewal.replace(&certificate, None).unwrap();
    let after = describe(&certificate).unwrap().remove(0);
    assert_eq!((&after.names, &after.usages), (&before.names, &before.usages));
    assert_eq!(after.key_sha256, before.key_sha256);
    assert!(after.not_after > before.not_after && after.serial != before.serial);
    assert_eq!(std::fs::metadata(&certificate).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");

    let renewal = authority.renew(&certificate, Some(Validity::days(9)), true).unwrap();
    renewal.replace(&certificate, Some(&key)).unwrap();
    assert_ne!(describe(&certificate).unwrap()[0].key_sha256, before.key_sha256);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.cert_pem()).unwrap();
    tls::Identity::load(&certificate, &key, &ca).unwrap();
}

#[test]
fn only_the_authority_that_signed_a_certificate_renews_it() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Authority::create("one").unwrap(), Authority::create("one").unwrap());
    let issued = one.issue_client(&Principal::new("spiffe://a/b").unwrap(), Validity::days(1)).unwrap();
    let (certificate, _) = issued.write(dir.path(), "c").unwrap();
    let refused = two.renew(&certificate, Some(Validity::days(1)), false).unwrap_err();
    assert!(matches!(refused, PkiError::Renew { source: RenewProblem::OtherAuthority, .. }), "{refused}");
}

#[test]
fn a_renewed_authority_still_vouches_for_what_it_signed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create_with("short", Validity::days(2)).unwrap();
    authority.write(&dir.path().join("ca")).unwrap();
    let ca = dir.path().join("ca/ca.pem");
    let issued = authority.issue_client(&Principal::new("spiffe://a/b").unwrap(), Validity::days(1)).unwrap();
    let (certificate, _) = issued.write(dir.path(), "c").unwrap();
    let renewal = authority.renew(&ca, Some(Validity::days(900)), false).unwrap();
    assert_eq!(renewal.renewed, Renewed::Authority);
    renewal.replace(&ca, None).unwrap();
    // Loaded by its file: the key lies beside it.
    let renewed = Authority::load(&ca).unwrap();
    assert!(renewed.renew(&certificate, Some(Validity::days(400)), false).is_ok(), "it may sign for longer");
}

#[test]
fn a_renewed_certificate_is_valid_for_as_long_as_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create("test").unwrap();
    let issued = authority.issue_instance(&InstanceId::new("i-1").unwrap(), Validity::days(7)).unwrap();
    let (certificate, _) = issued.write(dir.path(), "i-1").unwrap();
    authority.renew(&certificate, None, false).unwrap().replace(&certificate, None).unwrap();
    let seconds =
        describe(&certificate).unwrap()[0].expires.unwrap().as_second() - OffsetDateTime::now_utc().unix_timestamp();
    assert!((6 * 86_400..=7 * 86_400).contains(&seconds), "{seconds}");
}

#[test]
fn a_new_key_and_its_certificate_change_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create("test").unwrap();
    let issued = authority.issue_instance(&InstanceId::new("i-1").unwrap(), Validity::days(7)).unwrap();
    let (certificate, key) = issued.write(dir.path(), "i-1").unwrap();
    let renewal = authority.renew(&certificate, None, true).unwrap();
    let listed = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };

    // A directory cannot be replaced by a file: the second rename fails.
    let blocked = dir.path().join("blocked");
    std::fs::create_dir(&blocked).unwrap();
    renewal.replace(&blocked, Some(&key)).unwrap_err();
    assert_eq!(std::fs::read_to_string(&key).unwrap(), issued.key_pem, "the old key is back");
    assert_eq!(listed(), ["blocked", "i-1.key", "i-1.pem"]);

    // The key that an interrupted renewal left is not overwritten: the certificate belongs to it.
    std::fs::write(dir.path().join("i-1.key.old"), "the old key").unwrap();
    renewal.replace(&certificate, Some(&key)).unwrap_err();
    assert_eq!(std::fs::read_to_string(&key).unwrap(), issued.key_pem);
    std::fs::remove_file(dir.path().join("i-1.key.old")).unwrap();

    renewal.replace(&certificate, Some(&key)).unwrap();
    assert_ne!(std::fs::read_to_string(&key).unwrap(), issued.key_pem);
    assert_eq!(listed(), ["blocked", "i-1.key", "i-1.pem"]);
}

mod journal;
mod outputs;
