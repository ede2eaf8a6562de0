//! Environment variables with invalid values: an error that names the variable, never its value, and
//! before anything is asked of anybody.

use std::process::Command;

use bolt_client::local::binary;
use bolt_tests::{CommandOutput, PackSource, World, spec};
use serde_json::json;

use crate::s3::cannot;

const CANARY: &str = "canary3b9f";

/// Each variable that a bucket is reached by, with a value that nothing understands.
const WRONG: [(&str, &str); 32] = [
    ("AWS_MAX_ATTEMPTS", "canary3b9f"),
    ("AWS_RETRY_MODE", "canary3b9f"),
    ("AWS_EC2_METADATA_DISABLED", "canary3b9f"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "canary3b9f"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "canary3b9f"),
    ("AWS_USE_FIPS_ENDPOINT", "canary3b9f"),
    ("AWS_USE_DUALSTACK_ENDPOINT", "canary3b9f"),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "canary3b9f"),
    ("AWS_ENDPOINT_URL", "canary3b9f"),
    ("AWS_ENDPOINT_URL_S3", "canary3b9f"),
    ("AWS_ENDPOINT_URL_KMS", "canary3b9f"),
    ("AWS_REGION", "canary3b9f.example"),
    ("AWS_DEFAULT_REGION", "canary3b9f.example"),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", "canary3b9f"),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", "canary3b9f"),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "canary3b9f"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "canary3b9f"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary3b9f\n"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/canary3b9f"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "/canary3b9f"),
    ("AWS_CONFIG_FILE", "/canary3b9f"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/canary3b9f"),
    ("AWS_PROFILE", "canary3b9f\n"),
    ("AWS_ACCESS_KEY_ID", "canary3b9f\n"),
    ("AWS_SECRET_ACCESS_KEY", "canary3b9f\n"),
    ("HTTP_PROXY", "http://u:canary3b9f#@127.0.0.1:9"),
    ("https_proxy", "socks5://canary3b9f:9"),
    ("NO_PROXY", "*.canary3b9f"),
    ("no_proxy", "10.0.0.0/8 canary3b9f"),
    ("SSL_CERT_FILE", "/canary3b9f"),
    ("SSL_CERT_DIR", "/canary3b9f"),
    ("AWS_CA_BUNDLE", "/canary3b9f"),
];

#[test]
fn a_publisher_s_variable_that_is_not_understood_is_named_and_nothing_is_asked() {
    let world = World::with_bucket();
    let bolt = world.bolt(&[]);
    let (location, keys) = (world.bucket().location("bolt"), world.site.keys().display().to_string());
    let before = world.bucket().mark();
    for (name, value) in WRONG {
        let mut commands = vec![bolt.command(["repo", "status", "--repo", &location])];
        if name == "NO_PROXY" {
            commands.push(bolt.command(["repo", "refresh", "--repo", &location, "--keys", &keys, "--json"]));
        }
        for mut command in commands {
            let said = CommandOutput::from(command.env(name, value).output().unwrap());
            let all = format!("{}{}", said.stdout, said.stderr);
            assert_eq!(said.code, 2, "{name}: {said:?}");
            assert!(all.contains(name) && all.contains("is invalid: "), "{name}: {said:?}");
            assert!(!all.contains(CANARY), "{name}: {said:?}");
        }
    }
    assert_eq!(world.bucket().since(before).requests, [], "something was asked");
    // A directory is reached without any of them.
    let directory = world.site.repository().display().to_string();
    let said = CommandOutput::from(
        bolt.command(["repo", "status", "--repo", &directory]).env("AWS_MAX_ATTEMPTS", CANARY).output().unwrap(),
    );
    assert_eq!(said.code, 0, "{said:?}");
}

