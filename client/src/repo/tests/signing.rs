//! Keys with a passphrase, signatures renewed, and roots that follow each other.

use std::io::Write as _;

use super::rollouts::{demo, name};
use super::*;

/// A repository whose keys are encrypted with this.
const SECRET: &str = "correct horse battery";

fn secret(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned())
}

fn encrypted() -> (Bench, Access) {
    let bench = Bench::new();
    let mut options = InitOptions::new(bench.at("repo2"), bench.at("keys2"));
    options.passphrase = Some(secret(SECRET));
    init(&options).unwrap();
    let access = Access::new(bench.at("repo2"), bench.at("keys2"));
    (bench, access)
}

#[test]
fn an_encrypted_key_signs_with_its_passphrase_only() {
    let (bench, access) = encrypted();
    let mut options = bench.options("dev");
    (options.repository, options.keys) = (access.repository.clone(), access.keys.clone());
    let locked = publish(&options).unwrap_err();
    assert!(
        matches!(&locked, RepoError::Keys(KeyError::Locked(_))) && locked.to_string().contains("--passphrase-file"),
        "{locked}"
    );
    options.unlock = Unlock::With(secret("wrong horse battery"));
    let wrong = publish(&options).unwrap_err();
    assert!(matches!(wrong, RepoError::Keys(KeyError::WrongPassphrase(_))), "{wrong}");
    options.unlock = Unlock::With(secret(SECRET));
    publish(&options).unwrap();
    for unlock in [&Unlock::With(secret(SECRET)), &options.unlock] {
        assert!(!format!("{unlock:?} {options:?}").contains("horse"));
    }
    for (path, bytes) in snapshot(&bench.at("keys2")) {
        if path.extension().is_none_or(|extension| extension != "pem") {
            continue;
        }
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{}: {text}", path.display());
    }
}

#[test]
fn a_copied_key_gets_the_passphrase_of_the_team_and_signs_the_same() {
    let (bench, access) = encrypted();
    let (team, theirs) = (packs_schema::base::name::TeamName::new("dba").unwrap(), secret("battery staple dba"));
    let ours = Access { unlock: Unlock::With(secret(SECRET)), ..access.clone() };
    let [_, public] = team_key(&team, &bench.at("dba"), Some(&theirs)).unwrap();
    delegate(&ours, &team, &demo(), &TeamKeys::Public(vec![public]), None).unwrap();
    let files = ["snapshot.pem", "timestamp.pem"].map(|key| bench.at("dba").join(key));
    for file in ["snapshot.pem", "timestamp.pem", "root.json"] {
        fs::copy(access.keys.join(file), bench.at("dba").join(file)).unwrap();
    }
    let mut options = bench.options("prod");
    (options.repository, options.keys) = (access.repository.clone(), bench.at("dba"));
    options.unlock = Unlock::With(theirs.clone());
    let two = publish(&options).unwrap_err();
    assert!(matches!(two, RepoError::Keys(KeyError::WrongPassphrase(_))), "{two}");
    assert!(two.to_string().contains("bolt repo key-passphrase"), "{two}");

    let before = snapshot(&bench.at("dba"));
    let wrong = key_passphrase(&files, &Unlock::With(secret("not the passphrase")), &theirs).unwrap_err();
    assert!(matches!(wrong, RepoError::Keys(KeyError::WrongPassphrase(_))), "{wrong}");
    assert_eq!(snapshot(&bench.at("dba")), before);
    key_passphrase(&files, &ours.unlock, &theirs).unwrap();
    for file in &files {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(file).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    }
    publish(&options).unwrap();
}

