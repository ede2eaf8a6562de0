//! Whoever owns the storage, and has no key, tries to have publishers sign for him.

use tough::schema::{KeyHolder, Root, Signed};

use super::*;
use crate::repo::sign::sign;

/// Replaces the first root by one that lists the keys of an attacker beside those of the publisher, and publishes a pack of
/// the attacker under it: all of it verifies for whoever trusts the root that the repository holds.
pub(crate) fn take_over(bench: &Bench) {
    let (repository, keys) = (bench.at("repo"), bench.at("attacker"));
    init(&InitOptions::new(bench.at("attacker-repo"), &keys)).unwrap();
    let read = |path: PathBuf| serde_json::from_slice::<Signed<Root>>(&fs::read(path).unwrap()).unwrap().signed;
    let mut root = read(keys.join("root.json"));
    let publishers = read(repository.join("metadata/1.root.json"));
    root.keys.extend(publishers.keys);
    for (role, theirs) in publishers.roles {
        root.roles.get_mut(&role).unwrap().keyids.extend(theirs.keyids);
    }
    let allowed = root.roles[&RoleType::Root].clone();
    let (_, bytes, _) = block_on(async || {
        let mut ring = super::super::keys::KeyRing::new(&keys, &Unlock::Never);
        sign(root.clone(), &KeyHolder::Root(root.clone()), &allowed, "root", &mut ring).await
    })
    .unwrap();
    for path in [repository.join("metadata/1.root.json"), keys.join("root.json")] {
        fs::write(path, &bytes).unwrap();
    }
    pack::scaffold(&PackName::new("evil").unwrap(), pack::Template::Script, &bench.at("evil")).unwrap();
    let channels = vec![ChannelName::new("prod").unwrap()];
    let published = publish(&PublishOptions::new(bench.at("evil"), &repository, &keys, channels)).unwrap();
    assert!(published.new, "the attack works for whoever trusts the repository's own root");
}

/// A repository with something of everything that commands change.
pub(crate) fn in_use() -> Bench {
    let bench = Bench::new();
    bench.version("0.8.0");
    publish(&bench.options("dev")).unwrap();
    bench.version("0.9.0");
    publish(&bench.options("dev")).unwrap();
    bench.version("1.0.0");
    publish(&PublishOptions { percent: Some(10), ..bench.options("dev") }).unwrap();
    let (team, other) = (packs_schema::base::name::TeamName::new("dba").unwrap(), PackName::new("other").unwrap());
    let keys = TeamKeys::New(bench.at("dba"), None);
    delegate(&Access::new(bench.at("repo"), bench.at("keys")), &team, &other, &keys, None).unwrap();
    bench
}

#[test]
fn an_archive_is_not_published_to_a_repository_that_was_taken_over() {
    let bench = in_use();
    take_over(&bench);
    let before = snapshot(&bench.at("repo"));
    let built = pack::load(&bench.at("demo")).unwrap();
    let refused = publish_archive(&built.archive.to_vec().unwrap(), built.pack, &bench.options("prod")).unwrap_err();
    assert!(matches!(refused, RepoError::Tuf { .. }), "{refused}");
    assert_eq!(snapshot(&bench.at("repo")), before);
}

#[test]
fn a_look_verifies_from_the_pinned_root_or_says_that_it_does_not() {
    let bench = in_use();
    assert!(bench.status().verified);
    take_over(&bench);
    for refused in [status(&bench.view()).map(drop), log(&bench.view(), None, None).map(drop)] {
        assert!(matches!(refused.unwrap_err(), RepoError::Tuf { .. }));
    }
    let unverified = status(&View::unverified(bench.at("repo"))).unwrap();
    assert!(!unverified.verified && unverified.versions.iter().any(|version| version.pack.as_str() == "evil"));
}
