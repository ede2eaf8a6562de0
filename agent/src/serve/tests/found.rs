//! Problems that the agent finds by itself, at the start and while it runs.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Waits until health has the code, or no longer has it; returns the whole response.
async fn health(api: &Api, ann: &Identity, code: &str, there: bool) -> String {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let answer = api.ask(Some(ann), "GET", "/v1/health", "").await.unwrap();
        if answer.contains(&format!("\"{code}\"")) == there {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{code} {there}: {answer}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn lax_modes_close_the_interface_and_are_reported_while_running() {
    for (name, mode) in [("ca.pem", 0o666), ("grants.toml", 0o664), ("server.key", 0o644)] {
        let said = local::health_of_closed(|dir| set_mode(&dir.join(name), mode)).await;
        assert!(said.contains(&format!("/{name}")) && said.contains("chmod"), "{said}");
        let said = local::health_of_closed(|dir| set_mode(dir, 0o777)).await;
        assert!(said.contains("may be changed by others (mode 0777)"), "{name}: {said}");
    }
    let api = Api::start().await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    std::fs::write(api.dir.path().join("root.json"), "{}").unwrap();
    for (name, mode, code) in [
        ("ca.pem", 0o666, "tls_invalid"),
        ("server.key", 0o644, "tls_invalid"),
        ("grants.toml", 0o646, "grants_invalid"),
        ("root.json", 0o664, "root_untrusted"),
        ("", 0o777, "tls_invalid"),
        ("", 0o777, "grants_invalid"),
    ] {
        let path = api.dir.path().join(name);
        set_mode(&path, mode);
        let answer = health(&api, &ann, code, true).await;
        assert_eq!(status(&answer), 200, "what was read before remains in effect: {answer}");
        set_mode(&path, if name.is_empty() { 0o755 } else { mode & 0o600 });
        health(&api, &ann, code, false).await;
    }
    api.stop().await;
}

#[tokio::test]
async fn an_anchor_of_the_agents_own_account_is_refused() {
    // Root runs this test, so that only the owner differs.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    for name in ["ca.pem", "grants.toml"] {
        let change = |dir: &Path| std::os::unix::fs::chown(dir.join(name), Some(64_100), None).unwrap();
        let said = local::health_of_closed(change).await;
        assert!(said.contains(name) && said.contains("belongs to user 64100"), "{said}");
    }
}

#[tokio::test]
async fn an_agent_that_its_certificate_does_not_name_is_not_ready() {
    let names = |id: &str| [format!("bolt://instance/{id}"), "dns:localhost".to_owned()];
    let issue = |issuer: &Authority, id: &str| leaf(issuer, &names(id).each_ref().map(String::as_str), |_| {});
    let api = Api::start_changed(|config, issuer| {
        let issued = issue(issuer, "i-2");
        std::fs::write(&config.tls.certificate, issued.certificate).unwrap();
        write_private(&config.tls.key, &issued.key);
    })
    .await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let answer = health(&api, &ann, "certificate_wrong", true).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("i-2") && answer.contains("this is i-1"), "{answer}");
    // Fixed while the agent runs.
    let good = issue(&api.issuer, "i-1");
    write_private(&api.dir.path().join("server.key"), &good.key);
    std::fs::write(api.dir.path().join("server.pem"), good.certificate).unwrap();
    assert_eq!(status(&health(&api, &ann, "certificate_wrong", false).await), 200);
    api.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_does_not_replace_a_valid_one() {
    let api = Api::start().await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let names = ["bolt://instance/i-1", "dns:localhost"];
    let expired = leaf(&api.issuer, &names, |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let put = |identity: &Identity| {
        write_private(&api.dir.path().join("server.key"), &identity.key);
        std::fs::write(api.dir.path().join("server.pem"), &identity.certificate).unwrap();
    };
    put(&expired);
    let answer = health(&api, &ann, "tls_invalid", true).await;
    assert!(status(&answer) == 200 && answer.contains("expired at 2020-01-01T00:00:00Z"), "{answer}");
    // A certificate that expires soon is accepted, and reported.
    let soon = leaf(&api.issuer, &names, |params| {
        params.not_before = time::OffsetDateTime::now_utc() - std::time::Duration::from_secs(90 * 86_400);
        params.not_after = time::OffsetDateTime::now_utc() + std::time::Duration::from_secs(86_400);
    });
    put(&soon);
    let answer = health(&api, &ann, "certificate_expiring", true).await;
    assert!(status(&answer) == 200 && !answer.contains("tls_invalid"), "{answer}");
    let metrics = api.ask(Some(&ann), "GET", "/v1/metrics", "").await.unwrap();
    assert!(metrics.contains("bolt_health_problem{code=\"certificate_expiring\"} 1"), "{metrics}");
    assert!(metrics.contains("bolt_certificate_ends_seconds "), "{metrics}");
    api.stop().await;
}

#[tokio::test]
async fn a_configuration_that_the_next_start_would_refuse_is_reported() {
    const GOOD: &str = "[instance]\nid = \"i-1\"\n";
    let api = Api::start_with(|dir| std::fs::write(dir.join("agent.toml"), text(dir)).unwrap()).await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let path = api.dir.path().join("agent.toml");
    health(&api, &ann, "config_invalid", false).await;
    let good = text(api.dir.path());
    let misspelt = good.replace("listen =", "listne =");
    let broken: [(&str, &dyn Fn()); 4] = [
        ("listne", &|| std::fs::write(&path, &misspelt).unwrap()),
        ("is wrong", &|| std::fs::write(&path, GOOD).unwrap()),
        ("chmod", &|| set_mode(&path, 0o666)),
        ("cannot", &|| std::fs::remove_file(&path).unwrap()),
    ];
    for (reason, breaks) in broken {
        breaks();
        let answer = health(&api, &ann, "config_invalid", true).await;
        assert_eq!(status(&answer), 200, "the running agent is not affected: {answer}");
        for part in [reason, "agent.toml", "its next start is refused"] {
            assert!(answer.contains(part), "{part}: {answer}");
        }
        let metrics = api.ask(Some(&ann), "GET", "/v1/metrics", "").await.unwrap();
        assert!(metrics.contains("bolt_health_problem{code=\"config_invalid\"} 1"), "{metrics}");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, &good).unwrap();
        health(&api, &ann, "config_invalid", false).await;
    }
    api.stop().await;
}

#[tokio::test]
async fn an_agent_that_lacks_required_limits_is_not_ready() {
    let file = "run/enforcement.json";
    let enforcement = |cpu: bool| {
        let json = format!(
            r#"{{"cgroups": "v1", "memory": true, "cpu": {cpu}, "pids": true, "cgroup_kill": false, "run_as": true, "required": true}}"#
        );
        // At once: an agent that looks in between must not read a half of it.
        move |dir: &Path| {
            std::fs::write(dir.join("new"), &json).unwrap();
            std::fs::rename(dir.join("new"), dir.join(file)).unwrap();
        }
    };
    let api = Api::start_with(|dir| {
        std::fs::create_dir(dir.join("run")).unwrap();
        enforcement(false)(dir);
    })
    .await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let answer = health(&api, &ann, "limits_unavailable", true).await;
    assert!(status(&answer) == 503 && answer.contains("none for cpu"), "{answer}");
    // The launcher writes the file again when it is restarted.
    enforcement(true)(api.dir.path());
    assert_eq!(status(&health(&api, &ann, "limits_unavailable", false).await), 200);
    api.stop().await;
}