#[test]
fn openssl_reads_an_encrypted_key_and_writes_one() {
    let (bench, access) = encrypted();
    let openssl = |arguments: &[&str]| {
        let done = std::process::Command::new("openssl").args(arguments).current_dir(bench.at("keys2")).output();
        done.map(|output| (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let pass = format!("pass:{SECRET}");
    let Ok(read) = openssl(&["pkey", "-in", "targets.pem", "-passin", &pass, "-out", "plain.pem"]) else {
        return drop(writeln!(
            std::io::stderr(),
            "SKIPPED openssl_reads_an_encrypted_key_and_writes_one: there is no openssl"
        ));
    };
    assert!(read.0, "{}", read.1);
    for more in [&["-scrypt"][..], &["-v2", "aes-256-cbc"]] {
        let write = ["pkcs8", "-topk8", "-in", "plain.pem", "-out", "again.pem", "-passout", &pass];
        let written = openssl(&[&write, more].concat()).unwrap();
        assert!(written.0, "{}", written.1);
        fs::rename(bench.at("keys2/again.pem"), bench.at("keys2/targets.pem")).unwrap();
        fs::set_permissions(bench.at("keys2/targets.pem"), Permissions::from_mode(0o600)).unwrap();
        let mut options = bench.options("dev");
        (options.repository, options.keys) = (access.repository.clone(), access.keys.clone());
        options.unlock = Unlock::With(secret(SECRET));
        publish(&options).unwrap();
    }
}

#[test]
fn a_passphrase_comes_from_a_file_of_its_owner_and_is_not_too_short() {
    let bench = Bench::new();
    let file = bench.at("pass");
    fs::write(&file, "correct horse\nsecond line\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Passphrase::read(&file), Err(RepoError::Key(FileError::Exposed { .. }))));
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert!(Passphrase::read(&file).unwrap().is(&secret("correct horse")));
    assert!(secret("1234567").checked().is_err() && secret("12345678").checked().is_ok());
}

#[test]
fn refresh_renews_what_ends_and_nothing_else() {
    let bench = Bench::new();
    let access = bench.access();
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let before = snapshot(&bench.at("repo/metadata"));
    assert_eq!(refresh(&access, days(7), true).unwrap(), Refreshed::default());
    assert_eq!(snapshot(&bench.at("repo/metadata")), before, "nothing ends within a week");
    assert_eq!(refresh(&access, days(7), false).unwrap().renewed, ["snapshot", "timestamp"]);
    assert_eq!(refresh(&access, days(31), true).unwrap().renewed, ["snapshot", "timestamp"]);
    let year = refresh(&access, days(366), true).unwrap();
    assert_eq!(year.renewed, ["targets", "snapshot", "timestamp"]);
    assert_eq!(year.pending.iter().map(|e| e.role.as_str()).collect::<Vec<_>>(), ["root"]);
    assert_eq!(bench.status().roles.iter().map(|r| r.version).collect::<Vec<_>>(), [1, 2, 4, 4]);
    // Without the key of the targets, the others are renewed all the same.
    fs::remove_file(bench.at("keys/targets.pem")).unwrap();
    let without = refresh(&access, days(366), true).unwrap();
    assert_eq!(without.renewed, ["snapshot", "timestamp"]);
    assert_eq!(without.pending.iter().map(|e| e.role.as_str()).collect::<Vec<_>>(), ["root", "targets"]);
}

fn rotation(bench: &Bench, replace: &[RoleType]) -> Rotation {
    Rotation {
        replace: replace.to_vec(),
        new_keys: Some(bench.at("new")),
        passphrase: None,
        add: Vec::new(),
        remove: Vec::new(),
        threshold: None,
        expires: Duration::from_secs(86_400),
    }
}

#[test]
fn a_root_follows_a_root_and_the_old_keys_sign_no_more() {
    let bench = Bench::new();
    publish(&bench.options("dev")).unwrap();
    let all = [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
    let done = rotate_root(&bench.access(), &rotation(&bench, &all)).unwrap();
    assert_eq!((done.version, done.made.len(), done.replaced.len()), (3, 4, 4));
    let status = bench.status();
    assert_eq!(status.roles[0].keys, done.root_keys);
    assert_eq!(status.channels.len(), 1, "what was published is still there");
    let old = publish(&bench.options("dev")).unwrap_err();
    assert!(matches!(old, RepoError::Keys(KeyError::OtherKeys { .. })), "{old}");
    let mut options = bench.options("dev");
    options.keys = bench.at("new");
    publish(&options).unwrap();
    // And on from there.
    let mut next = rotation(&bench, &[RoleType::Timestamp]);
    next.new_keys = Some(bench.at("newer"));
    let mut access = bench.access();
    let refused = rotate_root(&access, &next).unwrap_err();
    assert!(matches!(refused, RepoError::Keys(KeyError::TooFewKeys { .. })), "{refused}");
    assert!(!bench.at("newer/timestamp.pem").exists(), "nothing is left behind");
    access.keys = bench.at("new");
    assert_eq!(rotate_root(&access, &next).unwrap().version, 5);
    assert_eq!(bench.status().roles[0].version, 5);
}

/// Interrupts a rotation at every step: the repository verifies, the old keys sign, and the rotation can be repeated.
#[test]
fn a_change_of_keys_that_stops_anywhere_leaves_a_good_repository() {
    let all = [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
    for stopped in ["2.root.json", "3.targets.json", "3.snapshot.json", "3.root.json"] {
        let bench = Bench::new();
        publish(&bench.options("dev")).unwrap();
        // A directory in place of the file makes the write fail.
        let in_the_way = bench.at("repo/metadata").join(stopped);
        fs::create_dir(&in_the_way).unwrap();
        let error = rotate_root(&bench.access(), &rotation(&bench, &all)).unwrap_err();
        let is_half = stopped != "2.root.json";
        assert_eq!(matches!(error, RepoError::HalfRotated { version: 2, .. }), is_half, "{stopped}: {error}");
        assert_eq!(bench.at("new/targets.pem").exists(), is_half, "{stopped}: keys that no root lists");
        fs::remove_dir(&in_the_way).unwrap();

        assert_eq!(bench.status().versions.len(), 1, "{stopped}");
        publish(&bench.options("prod")).unwrap_or_else(|e| panic!("{stopped}: the old keys still sign: {e}"));
        let again = Rotation { new_keys: Some(bench.at("newer")), ..rotation(&bench, &all) };
        let done = rotate_root(&bench.access(), &again).unwrap_or_else(|e| panic!("{stopped}: {e}"));
        assert_eq!(done.version, if is_half { 4 } else { 3 });
        for keys in ["keys", "new"] {
            let gone = publish(&PublishOptions { keys: bench.at(keys), ..bench.options("dev") });
            assert!(gone.is_err(), "{stopped}: {keys} sign no more");
        }
        publish(&PublishOptions { keys: bench.at("newer"), ..bench.options("test") }).unwrap();
        assert_eq!(bench.status().roles.iter().map(|role| role.keys.len()).collect::<Vec<_>>(), [1; 4]);
    }
}

#[test]
fn root_keys_come_and_go_and_the_threshold_with_them() {
    let bench = Bench::new();
    let mut options = InitOptions::new(bench.at("repo2"), bench.at("keys2"));
    (options.root_keys, options.root_threshold) = (3, 2);
    init(&options).unwrap();
    let access = Access::new(bench.at("repo2"), bench.at("keys2"));
    let roles = || status(&View::pinned(bench.at("repo2"), bench.at("keys2"))).unwrap().roles;
    let gone = roles()[0].keys[0].clone();
    let mut change = rotation(&bench, &[]);
    change.remove = vec![gone[..12].to_owned()];
    assert_eq!(rotate_root(&access, &change).unwrap().root_keys.len(), 2);
    assert!(!roles()[0].keys.contains(&gone));
    change.remove = vec!["0123456789".to_owned()];
    assert!(matches!(rotate_root(&access, &change).unwrap_err(), RepoError::Keys(KeyError::NoSuchKey(_))));
    change.remove = vec![roles()[0].keys[0].clone()];
    assert!(
        matches!(rotate_root(&access, &change).unwrap_err(), RepoError::Keys(KeyError::Threshold { .. })),
        "2 of 1 keys"
    );
    (change.remove, change.add, change.threshold) = (Vec::new(), vec![bench.at("keys/root.pem")], Some(3));
    let done = rotate_root(&access, &change).unwrap();
    assert_eq!((done.threshold, done.root_keys.len(), done.version), (3, 3, 3));
    // Two of the three are no longer enough.
    (change.add, change.threshold) = (Vec::new(), None);
    assert!(matches!(
        rotate_root(&access, &change).unwrap_err(),
        RepoError::Keys(KeyError::TooFewKeys { good: 2, .. })
    ));
}

#[test]
fn a_root_that_has_expired_is_replaced() {
    let bench = Bench::new();
    let mut options = InitOptions::new(bench.at("repo2"), bench.at("keys2"));
    options.expiry.root = Duration::ZERO;
    init(&options).unwrap();
    let access = Access::new(bench.at("repo2"), bench.at("keys2"));
    assert!(matches!(refresh(&access, Duration::ZERO, false).unwrap_err(), RepoError::RootExpired(_)));
    rotate_root(&access, &rotation(&bench, &[])).unwrap();
    refresh(&access, Duration::ZERO, false).unwrap();
    assert!(matches!(
        pause(&access, &demo(), &name("dev"), true),
        Err(RepoError::Release(ReleaseError::NotHeld { .. }))
    ));
}
