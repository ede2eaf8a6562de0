//! Errors of the real `bolt`, with exit codes, where no agent and no repository is needed to get them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::session::session;

/// A home directory, with client.toml, an inventory of two and certificates of their own authority if `configured`.
fn home(configured: bool) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    if configured {
        let made = session(
            home.path(),
            &["bolt pki init ca", "bolt pki issue --ca ca client spiffe://example.org/oncall --out me"],
        );
        assert_eq!(made.matches("[exit 0]").count(), 2, "{made}");
        let directory = home.path().join(".config/bolt");
        fs::create_dir_all(&directory).unwrap();
        let (certificate, key) = (file(home.path(), "me", ".pem"), file(home.path(), "me", ".key"));
        let config = format!(
            "certificate = \"{certificate}\"\nkey = \"{key}\"\nca = \"{0}/ca/ca.pem\"\ninventory = \"{0}/hosts.toml\"\n",
            home.path().display()
        );
        fs::write(directory.join("client.toml"), config).unwrap();
        let instance = |id: &str, host: &str, zone: &str| {
            format!("[[instances]]\nid = \"{id}\"\naddress = \"{host}:1\"\nregion = \"eu-west-1\"\nzone = \"{zone}\"\n")
        };
        let hosts = instance("i-0a11", "127.0.0.1", "eu-west-1a") + &instance("i-0b21", "127.0.0.2", "eu-west-1b");
        fs::write(home.path().join("hosts.toml"), hosts).unwrap();
    }
    home
}

/// The one file below `directory` whose name ends so.
fn file(home: &Path, directory: &str, end: &str) -> String {
    let mut entries = fs::read_dir(home.join(directory)).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.to_string_lossy().ends_with(end)).unwrap().display().to_string()
}

#[test]
fn nothing_is_configured() {
    let home = home(false);
    let lines = [
        "bolt",
        "bolt ps",
        "bolt run linux.disk_usage --everywhere",
        "bolt --config gone.toml ps",
        "bolt config show",
        "bolt repo status",
        "bolt repo publish pack",
        "bolt demo --stop gone",
    ];
    insta::assert_snapshot!(session(home.path(), &lines));
}

#[test]
fn the_command_line_is_wrong() {
    let home = home(true);
    let lines = [
        "bolt rum",
        "bolt run",
        "bolt run linux",
        "bolt run linux.disk_usage",
        "bolt run linux.disk_usage --nope",
        "bolt run linux.disk_usage path",
        "bolt run linux.disk_usage --on i-9",
        "bolt run linux.disk_usage --on i-9*",
        "bolt run linux.disk_usage --where zone==",
        "bolt run linux.disk_usage --where zone=='nowhere'",
        "bolt run linux.disk_usage --everywhere --batch 0",
        "bolt run linux.disk_usage --everywhere --max-failures 200%",
        "bolt run linux.disk_usage --everywhere --timeout soon",
        "bolt run linux.disk_usage@one --everywhere",
        "bolt ps --since tomorrow",
        "bolt ps --since 25:00",
        "bolt ps --state sleeping",
        "bolt show zzz",
        "bolt kill",
        "bolt logs",
        "bolt wait",
        "bolt can-i fly linux.disk_usage",
        "bolt completions tcsh",
        "bolt man nothing",
        "bolt pack diff",
        "bolt repo promote",
        "bolt pki issue",
    ];
    insta::assert_snapshot!(session(home.path(), &lines));
}

#[test]
fn files_are_missing_or_wrong() {
    let home = home(true);
    fs::write(home.path().join("broken.toml"), "certificat = 1\n").unwrap();
    fs::write(home.path().join("broken-hosts.toml"), "[[instances]]\nid = \"i 1\"\naddress = \"x\"\n").unwrap();
    fs::write(home.path().join("empty.toml"), "").unwrap();
    fs::write(home.path().join("open.key"), "").unwrap();
    fs::set_permissions(home.path().join("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(home.path().join("pack")).unwrap();
    let lines = [
        "bolt --config broken.toml ps",
        "bolt --inventory gone.toml instances",
        "bolt --inventory broken-hosts.toml instances",
        "bolt --inventory empty.toml instances",
        "bolt --cert gone.pem ps",
        "bolt --key open.key ps",
        "bolt --ca hosts.toml ps",
        "bolt run linux.disk_usage --everywhere --params-file gone.json",
        "bolt pack lint pack",
        "bolt pack lint gone",
        "bolt pack build pack",
        "bolt pack test pack uptime",
        "bolt pack new .",
        "bolt pki init ca",
        "bolt pki issue --ca gone instance i-1 --out x",
        "bolt repo init repo --keys gone/keys",
        "bolt repo status --repo gone",
        "bolt repo publish pack --repo gone --keys gone",
        "bolt repo log --repo gone",
    ];
    insta::assert_snapshot!(session(home.path(), &lines));
}

#[test]
fn what_a_file_holds_is_not_replaced_by_something_else() {
    let home = home(true);
    let lines = [
        "bolt pki crl --ca ca --out ca/ca.key",
        "bolt pki crl --ca ca --out ca/ca.pem",
        "bolt pki crl --ca ca --out ca/ca.journal",
        "bolt pki crl --ca ca --out me/oncall.key",
        "bolt pki crl --ca ca --out hosts.toml",
        "bolt pki renew me/oncall.pem --ca ca --new-key ca/ca.key",
        "bolt pki renew me/oncall.pem --ca ca --new-key hosts.toml",
        "bolt pki renew me/oncall.pem --ca ca --out ca/ca.crl",
        "bolt pki renew me/oncall.pem --ca ca --out hosts.toml",
        "bolt pki csr client spiffe://example.org/ann --out ann",
        "bolt pki sign ann/ann.csr --ca ca --name spiffe://example.org/ann --out ca/ca.crl",
        "bolt pki sign ann/ann.csr --ca ca --name spiffe://example.org/ann --out ca/ca.key",
        "bolt pki issue --ca me/oncall.pem client spiffe://example.org/ann --out ann",
        "bolt pki issue --ca ca client local://root --out ann",
        "bolt pki csr client local://root --out ann",
        "bolt pack new tools",
        "bolt pack build tools -o ca/ca.key",
    ];
    let key = fs::read(home.path().join("ca/ca.key")).unwrap();
    // The finger print of a new key is another one each time.
    let text = session(home.path(), &lines);
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("SHA-256 of the public key")).collect();
    insta::assert_snapshot!(kept.join("\n"));
    assert_eq!(fs::read(home.path().join("ca/ca.key")).unwrap(), key);
}

/// Nothing listens at the addresses of the inventory.
#[test]
fn no_instance_answers() {
    let home = home(true);
    let lines = [
        "bolt run linux.disk_usage --everywhere",
        "bolt ps",
        "bolt actions",
        "bolt packs",
        "bolt instances --check",
        "bolt show 6e1d4cf1b2aa",
        "bolt logs 6e1d4cf1b2aa --on i-0a11",
        "bolt kill 6e1d4cf1b2aa --on i-0a11 --yes",
        "bolt sync --on i-0a11",
        "bolt can-i run linux.disk_usage",
    ];
    insta::assert_snapshot!(session(home.path(), &lines));
}
