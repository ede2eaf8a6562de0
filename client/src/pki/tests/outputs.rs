//! Files that commands write at a path of the caller, and those that they do not replace.

use std::os::unix::fs::symlink;

use base64::Engine as _;

use super::*;

/// An authority with files in a directory, a certificate `ann` beside it, and what a list must not replace.
fn site() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    Authority::create("root").unwrap().write(&dir.path().join("ca")).unwrap();
    let authority = Authority::load(&dir.path().join("ca")).unwrap();
    (dir, authority)
}

fn issue(dir: &Path, authority: &Authority, stem: &str) -> (PathBuf, PathBuf) {
    let principal = Principal::new(format!("spiffe://x/{stem}")).unwrap();
    authority.issue_client(&principal, Validity::days(7)).unwrap().write(dir, stem).unwrap()
}

/// Returns the problem of a file that is refused.
fn problem<T: std::fmt::Debug>(refused: Result<T, PkiError>) -> OutputProblem {
    match refused.unwrap_err() {
        PkiError::Output { source, .. } => source,
        other => panic!("{other}"),
    }
}

/// Returns the content of a PEM section in DER.
fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}

#[test]
fn a_list_replaces_a_list_of_its_authority_and_nothing_else() {
    let (dir, authority) = site();
    let at = |name: &str| dir.path().join(name);
    let journal = at("ca/ca.journal");
    assert_eq!(problem(authority.make_crl(&journal, 7)), OutputProblem::Own("journal"), "also before there is one");
    assert!(!journal.exists());
    issue(dir.path(), &authority, "ann");
    std::fs::write(at("notes"), "notes\n").unwrap();
    std::fs::write(at("empty"), "").unwrap();
    symlink(at("ca/ca.key"), at("link")).unwrap();
    for (name, expected) in [
        ("ca/ca.key", OutputProblem::Own("private key")),
        ("ca/../ca/ca.pem", OutputProblem::Own("certificate")),
        ("ca/ca.journal", OutputProblem::Own("journal")),
        ("link", OutputProblem::Own("private key")),
        ("ann.key", OutputProblem::NotAList),
        ("ann.pem", OutputProblem::NotAList),
        ("notes", OutputProblem::NotAList),
        ("empty", OutputProblem::NotAList),
    ] {
        let before = std::fs::read(at(name)).unwrap();
        assert_eq!(problem(authority.make_crl(&at(name), 7)), expected, "{name}");
        assert_eq!(std::fs::read(at(name)).unwrap(), before, "{name}");
    }
    assert_eq!(problem(authority.make_crl(dir.path(), 7)), OutputProblem::NotAList);
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(problem(authority.make_crl(&at("pipe"), 7)), OutputProblem::NotAList, "and is never waited for");

    let list = at("ca/ca.crl");
    authority.make_crl(&list, 7).unwrap();
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, der(&text)).unwrap();
    assert_eq!(authority.make_crl(&list, 7).unwrap().0.number, 2, "a list in DER is one as well");
    let key = std::fs::read_to_string(at("ann.key")).unwrap();
    std::fs::write(at("both"), format!("{text}{key}")).unwrap();
    assert_eq!(problem(authority.make_crl(&at("both"), 7)), OutputProblem::NotAList);
    std::fs::write(at("several"), text.repeat(2)).unwrap();
    assert_eq!(problem(authority.make_crl(&at("several"), 7)), OutputProblem::SeveralLists(2));
    std::fs::write(at("longer"), [der(&text), vec![0]].concat()).unwrap();
    assert_eq!(problem(authority.make_crl(&at("longer"), 7)), OutputProblem::NotAList);
    // Of the same name, and another key.
    let (_other_dir, other) = site();
    assert!(matches!(problem(other.make_crl(&list, 7)), OutputProblem::OtherAuthority { .. }));
}

