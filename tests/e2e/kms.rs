//! Repository keys that stay in a key service: what they sign is taken by agents, and what they do not sign is not written.

use bolt_client::local::LocalAgent;
use bolt_tests::kms::{ALIAS, KEY, Kms, RSA};
use bolt_tests::{CommandOutput, PackSource, World, spec};

use crate::calls::until;

fn active(agent: &LocalAgent) -> Option<String> {
    let link = std::fs::read_link(agent.directory().join("packs/probe/current")).ok()?;
    Some(link.to_string_lossy().rsplit_once('-')?.0.to_owned())
}

#[tokio::test]
async fn a_key_service_signs_for_roles() {
    let world = World::empty();
    let service = Kms::start(&world.scratch("kms"));
    let at = |name: &str| world.path().join(name).display().to_string();
    let (repo, keys) = (at("packs"), at("keys-of-packs"));
    let endpoint = service.endpoint();
    let bolt = |arguments: &[&str], endpoint: &str| {
        CommandOutput::from(world.bolt(&[]).command(arguments).env("AWS_ENDPOINT_URL_KMS", endpoint).output().unwrap())
    };
    let good = |arguments: &[&str]| {
        let said = bolt(arguments, &endpoint);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said
    };
    for (role, arn, code, words) in [
        ("targets", RSA, 5, "a key of a repository is ECC_NIST_P256"),
        ("targets", &KEY.replace("1234", "9999"), 5, "not authorized"),
        ("targets", "1234abcd", 2, "is no ARN of a key in KMS"),
        ("publisher", KEY, 2, "a role is root, targets, snapshot, timestamp"),
    ] {
        let said = bolt(&["repo", "kms-key", role, arn, "--keys", &keys], &endpoint);
        assert!(said.code == code && said.stderr.contains(words), "{role} {arn}: {said:?}");
    }
    let said = good(&["repo", "kms-key", "targets", ALIAS, "--keys", &keys]);
    assert_eq!(said.stdout.trim(), format!("{keys}/targets.kms"));
    let file = std::fs::read_to_string(said.stdout.trim()).unwrap();
    assert!(file.contains(KEY) && !file.contains("alias"), "an alias could be another key tomorrow: {file}");
    good(&["repo", "kms-key", "root", KEY, "--keys", &keys]);
    let made = good(&["repo", "init", &repo, "--keys", &keys, "--plain-keys"]);
    assert!(made.stdout.contains("targets.kms") && made.stdout.contains("snapshot.pem"), "{made:?}");
    assert!(!std::path::Path::new(&format!("{keys}/targets.pem")).exists());

    let pack =
        |version: &str| PackSource::probe().version(version).write(&world.scratch("sources")).display().to_string();
    let access = ["--repo", &repo, "--keys", &keys];
    good(&[&["repo", "publish", &pack("1.0.0"), "--channel", "prod"], &access[..]].concat());
    let agent = spec("i-1").set("repository", "url", format!("file://{repo}"));
    let agent = world.start(&agent.set("repository", "poll", "1s"));
    std::fs::copy(format!("{repo}/metadata/1.root.json"), agent.directory().join("etc/root.json")).unwrap();
    until("what the service signed", async || active(&agent).as_deref() == Some("1.0.0")).await;

    // Without the service nothing is signed, and nothing is written.
    let timestamp = || std::fs::read(format!("{repo}/metadata/timestamp.json")).unwrap();
    let before = timestamp();
    let next = pack("1.1.0");
    let publish = [&["repo", "publish", &next, "--channel", "prod"], &access[..]].concat();
    let said = bolt(&publish, "http://127.0.0.1:1");
    assert!(said.code == 5 && said.stderr.contains(KEY), "it names the key: {said:?}");
    assert_eq!(timestamp(), before);
    // Out of the service, by the root that is in it.
    good(
        &[&["repo", "rotate-root", "--replace", "targets", "--new-keys", &at("new"), "--plain-keys"], &access[..]]
            .concat(),
    );
    std::fs::remove_file(format!("{keys}/targets.kms")).unwrap();
    std::fs::copy(at("new/targets.pem"), format!("{keys}/targets.pem")).unwrap();
    assert_eq!(bolt(&publish, "http://127.0.0.1:1").code, 0, "the targets' key is a file now");
    until("what the file signed", async || active(&agent).as_deref() == Some("1.1.0")).await;
}
