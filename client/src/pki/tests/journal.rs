//! The journal, revocation and its lists, and intermediate authorities.

use std::io::Write as _;

use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::super::check::AuthorityProblem;
use super::*;

/// An authority with files in a temporary directory.
fn with_files(path_length: u8) -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    Authority::create_root("root", Validity::days(100), path_length).unwrap().write(dir.path()).unwrap();
    let authority = Authority::load(dir.path()).unwrap();
    (dir, authority)
}

fn content(dir: &Path) -> JournalContent {
    JournalContent::read(&journal_path(dir)).unwrap()
}

fn ann() -> Principal {
    Principal::new("spiffe://x/ann").unwrap()
}

#[test]
fn everything_that_an_authority_signs_is_in_its_journal() {
    let (dir, authority) = with_files(0);
    let missing = JournalContent::read(&journal_path(dir.path())).unwrap_err();
    assert!(matches!(missing, JournalError::Missing(_)), "{missing}");
    let none = dir.path().join("none");
    assert_eq!(journal_path(&none), none.join("ca.journal"), "a directory that is missing");
    let issued = authority.issue_client(&ann(), Validity::days(7)).unwrap();
    let (certificate, _) = issued.write(dir.path(), "ann").unwrap();
    let request = NewRequest::create(&instance("i-1", &[])).unwrap();
    let (request, _) = request.write(dir.path(), "i-1").unwrap();
    authority.sign_request(&Request::read(&request).unwrap(), Validity::days(3)).unwrap();
    authority.renew(&certificate, None, false).unwrap();
    authority.renew(&dir.path().join(CA_CERTIFICATE), None, false).unwrap();
    let found = content(dir.path());
    let names: Vec<_> = found.certificates.iter().map(|one| (one.uri.as_deref(), one.authority)).collect();
    let (client, agent) = (Some("spiffe://x/ann"), Some("bolt://instance/i-1"));
    assert_eq!(names, [(client, false), (agent, false), (client, false), (None, true)]);
    let shown = &describe(&certificate).unwrap()[0];
    let first = &found.certificates[0];
    assert_eq!(Some(first.serial.to_string()), shown.serial);
    assert_eq!((&first.key_sha256, Some(first.not_after)), (&shown.key_sha256, shown.expires));
    assert_ne!(first.serial, found.certificates[2].serial);
    let mode = std::fs::metadata(journal_path(dir.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_record_that_a_crash_cut_off_is_removed_and_other_damage_is_reported() {
    let (dir, authority) = with_files(0);
    authority.issue_client(&ann(), Validity::days(7)).unwrap();
    let path = journal_path(dir.path());
    let append = |text: &str| {
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    append("{\"event\":\"issued\",\"ser");
    assert_eq!(content(dir.path()).certificates.len(), 1, "readers pass it over");
    authority.issue_client(&ann(), Validity::days(7)).unwrap();
    assert_eq!(content(dir.path()).certificates.len(), 2);
    append("{\"event\":\"issued\"}\n");
    let error = authority.issue_client(&ann(), Validity::days(7)).unwrap_err().to_string();
    assert!(error.contains("line 3") && error.contains("damaged"), "{error}");
}

#[test]
fn writers_wait_for_one_another() {
    let (dir, _) = with_files(0);
    let writer = || {
        let authority = Authority::load(dir.path()).unwrap();
        for _ in 0..10 {
            authority.issue_client(&ann(), Validity::days(7)).unwrap();
            authority.make_crl(&dir.path().join("ca.crl"), 7).unwrap();
        }
    };
    std::thread::scope(|scope| (0..4).map(|_| scope.spawn(writer)).for_each(drop));
    let found = content(dir.path());
    assert_eq!(found.certificates.len(), 40);
    assert_eq!(found.list.unwrap().number, 40, "no number is used twice");
    assert_eq!(numbered_list(&dir.path().join("ca.crl")).0, 40, "the file is the last one");
}

/// Number, serial numbers with reasons, and time of the list in a file.
fn numbered_list(path: &Path) -> (u64, Vec<(Serial, Option<u8>)>, i64) {
    let (_, pem) = x509_parser::pem::parse_x509_pem(&std::fs::read(path).unwrap()).map(|(_, pem)| ((), pem)).unwrap();
    let (_, list) = CertificateRevocationList::from_der(&pem.contents).unwrap();
    let number = list.crl_number().unwrap().to_string().parse().unwrap();
    let entries = list.iter_revoked_certificates();
    let entries = entries.map(|one| (Serial::of_bytes(one.raw_serial()), one.reason_code().map(|(_, code)| code.0)));
    (number, entries.collect(), list.last_update().timestamp())
}

#[test]
fn a_revoked_certificate_is_in_the_next_list_and_stays_there() {
    let (dir, authority) = with_files(0);
    let crl = dir.path().join("ca.crl");
    let lost = authority.issue_client(&ann(), Validity::days(7)).unwrap();
    let (lost, _) = lost.write(dir.path(), "lost").unwrap();
    authority.issue_client(&ann(), Validity::days(7)).unwrap();
    assert_eq!(authority.make_crl(&crl, 7).unwrap().1, 0);
    let revoked = authority.revoke(&[Revocable::File(lost.clone())], RevocationReason::KeyCompromise).unwrap();
    let [one] = &revoked[..] else { panic!("{revoked:?}") };
    assert!(!one.already);
    let again = authority.revoke(&[Revocable::Serial(one.certificate.serial.clone())], RevocationReason::Superseded);
    let again = again.unwrap().remove(0);
    assert!(again.already && again.revocation == one.revocation, "the first reason and time remain");
    let serial = one.certificate.serial.clone();
    for number in [2, 3] {
        authority.make_crl(&crl, 7).unwrap();
        let (found, entries, _) = numbered_list(&crl);
        assert_eq!((found, entries), (number, vec![(serial.clone(), Some(1))]));
    }
    let renewed = authority.renew(&lost, None, true).unwrap_err();
    let is_refused = matches!(renewed, PkiError::Renew { source: RenewProblem::Revoked("key-compromise"), .. });
    assert!(is_refused, "{renewed:?}");
    // By name: both, of which one was revoked before.
    let both = authority.revoke(&[Revocable::Uri("spiffe://x/ann".to_owned())], RevocationReason::Unspecified).unwrap();
    assert_eq!(both.iter().map(|one| one.already).collect::<Vec<_>>(), [true, false]);
    authority.make_crl(&crl, 7).unwrap();
    assert_eq!(numbered_list(&crl).1.iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), [Some(1), None]);
    // A new journal knows nothing of them, and its list would take them back.
    std::fs::remove_file(journal_path(dir.path())).unwrap();
    let refused = authority.make_crl(&crl, 7).unwrap_err();
    assert!(matches!(refused, PkiError::Journal(JournalError::Lost { .. })), "{refused}");
    assert!(!journal_path(dir.path()).exists() && numbered_list(&crl).0 == 4);
}

#[test]
fn a_compromised_key_loses_all_its_certificates() {
    let (dir, authority) = with_files(0);
    let (path, _) = authority.issue_client(&ann(), Validity::days(7)).unwrap().write(dir.path(), "ann").unwrap();
    authority.renew(&path, None, false).unwrap();
    authority.issue_client(&ann(), Validity::days(7)).unwrap();
    let superseded = authority.revoke(&[Revocable::File(path.clone())], RevocationReason::Superseded).unwrap();
    assert_eq!(superseded.len(), 1, "the renewed one stays valid");
    let lost = authority.revoke(&[Revocable::File(path)], RevocationReason::KeyCompromise).unwrap();
    assert_eq!(lost.iter().map(|one| one.already).collect::<Vec<_>>(), [true, false], "and not that of another key");
    assert_eq!(lost[0].certificate.key_sha256, lost[1].certificate.key_sha256);
}

#[test]
fn a_compromised_key_is_not_signed_again() {
    let (dir, authority) = with_files(0);
    let request = NewRequest::create(&instance("i-1", &[])).unwrap();
    let request = Request::read(&request.write(dir.path(), "i-1").unwrap().0).unwrap();
    let sign = || authority.sign_request(&request, Validity::days(3));
    let certificates = [sign().unwrap(), sign().unwrap()];
    let [lost, again] = ["lost.pem", "again.pem"].map(|name| dir.path().join(name));
    std::fs::write(&lost, &certificates[0]).unwrap();
    std::fs::write(&again, &certificates[1]).unwrap();
    authority.revoke(&[Revocable::File(lost.clone())], RevocationReason::Superseded).unwrap();
    assert!(sign().is_ok(), "the key is not lost");
    authority.revoke(&[Revocable::File(again)], RevocationReason::KeyCompromise).unwrap();
    let before = content(dir.path());
    let error = sign().unwrap_err();
    assert!(matches!(error, PkiError::CompromisedKey { .. }), "{error}");
    assert_eq!(content(dir.path()), before, "nothing is recorded");
    let other = NewRequest::create(&instance("i-1", &[])).unwrap().write(dir.path(), "other").unwrap().0;
    assert!(authority.sign_request(&Request::read(&other).unwrap(), Validity::days(3)).is_ok(), "a new key");
}

#[test]
fn only_certificates_of_the_authority_are_revoked() {
    let (dir, authority) = with_files(0);
    let refused = |what: Revocable| match authority.revoke(&[what], RevocationReason::Unspecified).unwrap_err() {
        PkiError::Revoke { source, .. } => source,
        other => panic!("{other}"),
    };
    let other = Authority::create("root").unwrap().issue_client(&ann(), Validity::days(1)).unwrap();
    let (other, _) = other.write(dir.path(), "other").unwrap();
    assert!(matches!(refused(Revocable::File(other.clone())), RevokeProblem::OtherAuthority { .. }));
    assert_eq!(refused(Revocable::File(dir.path().join(CA_CERTIFICATE))), RevokeProblem::Own);
    assert_eq!(refused(Revocable::Uri("spiffe://x/ann".to_owned())), RevokeProblem::Unknown(journal_path(dir.path())));
    assert_eq!(
        refused(Revocable::Serial("01".parse().unwrap())),
        RevokeProblem::UnknownSerial(journal_path(dir.path()))
    );
    // Signed before there was a journal.
    let issued = authority.issue_client(&ann(), Validity::days(7)).unwrap();
    let (path, _) = issued.write(dir.path(), "ann").unwrap();
    std::fs::remove_file(journal_path(dir.path())).unwrap();
    authority.revoke(&[Revocable::File(path)], RevocationReason::Unspecified).unwrap();
    assert_eq!((content(dir.path()).certificates.len(), content(dir.path()).revoked.len()), (1, 1));
}

#[test]
fn several_are_revoked_together_or_none_is() {
    let (dir, authority) = with_files(0);
    let bob = Principal::new("spiffe://x/bob").unwrap();
    let (ann, _) = authority.issue_client(&ann(), Validity::days(7)).unwrap().write(dir.path(), "ann").unwrap();
    authority.issue_client(&bob, Validity::days(7)).unwrap();
    let other = Authority::create("root").unwrap().issue_client(&bob, Validity::days(1)).unwrap();
    let (other, _) = other.write(dir.path(), "other").unwrap();
    let (ann, bob) = (Revocable::File(ann), Revocable::Uri(bob.to_string()));
    let absent = dir.path().join("absent.pem");
    let before = std::fs::read(journal_path(dir.path())).unwrap();
    for wrong in [
        Revocable::Serial("01".parse().unwrap()),
        Revocable::Uri("spiffe://x/eve".to_owned()),
        Revocable::File(other),
        Revocable::File(absent),
        Revocable::File(dir.path().join(CA_CERTIFICATE)),
    ] {
        let all = [ann.clone(), bob.clone(), wrong];
        authority.revoke(&all, RevocationReason::Unspecified).unwrap_err();
        assert_eq!(std::fs::read(journal_path(dir.path())).unwrap(), before, "{}", all[2]);
    }
    // A certificate that is named twice is revoked once.
    let serial = Revocable::Serial(content(dir.path()).certificates[0].serial.clone());
    let revoked = authority.revoke(&[ann, bob, serial], RevocationReason::KeyCompromise).unwrap();
    assert_eq!((revoked.len(), content(dir.path()).revoked.len()), (2, 2));
    let without_files = Authority::create("x").unwrap().revoke(&[], RevocationReason::Unspecified).unwrap_err();
    assert!(matches!(without_files, PkiError::NoJournal), "{without_files}");
}

#[test]
fn a_list_is_never_older_than_the_previous_one_and_ends_with_its_authority() {
    let (dir, authority) = with_files(0);
    let crl = dir.path().join("ca.crl");
    let (first, _) = authority.make_crl(&crl, 3650).unwrap();
    assert!(first.next_update.as_second() <= authority.ends().unix_timestamp());
    // A clock that was set back.
    let text = std::fs::read_to_string(journal_path(dir.path())).unwrap();
    let later = first.this_update + Duration::from_secs(86_400);
    std::fs::write(journal_path(dir.path()), text.replace(&first.this_update.to_string(), &later.to_string())).unwrap();
    let (second, _) = authority.make_crl(&crl, 7).unwrap();
    assert_eq!((second.number, second.this_update), (2, later));
    assert_eq!(numbered_list(&crl).2, later.as_second());
}

#[test]
fn an_intermediate_issues_with_its_chain_and_signs_no_authority() {
    let (dir, root) = with_files(1);
    let issuing = dir.path().join("issuing");
    root.issue_intermediate("issuing", Validity::days(50)).unwrap().write(&issuing).unwrap();
    assert!(content(dir.path()).certificates[0].authority);
    let between = Authority::load(&issuing).unwrap();
    let issued = between.issue_client(&ann(), Validity::days(7)).unwrap();
    let (certificate, key) = issued.write(&issuing, "ann").unwrap();
    let chain = tls::parse_certificates(&certificate, issued.cert_pem.as_bytes()).unwrap();
    assert_eq!(chain.len(), 2);
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let (_, signer) = X509Certificate::from_der(&chain[1]).unwrap();
    leaf.verify_signature(Some(signer.public_key())).unwrap();
    assert!(root.has_signed(&signer) && !root.has_signed(&leaf));
    tls::Identity::load(&certificate, &key, &issuing.join(ROOT_CERTIFICATE)).unwrap();
    let problem = |made: Result<Intermediate, PkiError>| match made.unwrap_err() {
        PkiError::Intermediate { source, .. } => source,
        other => panic!("{other}"),
    };
    assert_eq!(problem(between.issue_intermediate("x", Validity::days(1))), AuthorityProblem::NoIntermediates);
    assert_eq!(problem(root.issue_intermediate("root", Validity::days(1))), AuthorityProblem::SameName);
    let before = content(dir.path());
    let taken = problem(root.issue_intermediate("issuing", Validity::days(1)));
    assert!(
        matches!(&taken, AuthorityProblem::NameTaken { serial, .. } if *serial == before.certificates[0].serial.to_string())
    );
    assert_eq!(content(dir.path()), before, "nothing is recorded, and so nothing handed out");
    assert!(matches!(root.issue_intermediate("x", Validity::days(101)).unwrap_err(), PkiError::Outlives { .. }));

    // The root renews it, and it renews what it issued, with its new certificate behind.
    let renewal = root.renew(&issuing.join(CA_CERTIFICATE), Some(Validity::days(90)), false).unwrap();
    assert_eq!(renewal.renewed, Renewed::Intermediate("issuing".to_owned()));
    renewal.replace(&issuing.join(CA_CERTIFICATE), None).unwrap();
    let between = Authority::load(&issuing).unwrap();
    between.renew(&certificate, None, false).unwrap().replace(&certificate, None).unwrap();
    let renewed = describe(&certificate).unwrap();
    assert_eq!(renewed.len(), 2);
    assert_eq!(renewed[1].serial, describe(&issuing.join(CA_CERTIFICATE)).unwrap()[0].serial);

    // A renewed root may still sign intermediates; the root revokes one by its file.
    root.renew(&dir.path().join(CA_CERTIFICATE), None, false)
        .unwrap()
        .replace(&dir.path().join(CA_CERTIFICATE), None)
        .unwrap();
    let root = Authority::load(dir.path()).unwrap();
    root.issue_intermediate("next", Validity::days(1)).unwrap();
    let revoked =
        root.revoke(&[Revocable::File(issuing.join(CA_CERTIFICATE))], RevocationReason::CaCompromise).unwrap();
    assert!(revoked[0].certificate.authority);
}
