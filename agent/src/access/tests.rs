//! Grants in effect: what they permit, and what happens when the file changes.

use packs_schema::base::name::PackName;

use super::*;

const ONE: &str = "[[grant]]\nprincipal = \"spiffe://x/ann\"\nverbs = [\"run\"]\nactions = [\"linux.*\"]\nclasses = [\"diagnostic\"]\n";
/// A file without a grant.
const NONE: &str = "# none\n";

fn ann() -> Principal {
    Principal::new("spiffe://x/ann").unwrap()
}

/// Writes the file, with the mode that it must have.
fn put(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    site_file::replace(path, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

fn access(text: &str) -> (tempfile::TempDir, PathBuf, Arc<Health>, Access) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("grants.toml");
    put(&path, text);
    let health = Arc::new(Health::default());
    let access = Access::load(&path, health.clone()).unwrap();
    (dir, path, health, access)
}

#[test]
fn only_what_a_grant_covers_is_permitted() {
    let (_dir, _path, _health, access) = access(ONE);
    assert!(access.enter(ann(), &[Verb::Kill]).is_none());
    assert!(access.enter(Principal::new("spiffe://x/bob").unwrap(), &[Verb::Run]).is_none());
    let caller = access.enter(ann(), &[Verb::Run]).unwrap();
    let disk = ActionRef::new("linux.disk").unwrap();
    assert!(caller.may(&disk, Some(Class::Diagnostic)).is_some());
    assert!(caller.may(&disk, Some(Class::Remediation)).is_none());
    assert!(caller.may(&disk, None).is_none(), "a grant by class does not cover what has none");
    assert!(caller.could_cover(&disk));
    assert!(!caller.could_cover(&ActionRef::new("cassandra.x").unwrap()));
    assert!(!caller.is_granted(Verb::Read, &disk, Some(Class::Diagnostic)));
    let either = access.enter(ann(), &[Verb::Read, Verb::Run]).unwrap();
    assert_eq!(either.may(&disk, Some(Class::Diagnostic)).unwrap().verb(), Verb::Run);
}

#[test]
fn a_revoked_grant_is_gone_at_the_next_request() {
    let (_dir, path, _health, access) = access(ONE);
    assert!(access.enter(ann(), &[Verb::Run]).is_some());
    site_file::replace(&path, NONE);
    assert!(access.enter(ann(), &[Verb::Run]).is_none());
}

#[test]
fn a_file_that_is_written_in_place_takes_nothing_away_before_it_has_settled() {
    let (_dir, path, _health, access) = access(ONE);
    let is_allowed = || access.enter(ann(), &[Verb::Run]).is_some();
    let in_time = (0..50).any(|_| {
        let began = std::time::Instant::now();
        std::fs::write(&path, "").unwrap();
        let allowed = is_allowed();
        std::fs::write(&path, ONE).unwrap();
        // On a host that stops for so long the content has settled.
        let in_time = began.elapsed() < std::time::Duration::from_millis(250);
        assert!(allowed || !in_time, "a part of a file was taken for the whole");
        in_time
    });
    assert!(in_time, "this host is too slow for the test");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    std::fs::write(&path, "").unwrap();
    while is_allowed() {
        assert!(std::time::Instant::now() < deadline, "the content that stays comes into effect");
        std::thread::yield_now();
    }
}

#[test]
fn a_broken_file_refuses_the_start_and_keeps_previous_grants_in_effect() {
    let (dir, path, health, access) = access(ONE);
    site_file::replace(&path, "[[grunt]]");
    assert!(access.enter(ann(), &[Verb::Run]).is_some());
    assert!(health.has(BROKEN));
    assert!(Access::load(&path, health.clone()).is_err());
    assert!(Access::load(&dir.path().join("none.toml"), health.clone()).is_err());
    site_file::replace(&path, ONE);
    assert!(access.enter(ann(), &[Verb::Run]).is_some());
    assert!(!health.has(BROKEN));
}

#[test]
fn a_file_that_could_not_be_read_is_read_again_although_it_does_not_change() {
    let (_dir, path, health, access) = access(ONE);
    site_file::replace(&path, b"\xff");
    access.check_for_changes();
    assert!(health.has(BROKEN) && access.lock().is_unread);
    // As after a read for which no descriptor was free.
    site_file::replace(&path, NONE);
    access.lock().stamp = Stamp::of(&path);
    assert!(access.enter(ann(), &[Verb::Run]).is_some(), "previous grants remain in effect");
    access.check_for_changes();
    assert!(access.enter(ann(), &[Verb::Run]).is_none());
    assert!(!health.has(BROKEN) && !access.lock().is_unread);
}

#[test]
fn a_file_that_others_may_change_grants_nothing_new() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, path, health, access) = access("");
    site_file::replace(&path, ONE);
    for mode in [0o664, 0o646] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(Access::load(&path, health.clone()), Err(AccessError::Trust(_))));
    }
    assert!(access.enter(ann(), &[Verb::Run]).is_none());
    assert!(health.has(BROKEN));
    put(&path, ONE);
    assert!(access.enter(ann(), &[Verb::Run]).is_some());
}

#[test]
fn a_grant_on_facts_is_in_effect_once_they_are_known_and_fit() {
    let text = format!("{ONE}where = 'region == \"r\"'\n");
    let (_dir, path, _health, access) = access(&text);
    let mut changed = access.changed();
    assert!(access.enter(ann(), &[Verb::Run]).is_none(), "the facts are unknown");
    let facts = |region: &str| Facts {
        region: region.to_owned(),
        ..Facts::of(packs_schema::base::name::InstanceId::new("i-1").unwrap())
    };
    access.set_facts(Some(facts("s")));
    assert!(access.enter(ann(), &[Verb::Run]).is_none());
    assert!(!changed.has_changed().unwrap());
    access.set_facts(Some(facts("r")));
    assert!(access.enter(ann(), &[Verb::Run]).is_some());
    assert!(changed.has_changed().unwrap(), "requests in progress are checked again");
    changed.mark_unchanged();
    // The facts remain known when the file changes.
    site_file::replace(&path, text.replace("linux.*", "cassandra.*"));
    assert!(access.enter(ann(), &[Verb::Run]).is_some());
    access.set_facts(Some(facts("s")));
    assert!(access.enter(ann(), &[Verb::Run]).is_none());
}

#[test]
fn a_permit_needs_values_that_the_grant_allows() {
    let text = format!("{ONE}parameters = {{ k = {{ enum = [\"a\"] }} }}\n");
    let (_dir, _path, _health, access) = access(&text);
    let caller = access.enter(ann(), &[Verb::Run]).unwrap();
    let disk = ActionRef::new("linux.disk").unwrap();
    let values = |text: &str| Map::from_iter([("k".to_owned(), Value::from(text))]);
    assert!(caller.covers(&disk, Some(Class::Diagnostic)), "it is visible");
    assert!(caller.may(&disk, Some(Class::Diagnostic)).is_none(), "no permit without values");
    assert!(caller.may_run(&disk, Class::Diagnostic, &values("a")).is_ok());
    let required = caller.may_run(&disk, Class::Diagnostic, &values("b")).unwrap_err();
    assert_eq!(required, "grant 1 of grants.toml (line 1): k must fit {\"enum\":[\"a\"]}");
    assert!(!caller.covers_pack(&PackName::new("linux").unwrap()));
    for (given, allowed) in [(Some("a"), true), (Some("b"), false), (None, false)] {
        let given = given.map(values).unwrap_or_default();
        assert_eq!(access.lets_run(&ann(), &disk, Some(Class::Diagnostic), &given), allowed);
    }
}