#[test]
fn a_renewal_replaces_the_certificate_and_its_own_key_and_nothing_else() {
    let (dir, authority) = site();
    let at = |name: &str| dir.path().join(name);
    let (ann, key) = issue(dir.path(), &authority, "ann");
    let (_, other) = issue(dir.path(), &authority, "bob");
    let check = |new_key: &Path| authority.check_renewal(&ann, Some(new_key), None);
    check(&key).unwrap();
    check(&at("new.key")).unwrap();
    assert_eq!(problem(check(&at("ca/ca.key"))), OutputProblem::Own("private key"));
    assert_eq!(problem(check(&at("ca/ca.crl"))), OutputProblem::Own("revocation list"), "also before there is one");
    let both = at("both");
    std::fs::write(&both, std::fs::read_to_string(&ann).unwrap() + &std::fs::read_to_string(&key).unwrap()).unwrap();
    for file in [&other, &ann, &both, &at("ca")] {
        assert_eq!(problem(check(file)), OutputProblem::NotTheKey(ann.clone()), "{}", file.display());
    }
    let new_file = |certificate: &Path, out: &Path| authority.check_renewal(certificate, None, Some(out));
    assert_eq!(problem(authority.check_renewal(&both, None, None)), OutputProblem::MoreThanCertificates);
    new_file(&both, &at("new.pem")).unwrap();
    assert_eq!(problem(new_file(&ann, &at("ca/ca.crl"))), OutputProblem::Own("revocation list"));
    assert!(matches!(new_file(&ann, &other), Err(PkiError::File(FileError::Exists(_)))));
    authority.check_renewal(&at("ca/ca.pem"), None, None).unwrap();
}

#[test]
fn an_older_journal_takes_no_revocation_back() {
    let (dir, authority) = site();
    let (list, other, journal) =
        (dir.path().join("crl.pem"), dir.path().join("other.pem"), dir.path().join("ca/ca.journal"));
    let (ann, _) = issue(dir.path(), &authority, "ann");
    let older = std::fs::read(&journal).unwrap();
    let revoked = authority.revoke(&[Revocable::File(ann)], RevocationReason::KeyCompromise).unwrap();
    let serial = revoked[0].certificate.serial.clone();
    authority.make_crl(&list, 7).unwrap();
    authority.make_crl(&list, 7).unwrap();
    let before = std::fs::read(&list).unwrap();
    std::fs::write(&journal, older).unwrap();
    let refused = |out: &Path| match authority.make_crl(out, 7).unwrap_err() {
        PkiError::Journal(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(refused(&list), JournalError::Older { next: 1, number: 2, .. }));
    authority.make_crl(&other, 7).unwrap();
    assert!(matches!(refused(&list), JournalError::Older { next: 2, number: 2, .. }), "an equal number is none");
    authority.make_crl(&other, 7).unwrap();
    let error = refused(&list);
    assert!(matches!(&error, JournalError::TakesBack { serial: named, .. } if *named == serial), "{error}");
    assert_eq!(std::fs::read(&list).unwrap(), before);
    authority.revoke(&[Revocable::Serial(serial)], RevocationReason::KeyCompromise).unwrap();
    let (next, count) = authority.make_crl(&list, 7).unwrap();
    assert_eq!((next.number, count), (3, 1));
}

#[test]
fn der_in_place_of_pem_is_told_with_the_command_that_converts_it() {
    let (dir, authority) = site();
    let request = NewRequest::create(&client("spiffe://x/ann")).unwrap();
    let path = dir.path().join("ann.csr");
    std::fs::write(&path, der(&request.request_pem)).unwrap();
    for refused in [Request::read(&path).map(drop), describe(&path).map(drop)] {
        assert!(matches!(refused, Err(PkiError::Request { source: RequestProblem::Der, .. })), "{refused:?}");
    }
    assert!(RequestProblem::Der.to_string().contains("openssl req -inform DER"));
    let issued = authority.issue_client(&Principal::new("spiffe://x/ann").unwrap(), Validity::days(7)).unwrap();
    let certificate = dir.path().join("ann.der");
    std::fs::write(&certificate, der(&issued.cert_pem)).unwrap();
    for refused in [describe(&certificate).map(drop), authority.renew(&certificate, None, false).map(drop)] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("openssl x509 -inform DER"), "{error}");
    }
}

#[test]
fn an_authority_that_cannot_sign_is_named_by_its_own_file() {
    let (dir, authority) = site();
    let (ann, _) = issue(dir.path(), &authority, "ann");
    let error = Authority::load(&ann).unwrap_err();
    assert!(matches!(&error, PkiError::Load { path, .. } if *path == ann), "{error}");
    let chain = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(chain.contains("ann.pem") && !chain.contains("ca.pem"), "{chain}");
}
