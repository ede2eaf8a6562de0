//! The pinned root and the versions seen: kept, advanced, handed over, and missing.

use super::rollouts::{demo, name};
use super::*;

fn rotate(bench: &Bench, new_keys: &str) -> Rotated {
    let rotation = Rotation {
        replace: vec![RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp],
        new_keys: Some(bench.at(new_keys)),
        passphrase: None,
        add: Vec::new(),
        remove: Vec::new(),
        threshold: None,
        expires: Duration::from_secs(86_400),
    };
    rotate_root(&bench.access(), &rotation).unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (path, bytes) in snapshot(from) {
        let copy = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(copy, bytes).unwrap();
    }
}

fn options(bench: &Bench) -> TrustOptions {
    TrustOptions {
        repository: bench.at("repo"),
        keys: bench.at("keys"),
        state: None,
        root: None,
        fingerprint: None,
        accept_older: false,
    }
}

#[test]
fn without_a_pinned_root_nothing_is_signed_and_the_error_says_how_to_get_one() {
    let bench = Bench::new();
    fs::rename(bench.at("keys/root.json"), bench.at("handed-over.json")).unwrap();
    let before = snapshot(&bench.at("repo"));
    let refused = publish(&bench.options("dev")).unwrap_err();
    assert!(matches!(refused, RepoError::Trust(PinError::NotPinned { .. })), "{refused}");
    assert!(refused.to_string().contains("bolt repo trust --root FILE"), "{refused}");
    assert_eq!(snapshot(&bench.at("repo")), before);
    assert!(matches!(status(&bench.view()).unwrap_err(), RepoError::Trust(PinError::NotPinned { .. })));
    // Given for once, it does not become the pinned one.
    let given = PublishOptions { root: Some(bench.at("handed-over.json")), ..bench.options("dev") };
    publish(&given).unwrap();
    assert!(!bench.at("keys/root.json").exists());
    let root = Some(bench.at("handed-over.json"));
    let wrong = TrustOptions { root: root.clone(), fingerprint: Some("ab".repeat(32)), ..options(&bench) };
    assert!(matches!(trust(&wrong).unwrap_err(), RepoError::Trust(PinError::OtherFingerprint { .. })));
    let trusted = trust(&TrustOptions { root: root.clone(), ..options(&bench) }).unwrap();
    let again = TrustOptions { root, fingerprint: Some(trusted.fingerprint.to_uppercase()), ..options(&bench) };
    assert_eq!(trust(&again).unwrap(), trusted);
    assert_eq!(trust(&options(&bench)).unwrap(), trusted);
    publish(&bench.options("dev")).unwrap();
}

#[test]
fn a_root_of_another_repository_is_not_pinned() {
    let bench = Bench::new();
    init(&InitOptions::new(bench.at("repo2"), bench.at("keys2"))).unwrap();
    let other = TrustOptions { root: Some(bench.at("keys2/root.json")), ..options(&bench) };
    assert!(matches!(trust(&other).unwrap_err(), RepoError::Trust(PinError::PinnedAlready { .. })));
    let state = TrustOptions { keys: bench.at("none"), state: Some(bench.at("state")), ..other };
    assert!(matches!(trust(&state).unwrap_err(), RepoError::Tuf { .. }));
    assert!(!bench.at("state/root.json").exists());
}

#[test]
fn files_that_say_whom_to_trust_are_refused_when_others_can_write_them_or_when_damaged() {
    let bench = Bench::new();
    publish(&bench.options("dev")).unwrap();
    for file in ["keys/root.json", "keys/marks.json"] {
        let file = bench.at(file);
        fs::set_permissions(&file, Permissions::from_mode(0o664)).unwrap();
        let lax = publish(&bench.options("dev")).unwrap_err();
        assert!(
            matches!(&lax, RepoError::Trust(PinError::LaxTrustFile { .. })) && lax.to_string().contains("chmod go-w"),
            "{lax}"
        );
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let good = fs::read(&file).unwrap();
        fs::write(&file, &good[..good.len() / 2]).unwrap();
        let damaged = publish(&bench.options("dev")).unwrap_err();
        assert!(matches!(damaged, RepoError::Trust(PinError::BadTrustFile { .. })), "{damaged}");
        fs::write(&file, &good).unwrap();
    }
    publish(&bench.options("dev")).unwrap();
}

#[test]
fn what_leads_to_the_pin_must_be_the_publishers_own_too() {
    let bench = Bench::new();
    publish(&bench.options("dev")).unwrap();
    let refused = |what: &str| {
        let error = publish(&bench.options("dev")).unwrap_err();
        assert!(
            matches!(
                error,
                RepoError::Trust(PinError::LaxTrustFile { .. }) | RepoError::Trust(PinError::ForeignTrustFile { .. })
            ),
            "{what}: {error}"
        );
        let view = View::pinned(bench.at("repo"), bench.at("keys"));
        assert!(status(&view).is_err(), "{what}: also where nothing is signed");
    };
    let keys = bench.at("keys");
    fs::set_permissions(&keys, Permissions::from_mode(0o777)).unwrap();
    refused("a directory that others can write");
    fs::set_permissions(&keys, Permissions::from_mode(0o700)).unwrap();
    publish(&bench.options("dev")).unwrap();
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    for file in ["keys/root.json", "keys/marks.json", "keys"] {
        let file = bench.at(file);
        std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
        refused(&format!("{} of another user", file.display()));
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    }
    let (pin, aside) = (bench.at("keys/root.json"), bench.at("aside.json"));
    fs::rename(&pin, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &pin).unwrap();
    publish(&bench.options("dev")).unwrap();
    std::os::unix::fs::lchown(&pin, Some(65_534), None).unwrap();
    refused("a link of another user");
}