#[tokio::test]
async fn an_agent_s_variable_that_is_not_understood_fails_the_poll_by_name() {
    let world = World::with_bucket();
    let before = world.bucket().mark();
    for (number, (name, value)) in
        [("NO_PROXY", "*.canary3b9f"), ("AWS_USE_FIPS_ENDPOINT", "canary3b9f"), ("SSL_CERT_FILE", "/canary3b9f")]
            .into_iter()
            .enumerate()
    {
        let agent = world.start(&spec(&format!("i-{number}")).env(name, value));
        let said = cannot(&world, &agent).await;
        assert!(said.contains(name) && said.contains("is invalid: ") && !said.contains(CANARY), "{said}");
        let log = std::fs::read_to_string(agent.log()).unwrap();
        assert!(log.contains(name) && !log.contains(CANARY), "{log}");
    }
    assert_eq!(world.bucket().since(before).requests, [], "something was asked");
}

fn launcher(name: &str, value: &str) -> CommandOutput {
    bolt_tests::binaries();
    let mut command = Command::new(binary("bolt-launch").unwrap());
    command.args(["serve", "--config", "/nonexistent/agent.toml"]).env(name, value);
    CommandOutput::from(command.output().unwrap())
}

#[test]
fn the_launcher_starts_with_no_level_that_it_does_not_know() {
    let said = launcher("BOLT_LOG", CANARY);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("BOLT_LOG is invalid") && !said.stderr.contains(CANARY), "{said:?}");
    let said = launcher("BOLT_LOG_FORMAT", CANARY);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("BOLT_LOG_FORMAT is invalid") && !said.stderr.contains(CANARY), "{said:?}");
    let said = launcher("BOLT_LOG_FORMAT", "json");
    let last: serde_json::Value = serde_json::from_str(said.stderr.lines().last().unwrap()).unwrap();
    assert!(last["level"] == "error" && last["reason"].as_str().unwrap().contains("agent.toml"), "{said:?}");
    // Others it names, and goes on to what it is asked for.
    let said = launcher("BOLT_LOGS", CANARY);
    assert!(said.stderr.contains("name=BOLT_LOGS nearest=BOLT_LOG"), "{said:?}");
    let said = launcher("AWS_ENDPOINT_URL", CANARY);
    assert!(
        said.stderr.contains("AWS_ENDPOINT_URL")
            && said.stderr.contains("environment variables have no effect")
            && !said.stderr.contains(CANARY),
        "{said:?}"
    );
}

#[test]
fn a_misspelt_variable_of_bolt_s_own_is_told_with_the_nearest_name() {
    let world = World::empty();
    let bolt = world.bolt(&[]);
    let said = |variables: &[(&str, &str)]| {
        let repository = world.site.repository().display().to_string();
        let mut command = bolt.command(["repo", "status", "--repo", &repository]);
        CommandOutput::from(command.envs(variables.iter().copied()).output().unwrap())
    };
    let wrong = said(&[("BOLT_KEY_PASSPRASE", CANARY)]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.stderr.contains("BOLT_KEY_PASSPRASE") && wrong.stderr.contains("did you mean BOLT_KEY_PASSPHRASE"));
    assert!(!wrong.stderr.contains(CANARY), "{wrong:?}");
    let other = said(&[("BOLT_PROJECT", CANARY)]);
    assert!(other.code == 2 && other.stderr.contains("unknown variable BOLT_PROJECT"), "{other:?}");
    assert!(!other.stderr.contains(CANARY), "{other:?}");
    // A later release's launcher may set variables that this `bolt` does not know.
    let in_action = said(&[("BOLT_PROJECT", CANARY), ("BOLT_EXECUTION_ID", "x")]);
    assert!(in_action.code == 0 && in_action.stderr.contains("BOLT_PROJECT has no effect"), "{in_action:?}");
    assert_eq!(said(&[]).code, 0);
}

#[tokio::test]
async fn an_action_may_call_bolt() {
    let world = World::empty();
    let bolt = binary("bolt").unwrap();
    let script = format!("#!/bin/sh\n{} pack lint /nonexistent 2>&1\nenv | grep -c ^BOLT_\n", bolt.display());
    let yaml = "parameters: {word: {type: string, default: x}}\nbolt: {class: diagnostic}";
    world.publish(&PackSource::new("inner", "1.0.0").action("call", yaml, &script));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let ran = operator.run("inner.call", json!({})).await;
    let said = operator.stdout(&ran).await;
    let count: usize = said.lines().last().and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!(count > 5 && said.contains("/nonexistent") && !said.contains("environment variable"), "{said}");
}
