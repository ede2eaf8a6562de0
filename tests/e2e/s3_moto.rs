//! The main scenario against an independent implementation of S3: moto's server, from PyPI.
//!
//! `.ci/run` installs it and sets `BOLT_MOTO_SERVER`; without it the test says that it was skipped.

use bolt_tests::bucket::follow;
use bolt_tests::http::Call;
use bolt_tests::{Bolt, Moto, PackSource, World, skip, spec};
use packs_schema::agent::rest::PackList;

use crate::calls::until;

#[tokio::test]
async fn what_is_published_is_taken_and_what_is_new_is_seen() {
    let Some(moto) = Moto::start() else {
        return skip(
            "s3_moto::what_is_published_is_taken_and_what_is_new_is_seen",
            "BOLT_MOTO_SERVER names no moto_server",
        );
    };
    moto.put("/packs", b"");
    let world = World::empty();
    let bolt = Bolt::new(&world.site.client_config());
    let endpoint = moto.endpoint();
    let reach = ["--endpoint", &endpoint, "--bucket-region", "us-east-1", "--path-style"];
    let repo = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().chain(&reach).copied().collect();
        let said = bolt.run(all);
        assert_eq!(said.code, 0, "{said:?}");
        said
    };
    let other = world.path().join("other-keys").display().to_string();
    repo(&["repo", "init", "s3://packs/another", "--keys", &other, "--plain-keys"]);
    let (metadata, keys) = (world.site.repository().join("metadata"), world.site.keys().display().to_string());
    for name in ["1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json"] {
        moto.put(&format!("/packs/bolt/metadata/{name}"), &std::fs::read(metadata.join(name)).unwrap());
    }
    let publish = |version: &str| {
        let source = PackSource::probe().version(version).write(&world.scratch("sources")).display().to_string();
        repo(&["repo", "publish", &source, "--repo", "s3://packs/bolt", "--keys", &keys, "--channel", "prod"]);
    };
    publish("1.0.0");
    let spec = follow(spec("i-1"), "s3://packs/bolt", &endpoint).set("repository", "poll", "1s");
    let agent = world.start(&spec);
    let operator = world.operator(&agent);
    let version = async || {
        let packs: PackList = operator.send(Call::get("/v1/packs")).await.json();
        packs.items.first().and_then(|pack| Some(pack.version.as_ref()?.to_string()))
    };
    assert_eq!(version().await.as_deref(), Some("1.0.0"), "{:?}", agent.sync_status());
    let polls = || agent.sync_status().unwrap().polls;
    let before = polls();
    publish("1.1.0");
    until("the new version", async || version().await.as_deref() == Some("1.1.0")).await;
    // A poll writes its status after it has activated the version.
    until("the status of that poll", async || polls() > before).await;
    let with_changes = polls();
    let ended = || std::fs::read(agent.directory().join("run/sync.json")).unwrap();
    let first = ended();
    until("another poll", async || ended() != first).await;
    assert_eq!(polls(), with_changes, "a poll that is answered with 304 does not write its status");
}