#[test]
fn an_older_state_of_the_repository_is_refused_until_it_is_accepted() {
    let bench = Bench::new();
    publish(&bench.options("dev")).unwrap();
    copy_tree(&bench.at("repo"), &bench.at("copy"));
    let version = |role: &str| bench.status().roles.iter().find(|r| r.role == role).unwrap().version;
    bench.version("1.1.0");
    publish(&bench.options("dev")).unwrap();
    refresh(&bench.access(), Duration::ZERO, false).unwrap();
    let seen = ["targets", "snapshot", "timestamp"].map(version);
    fs::remove_dir_all(bench.at("repo")).unwrap();
    copy_tree(&bench.at("copy"), &bench.at("repo"));
    let files =
        || snapshot(&bench.at("repo")).into_iter().filter(|(path, _)| !path.ends_with(".lock")).collect::<Vec<_>>();
    let before = files();
    bench.version("1.2.0");
    let refused = [
        publish(&bench.options("dev")).map(drop),
        refresh(&bench.access(), Duration::ZERO, false).map(drop),
        status(&bench.view()).map(drop),
        log(&bench.view(), None, None).map(drop),
        trust(&options(&bench)).map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(
            matches!(&error, RepoError::Trust(PinError::Older { .. })) && error.to_string().contains("--accept-older"),
            "{error}"
        );
    }
    assert_eq!(files(), before);
    assert!(trust(&TrustOptions { accept_older: true, ..options(&bench) }).unwrap().accepted_older);
    publish(&bench.options("dev")).unwrap();
    // Agents that saw the lost state take this one: its versions are above those.
    let now = ["targets", "snapshot", "timestamp"].map(version);
    assert!(now.iter().zip(seen).all(|(now, seen)| *now > seen), "{now:?} {seen:?}");
    assert!(!bench.at("keys/accepted.json").exists());
    publish(&bench.options("prod")).unwrap();
}

#[test]
fn the_pin_follows_the_roots_and_does_not_go_back() {
    let bench = Bench::new();
    publish(&bench.options("dev")).unwrap();
    let first = fs::read(bench.at("keys/root.json")).unwrap();
    let old = bench.at("old");
    copy_tree(&bench.at("repo"), &old);
    assert_eq!(rotate(&bench, "new").version, 3);
    let pinned = trust(&options(&bench)).unwrap();
    assert_eq!(pinned.version, 3);
    // Stopped before the new root was pinned: it is found from the old one.
    fs::write(bench.at("keys/root.json"), &first).unwrap();
    for key in ["targets.pem", "snapshot.pem", "timestamp.pem"] {
        fs::copy(bench.at("new").join(key), bench.at("keys").join(key)).unwrap();
    }
    publish(&bench.options("dev")).unwrap();
    assert_eq!(trust(&options(&bench)).unwrap(), pinned);
    // Keys that were replaced sign no more, also for who withholds the newer roots.
    fs::remove_dir_all(bench.at("repo")).unwrap();
    copy_tree(&old, &bench.at("repo"));
    assert!(matches!(publish(&bench.options("dev")).unwrap_err(), RepoError::Tuf { .. }));
    // With the first root given, the marks still tell.
    fs::write(bench.at("first.json"), &first).unwrap();
    let given = PublishOptions { root: Some(bench.at("first.json")), ..bench.options("dev") };
    assert!(matches!(publish(&given).unwrap_err(), RepoError::Trust(PinError::Older { .. })));
}

#[test]
fn a_team_and_new_keys_get_the_pin_with_their_keys() {
    let bench = Bench::new();
    let team = packs_schema::base::name::TeamName::new("dba").unwrap();
    delegate(&bench.access(), &team, &demo(), &TeamKeys::New(bench.at("dba"), None), None).unwrap();
    rotate(&bench, "new");
    for keys in ["dba", "new"] {
        status(&View::pinned(bench.at("repo"), bench.at(keys))).unwrap();
    }
    for key in ["snapshot.pem", "timestamp.pem"] {
        fs::copy(bench.at("new").join(key), bench.at("dba").join(key)).unwrap();
    }
    publish(&PublishOptions { keys: bench.at("dba"), ..bench.options("prod") }).unwrap();
    pause(&Access::new(bench.at("repo"), bench.at("dba")), &demo(), &name("prod"), true).unwrap();
}

#[test]
fn pin_and_marks_are_kept_elsewhere_when_asked() {
    let bench = Bench::new();
    let before = snapshot(&bench.at("keys"));
    let options = PublishOptions { state: Some(bench.at("state")), ..bench.options("dev") };
    publish(&options).unwrap();
    assert_eq!(snapshot(&bench.at("keys")), before, "the keys' directory may not be writable");
    assert!(bench.at("state/marks.json").exists());
    copy_tree(&bench.at("repo"), &bench.at("copy"));
    bench.version("1.1.0");
    publish(&options).unwrap();
    fs::remove_dir_all(bench.at("repo")).unwrap();
    copy_tree(&bench.at("copy"), &bench.at("repo"));
    assert!(matches!(publish(&options).unwrap_err(), RepoError::Trust(PinError::Older { .. })));
    // A file where the directory would be: nothing is signed that could not be noted.
    fs::write(bench.at("file"), "").unwrap();
    let nowhere = PublishOptions { state: Some(bench.at("file")), ..bench.options("dev") };
    let before = snapshot(&bench.at("repo"));
    publish(&nowhere).unwrap_err();
    assert_eq!(snapshot(&bench.at("repo")), before);
}
